"""The parts that grow: each is opened on a folder, takes units (saves, pins, users, ...) and answers one question.

Every unit is drawn evenly, so n units are n different ones; a question is of the same size at every n.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from aperture import layout as aperture_layout
from aperture.store import ApertureStore
from apiary import layout as apiary_layout
from apiary.store import ApiaryStore
from bench.counters import Increments
from counters import layout as counters_layout
from counters.store import CountersStore
from features.pins import INTERESTS, KEPT
from pixie import kernel
from pixie.build import Edges, build
from pixie.store import PixieStore, Question
from polaris import layout as polaris_layout
from polaris.client import BOARD
from polaris.kernel import Light
from polaris.store import Limits, PolarisStore, Sources, Wanted
from realpin import layout as realpin_layout
from realpin.store import RealpinStore
from rockstore import layout as rockstore_layout
from rockstore.store import RockstoreStore
from scorpion.cache import PinCache, row_bytes
from services.core.clock import wall_clock
from services.core.columns import U64, Ragged, ids
from services.core.events import ENGAGEMENTS, Action, Batch, Kind, Surface, events
from services.core.topics import Topic
from services.kernels import bloom
from services.log.memory import MemoryLog
from services.log.protocol import Record
from services.state.shard import Shard
from smartfeed import layout as smartfeed_layout
from smartfeed.store import SmartfeedStore

PARTITIONS, CHUNK = 16, 20_000
OWN = range(PARTITIONS)
DAY_MS = 86_400_000
_AT_WORK = ("num-running-compactions", "num-running-flushes", "compaction-pending", "mem-table-flush-pending")


class Grown(Protocol):
    """A part that is open on a folder, for n units in the end. making: the time that it took to make the units up."""

    making: "Making"

    def add(self, start: int, stop: int) -> None: ...

    def ask(self, i: int) -> object: ...

    def close(self) -> None: ...


class Making:
    """Seconds of CPU that this thread spent making units up, which is no cost of the part."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """The block makes units up."""
        began = time.thread_time()
        yield
        self.seconds += time.thread_time() - began


class View:
    """A view of the log: the events of units start to stop, or records that no client publishes, applied in chunks; a question
    of the store.
    """

    def __init__(
        self,
        folder: Path,
        layout: Any,
        topics: tuple[Topic, ...],
        open_store: Callable[[Shard], Any],
        made: Callable[[int, int], Batch | list[Record]],
        asked: Callable[[Any, int], object],
    ) -> None:
        self._shard = Shard(folder, layout.FORMAT, layout.FAMILIES)
        self._store, self._topics, self._made, self._asked = open_store(self._shard), topics, made, asked
        self._offsets, self.making = MemoryLog(PARTITIONS, retain=False), Making()
        self._families = layout.FAMILIES

    def add(self, start: int, stop: int) -> None:
        """Until RocksDB is at rest again: later compactions are a cost of these writes."""
        for first in range(start, stop, CHUNK):
            with self.making():
                made = self._made(first, min(first + CHUNK, stop))
                records = self._offsets.append(made, self._topics) if isinstance(made, Batch) else made
            if not records:
                raise AssertionError("nothing of this is on the topics of this view")
            self._store.apply(records)
        while self._at_work():
            time.sleep(0.05)

    def _at_work(self) -> bool:
        families = map(self._shard.family, self._families)
        return any(family.raw.property_int_value(f"rocksdb.{of}") for family in families for of in _AT_WORK)

    def ask(self, i: int) -> object:
        return self._asked(self._store, i)

    def close(self) -> None:
        self._shard.close()


def _drawn(n: int, start: int, stop: int, each: int, one_in: int = 1) -> tuple[U64, np.random.Generator]:
    """Owners of the units start to stop, `each` a unit's owner: n / one_in owners, in an order that is no order."""
    of = np.arange(start, stop, dtype=np.uint64) // np.uint64(each)
    owners = max(1, n // each // one_in)
    return of * np.uint64(2_654_435_761) % np.uint64(owners) + np.uint64(1), np.random.default_rng(start + 1)


def apiary(folder: Path, n: int) -> View:
    """Follows: 50 of each user."""

    def made(start: int, stop: int) -> Batch:
        users, rng = _drawn(n, start, stop, 50)
        size = stop - start
        return events(size, action=Action.FOLLOW_USER, user=users, target=rng.integers(1, n + 1, size),
                      at_ms=wall_clock(), id=np.arange(start, stop) + 1)  # fmt: skip

    users = max(1, n // 50)
    return View(folder, apiary_layout, (Topic.USERS,), lambda x: ApiaryStore(x, OWN, PARTITIONS), made,
                lambda store, i: store.followed(1 + i * 7919 % users))  # fmt: skip


def polaris(folder: Path, n: int) -> View:
    """Saves: 50 pins a board; the best of 100 boards."""
    boards = max(1, n // 50)

    def made(start: int, stop: int) -> Batch:
        owners, rng = _drawn(n, start, stop, 50)
        size = stop - start
        return events(size, action=Action.SAVE, user=1, board=owners, pin=rng.integers(1, n + 1, size),
                      at_ms=wall_clock() - rng.integers(0, 30 * DAY_MS, size), quality=rng.random(size),
                      id=np.arange(start, stop) + 1)  # fmt: skip

    nothing = np.empty(0, np.uint32)
    wanted = Wanted(np.ones(100, np.float32), nothing, k=500, per_source=0, now_ms=wall_clock(), max_age_ms=0)

    def asked(store: Any, i: int) -> object:
        some = np.random.default_rng(i).integers(1, boards + 1, 100).astype(np.uint64)
        return store.retrieve(Sources(np.full(100, BOARD, np.uint8), some), wanted)

    return View(folder, polaris_layout, (Topic.SOURCES,),
                lambda x: PolarisStore(x, PARTITIONS, Light(), Limits(64, 4096)), made, asked)  # fmt: skip


def _engagements(n: int, each: int) -> Callable[[int, int], Batch]:
    def made(start: int, stop: int) -> Batch:
        users, rng = _drawn(n, start, stop, each)
        size = stop - start
        actions = rng.choice(
            [Action.IMPRESSION, Action.CLOSEUP, Action.CLICK, Action.SAVE], size, p=[0.8, 0.1, 0.05, 0.05]
        )
        return events(size, action=actions, user=users, pin=rng.integers(1, 10_000_000, size),
                      at_ms=wall_clock() - rng.integers(0, 30 * DAY_MS, size), id=np.arange(start, stop) + 1)  # fmt: skip

    return made


def aperture(folder: Path, n: int) -> View:
    """Engagements: 500 of each user; the filter of the pins that one has seen."""
    users = max(1, n // 500)
    return View(folder, aperture_layout, (Topic.USERS,), lambda x: ApertureStore(x, OWN, PARTITIONS, wall_clock),
                _engagements(n, 500), lambda store, i: bloom.build(store.seen(1 + i * 7919 % users)))  # fmt: skip


def realpin(folder: Path, n: int) -> View:
    """Users, with 20 engagements each."""
    made = _engagements(n * 20, 20)
    return View(folder, realpin_layout, (Topic.USERS,), lambda x: RealpinStore(x, PARTITIONS, wall_clock),
                lambda start, stop: made(start * 20, stop * 20),
                lambda store, i: store.recent(1 + i * 7919 % n))  # fmt: skip


def numbered(text: bytes, numbers: U64) -> Ragged:
    """The text with each of these numbers behind it, of eight digits."""
    digits = numbers[:, None] // 10 ** np.arange(7, -1, -1, dtype=np.uint64) % 10 + ord("0")
    texts = np.broadcast_to(np.frombuffer(text, np.uint8), (len(numbers), len(text)))
    values = np.concatenate([texts, digits.astype(np.uint8)], axis=1)
    return Ragged(np.arange(1, len(numbers) + 1, dtype=np.uint32) * np.uint32(values.shape[1]), values.ravel())


def rockstore(folder: Path, n: int) -> View:
    """Pins, with title, link and two interests; the attributes of 500."""

    def made(start: int, stop: int) -> Batch:
        size, numbers = stop - start, np.arange(start, stop, dtype=np.uint64)
        pins = numbers + np.uint64(1)
        interests = np.stack([1 + numbers % 300, 1 + numbers % 77], axis=1).ravel()
        return events(size, action=Action.CREATE_PIN, user=pins, pin=pins, at_ms=wall_clock(), id=pins,
                      title=numbered(b"A pin with a title of its own, number ", numbers),
                      link=numbered(b"https://example.org/pins/", numbers),
                      interests=Ragged(np.arange(1, size + 1, dtype=np.uint32) * np.uint32(2), interests))  # fmt: skip

    def asked(store: Any, i: int) -> object:
        return store.attributes(int(Kind.PIN), np.random.default_rng(i).integers(1, n + 1, 500).astype(np.uint64))

    return View(folder, rockstore_layout, (Topic.OBJECTS,), lambda x: RockstoreStore(x, OWN, PARTITIONS), made, asked)


def smartfeed(folder: Path, n: int) -> View:
    """Users, with a page of 25 served to each; the last page of one."""

    def made(start: int, stop: int) -> Batch:
        users = np.repeat(np.arange(start, stop, dtype=np.uint64) + np.uint64(1), 25)
        size = len(users)
        pins = np.random.default_rng(start + 1).integers(1, 10_000_000, size)
        return events(size, action=Action.SERVED, user=users, pin=pins, board=1, surface=Surface.FOLLOWING,
                      position=np.arange(size, dtype=np.uint32) % 25, at_ms=wall_clock(), id=1)  # fmt: skip

    return View(folder, smartfeed_layout, (Topic.FEEDS, Topic.USERS),
                lambda x: SmartfeedStore(x, OWN, PARTITIONS, 250), made,
                lambda store, i: store.last_served(1 + i * 7919 % n, int(Surface.FOLLOWING)))  # fmt: skip


def counters(folder: Path, n: int) -> View:
    """Pins, with six increments each over two weeks; five counts of 4,000."""
    increments = Increments()

    def made(start: int, stop: int) -> list[Record]:
        return increments.chunk(np.repeat(np.arange(start, stop, dtype=np.uint64) + np.uint64(1), 6))

    actions, week = np.array(ENGAGEMENTS, np.uint8), np.array([7 * DAY_MS], np.int64)

    def asked(store: Any, i: int) -> object:
        pins = np.random.default_rng(i).integers(1, n + 1, 4_000).astype(np.uint64)
        return store.counts(np.full(4_000, Kind.PIN, np.uint8), pins, actions, week)

    return View(folder, counters_layout, (Topic.COUNTS,), lambda x: CountersStore(x, OWN, PARTITIONS, wall_clock), made,
                asked)  # fmt: skip


class Walks:
    """Saves, five of each pin, as a graph that is built when the last is there; a walk of 20,000 steps from ten pins."""

    def __init__(self, folder: Path, n: int) -> None:
        self._store, self._folder, self._n = PixieStore(folder, wall_clock), folder, n
        self._pins, self.making = max(10, n // 5), Making()

    def add(self, start: int, stop: int) -> None:
        with self.making():
            pins = np.arange(stop, dtype=np.uint64) % np.uint64(self._pins) + np.uint64(1)
            boards = np.random.default_rng(1).integers(1, max(2, self._n // 25), stop, dtype=np.uint64)
        version = build(self._folder, Edges(pins, boards), built_ms=wall_clock(), durable=False)
        self._store.load(version)
        for old in self._folder.iterdir():
            if old.is_dir() and old.name != version:
                for path in old.iterdir():
                    path.unlink()

    def ask(self, i: int) -> object:
        some = np.random.default_rng(i).integers(1, min(self._pins, 500), 10).astype(np.uint64)
        options = kernel.options(boards=True)
        return self._store.recommend(Question(ids(np.unique(some)), np.ones(len(np.unique(some)), np.float32), options,
                                              500, 20_000, 0.0, i))  # fmt: skip

    def close(self) -> None:
        """The files stay."""


class CachedRows:
    """Pins in scorpion's cache; the rows of 1,000."""

    def __init__(self, _: Path, n: int) -> None:
        self._n, self._cache = n, PinCache((), int(2 * n * row_bytes(0)) + (1 << 20), 10**9)
        self.making = Making()

    def add(self, start: int, stop: int) -> None:
        now = wall_clock()
        for first in range(start, stop, CHUNK):
            pins = np.arange(first, min(first + CHUNK, stop), dtype=np.uint64) + np.uint64(1)
            none = np.zeros((len(pins), INTERESTS), np.uint64)
            self._cache.put(pins, np.ones((len(pins), len(KEPT)), np.float32), none, now, np.ones(len(pins), bool))

    def ask(self, i: int) -> object:
        return self._cache.get(np.random.default_rng(i).integers(1, self._n + 1, 1_000).astype(np.uint64), 0)

    def close(self) -> None:
        """Nothing is on disk."""


class GrowthPart:
    """How a part is opened, its unit and its question."""

    def __init__(self, opened: Callable[[Path, int], Grown], unit: str, question: str) -> None:
        self._opened, self.unit, self.question = opened, unit, question

    def __call__(self, folder: Path, n: int) -> Grown:
        """Open it for n units."""
        return self._opened(folder, n)


PARTS = {
    "apiary": GrowthPart(apiary, "follow", "whom one user follows"),
    "polaris": GrowthPart(polaris, "edge", "the best 500 of 100 boards"),
    "aperture": GrowthPart(aperture, "event", "the filter of what one user has seen"),
    "realpin": GrowthPart(realpin, "user", "one user's recent actions"),
    "rockstore": GrowthPart(rockstore, "pin", "attributes of 500 pins"),
    "counters": GrowthPart(counters, "pin", "20,000 counts of 4,000 pins"),
    "smartfeed": GrowthPart(smartfeed, "user", "one user's last page"),
    "pixie": GrowthPart(Walks, "edge", "20,000 steps from ten pins"),
    "scorpion": GrowthPart(CachedRows, "pin", "cached rows of 1,000 pins"),
}
