"""How fast each view applies the log: its store alone, on one core, with the events of a busy site in the chunks that
the log serves.

A first store applies everything and its answers are compared with a recount of the events; then a new one is timed,
three times.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aperture import layout as aperture_layout
from aperture.store import ApertureStore
from apiary import layout as apiary_layout
from apiary.store import ApiaryStore
from bench import recounts
from bench.counters import DAY_MS, Increments, PlainCounts
from bench.report import Figure
from bench.rounds import on_one_core, repeated
from counters import layout as counters_layout
from counters.store import CountersStore
from polaris import layout as polaris_layout
from polaris.kernel import Light
from polaris.store import Limits, PolarisStore
from realpin import layout as realpin_layout
from realpin.store import RealpinStore
from rockstore import layout as rockstore_layout
from rockstore.store import RockstoreStore
from services.core.clock import wall_clock
from services.core.events import ENGAGEMENTS, Action, Batch, Kind, Surface, events
from services.core.topics import Topic
from services.log.memory import MemoryLog
from services.log.protocol import Record
from services.state.follower import View
from services.state.shard import Shard
from smartfeed import layout as smartfeed_layout
from smartfeed.store import SmartfeedStore

PARTITIONS = 16
PINS = 1_000_000
EVENTS, BATCH, CHUNK = 400_000, 1_000, 8  # published in batches of 1,000; the log serves about 8 of them together
ROUNDS = 3
A = Action
OWN = range(PARTITIONS)


def drawn(n: int, seed: int, actions: Sequence[Action], weights: Sequence[float], **columns: object) -> Batch:
    """n events with users, pins and boards drawn by a Zipf law from a site of a million."""
    rng = np.random.default_rng(seed)
    some = {"user": 100_000, "pin": PINS, "board": 200_000, "target": 100_000}
    ids = {name: np.minimum(rng.zipf(1.2, n), top) * 7919 % top + 1 for name, top in some.items()}
    action = rng.choice(actions, n, p=np.array(weights) / sum(weights))
    given = {**ids, "at_ms": wall_clock() - rng.integers(0, 3_600_000, n), "quality": rng.random(n), **columns}
    return events(n, action=action, id=rng.integers(1, 2**63, n), **given)


def follows(n: int, seed: int) -> Batch:
    """Follows of users, boards and interests, some undone, and boards made."""
    actions = (A.FOLLOW_USER, A.FOLLOW_BOARD, A.FOLLOW_INTEREST, A.UNFOLLOW_USER, A.CREATE_BOARD)
    return drawn(n, seed, actions, (4, 2, 2, 1, 2))


def engagements(n: int, seed: int) -> Batch:
    """The actions of users: pages of impressions, and some actions on them."""
    actions = (A.IMPRESSION, A.CLOSEUP, A.CLICK, A.SAVE, A.HIDE)
    one_by_one = drawn(n, seed, actions, (30, 4, 2, 2, 1))
    return one_by_one.replace(user=np.repeat(one_by_one.user[::25], 25)[:n])


def saves(n: int, seed: int) -> Batch:
    """Saves to boards, some taken back."""
    return drawn(n, seed, (A.SAVE, A.UNSAVE), (20, 1))


def pins(n: int, seed: int) -> Batch:
    """Pins made, with titles, links and interests, and actions on others."""
    made = drawn(n, seed, (A.CREATE_PIN, A.IMPRESSION, A.SAVE), (2, 5, 1))
    titles = [f"A pin with a title of its own, number {i}" for i in range(n)]
    links = [f"https://example.org/pins/{i}" for i in range(n)]
    return events(
        n,
        **{name: getattr(made, name) for name in ("user", "action", "pin", "board", "at_ms", "id", "quality")},
        title=titles,
        link=links,
        interests=[[1 + i % 300, 1 + i % 77] for i in range(n)],
    )


def pages(n: int, seed: int) -> Batch:
    """Pages of 25 that were served."""
    served = drawn(n, seed, (A.SERVED,), (1,), surface=Surface.FOLLOWING)
    return served.replace(user=np.repeat(served.user[::25], 25)[:n], position=np.arange(n, dtype=np.uint32) % 25)


def chunks(batch: Batch, topics: tuple[Topic, ...]) -> list[list[Record]]:
    """The records of a batch as the log serves them."""
    offsets, made = MemoryLog(PARTITIONS, retain=False), []
    for start in range(0, len(batch), BATCH * CHUNK):
        chunk: list[Record] = []
        for at in range(start, min(start + BATCH * CHUNK, len(batch)), BATCH):
            chunk += offsets.append(batch.slice(at, min(at + BATCH, len(batch))), topics)
        made.append(chunk)
    return made


def applied(view: View, made: list[list[Record]]) -> float:
    """Events a second; the first chunks warm it up."""
    for chunk in made[:3]:
        view.apply(view.shard.fresh(chunk))
    count = sum(record.events for chunk in made[3:] for record in chunk)
    started = time.perf_counter()
    for chunk in made[3:]:
        view.apply(view.shard.fresh(chunk))
    return count / (time.perf_counter() - started)


Check = Callable[[Any, list[list[Record]]], None]


def measure(_: str | None) -> list[Figure]:
    """Each view. Pinned first, so that RocksDB's threads are too."""
    with on_one_core():
        return _measured()


def _measured() -> list[Figure]:
    u, s, o, f = Topic.USERS, Topic.SOURCES, Topic.OBJECTS, Topic.FEEDS
    makers: list[tuple[str, Callable[[Shard], View], Any, Batch, tuple[Topic, ...], str]] = [
        ("apiary", lambda x: ApiaryStore(x, OWN, PARTITIONS), apiary_layout, follows(EVENTS, 1), (u,), "follows"),
        (
            "polaris",
            lambda x: PolarisStore(x, PARTITIONS, Light(), Limits(64, 4096)),
            polaris_layout,
            saves(EVENTS, 2),
            (s,),
            "saves",
        ),
        (
            "aperture",
            lambda x: ApertureStore(x, OWN, PARTITIONS, wall_clock),
            aperture_layout,
            engagements(EVENTS, 3),
            (u,),
            "actions",
        ),
        ("rockstore", lambda x: RockstoreStore(x, OWN, PARTITIONS), rockstore_layout, pins(EVENTS, 4), (o,), "pins"),
        (
            "realpin",
            lambda x: RealpinStore(x, PARTITIONS, wall_clock),
            realpin_layout,
            engagements(EVENTS, 3),
            (u,),
            "actions",
        ),
        (
            "smartfeed",
            lambda x: SmartfeedStore(x, OWN, PARTITIONS, 250),
            smartfeed_layout,
            pages(EVENTS, 5),
            (f, u),
            "pages",
        ),
    ]
    figures = [
        _alone(name, make, layout, chunks(batch, topics), what, getattr(recounts, name))
        for name, make, layout, batch, topics, what in makers
    ]
    counted = list(Increments().chunks(EVENTS, PINS))
    figures.append(_alone("counters", _counters, counters_layout, counted, "increments", _counts))
    return figures


def _counters(shard: Shard) -> View:
    return CountersStore(shard, OWN, PARTITIONS, wall_clock)


def _counts(store: CountersStore, made: list[list[Record]]) -> None:
    """Pins and their counts, of the last week and of all time."""
    expected, pins = PlainCounts(), np.arange(1, 4_001, dtype=np.uint64)
    for chunk in made:
        expected.add(chunk)
    windows = np.array([7 * DAY_MS, 0], np.int64)
    found = store.counts(Kind.PIN, pins, np.array(ENGAGEMENTS, np.uint8), windows)
    np.testing.assert_array_equal(found, expected.counts(pins, wall_clock(), windows))


def _alone(
    name: str, make: Callable[[Shard], View], layout: Any, made: list[list[Record]], what: str, check: Check
) -> Figure:
    """Of stores in folders of their own."""
    rates = []
    for turn in range(1 + ROUNDS):
        with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as folder:
            shard = Shard(Path(folder), layout.FORMAT, layout.FAMILIES)
            try:
                store = make(shard)
                rate = applied(store, made)
                if turn:
                    rates.append(rate)
                else:
                    check(store, made)
            finally:
                shard.close()
    note = "pinned to one core, RocksDB's threads too; answers compared with a recount first"
    return repeated("views", f"{name} applies {what}", rates, "events/s", 100_000, note=note)
