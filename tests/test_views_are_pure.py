"""Views are functions of the log: two instances that differ in everything else give the same answers, byte for byte.

The one stands years ahead, has much memory, and applies record by record in the log's order. The other's clock jumps, forwards
and back; it has little memory, applies chunks of any size in any order between partitions and topics, is asked meanwhile, is
opened again now and then, and gets the files of its datasets late.
"""

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli.schema import SERVICE_SETTINGS
from counters import partition as of_counters
from counters.table import CountTable
from roadrunner.retention import Retention
from roadrunner.store import EventLog
from rockstore import bulk
from rockstore.keys import datasets_of
from services.core.errors import NotReady
from services.core.events import ENGAGEMENTS, Action, Batch, Kind, Surface, events
from services.log.protocol import Record
from services.state.checked import Opening
from services.state.shard import Shard
from smartfeed import store as of_smartfeed
from tests.damage.world import DAY_MS, EVERY_ID, NOW_MS, VIEWS, append, checked, records_of

A = Action
PARTITIONS = 4
YEAR_MS = 365 * DAY_MS
SMALL = {"head_postings": 3, "cap": 6, "recent_keys": 3, "keep_days": 40, "actions_kept": 8, "max_pins": 12}
#: What each state is stored as must be equal too, but for where freezing and pages of counts have come.
STORED = ("apiary", "polaris", "realpin", "rockstore", "smartfeed")
ACTIONS = [A.SAVE, A.UNSAVE, A.IMPRESSION, A.CLOSEUP, A.CLICK, A.HIDE, A.CREATE_PIN, A.UPDATE_PIN, A.JOIN_INTEREST]
ACTIONS += [A.LEAVE_INTEREST, A.FOLLOW_USER, A.UNFOLLOW_USER, A.FOLLOW_BOARD, A.FOLLOW_INTEREST, A.CREATE_BOARD]
ACTIONS += [A.DELETE_BOARD, A.NAME_USER, A.NAME_INTEREST, A.SERVED, A.TAKEDOWN, A.PUT_FEATURES]
OFTEN = np.array([30, 6, 12, 4, 4, 5, 4, 3, 10, 3, 3, 2, 3, 3, 4, 1, 1, 1, 18, 0.3, 2])


@dataclass
class Moving:
    """A clock: it stands, or is somewhere else with each look."""

    now: int = NOW_MS
    jumps: random.Random | None = None

    def __call__(self) -> int:
        return self.now if self.jumps is None else NOW_MS + self.jumps.randint(-3 * YEAR_MS, 3 * YEAR_MS)


class Ticking(Moving):
    """The log's: it goes on by a day with each look, over some months."""

    def __call__(self) -> int:
        self.now += DAY_MS + 1_000
        return self.now


def happened(n: int, seed: int, now_ms: int) -> Batch:
    """n events of few users on few pins, most of them recent, some of them old, no two dates alike for long."""
    chance = np.random.default_rng(seed)
    action = chance.choice(np.array(ACTIONS), n, p=OFTEN / OFTEN.sum())
    most = {"user": 12, "pin": 40, "board": 6, "target": 9}
    titles = [f"thing {i}" if a in (A.CREATE_PIN, A.CREATE_BOARD, A.NAME_USER) else "" for i, a in enumerate(action)]
    features: list[list[float]] = [[]] * n
    for row in np.flatnonzero(action == A.PUT_FEATURES).tolist():
        titles[row], features[row] = "taste", [float(row), seed, 0.5]
    age_ms = np.where(chance.random(n) < 0.7, chance.integers(0, 3 * DAY_MS, n), chance.integers(0, 120 * DAY_MS, n))
    return events(
        n,
        action=action,
        **{name: chance.integers(1, limit, n) for name, limit in most.items()},
        at_ms=now_ms - age_ms,
        id=np.arange(1, n + 1) + seed * 1_000_000,
        surface=np.where(action == A.SERVED, chance.choice(np.array([Surface.HOME, Surface.PICKED]), n), Surface.HOME),
        position=np.where(action == A.SERVED, chance.integers(0, 9, n), 0),
        quality=np.where(chance.random(n) < 0.3, chance.random(n), np.nan),
        title=titles,
        features=features,
    )


def log_of(folder: Path, seed: int) -> list[Record]:
    """The records of a log of some months, with what the aggregator made of it."""
    clock = Ticking(NOW_MS - 60 * DAY_MS)
    log = EventLog(folder, PARTITIONS, Retention(segment_bytes=8 << 10), clock, 1, 1)
    for phase in range(3):
        append(log, happened(500, 10 * seed + phase, clock.now))
        append(
            log,
            events(1, action=A.SWITCH_DATASET, target=phase % 2 + 1, title=["taste"], at_ms=clock.now, id=77 + phase),
        )
    records = records_of(log)
    log.close()
    return records


def load_datasets(data: Path) -> None:
    """Two versions of a dataset; with fixed dates, so that their files are the same wherever they are loaded."""
    keys = np.arange(1, 41)
    for version in (1, 2):
        columns = {name: np.random.default_rng(i + version).standard_normal(len(keys)) for i, name in enumerate("abc")}
        pq.write_table(pa.table({"pin": keys, **columns}), data / "in.parquet")
        bulk.load(data / "in.parquet", datasets_of(data), "taste", PARTITIONS, NOW_MS - 30 * DAY_MS)


class Memory(NamedTuple):
    """cache_mb and memtable_mb of a view's database, and mb of what it keeps besides."""

    cache_mb: int
    memtable_mb: int
    kept_mb: int


@dataclass
class Instance:
    """A view, and what surrounds it."""

    service: str
    data: Path
    clock: Moving
    memory: Memory
    store: Any = field(init=False)

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        spec, settings = checked(self.service), SERVICE_SETTINGS[self.service]()
        kept = dict.fromkeys(("lists_mb", "objects_mb", "pins_mb"), self.memory.kept_mb)
        for name, value in (SMALL | kept).items():
            if hasattr(settings, name):
                setattr(settings, name, value)
        shard = Shard(self.data / self.service, spec.form, spec.families, *self.memory[:2])
        self.store = spec.open(Opening(shard, range(PARTITIONS), PARTITIONS, settings, self.data, self.clock))

    def close(self) -> None:
        self.store.shard.close()

    def apply(self, records: list[Record]) -> None:
        self.store.apply(self.store.shard.fresh([r for r in records if r.topic in checked(self.service).topics]))

    def freeze(self) -> None:
        while self.service == "aperture" and self.store.freezer.step():
            pass

    def answers(self, now_ms: int) -> dict[str, str]:
        """All that it answers at one time, which is the question's."""
        before, self.clock.now = self.clock.now, now_ms
        jumps, self.clock.jumps = self.clock.jumps, None
        found = checked(self.service).answers(self.store, EVERY_ID)
        if self.service == "counters":
            for kind, action, window in ((k, a, w) for k in Kind for a in ENGAGEMENTS for w in (0, DAY_MS, 7 * DAY_MS)):
                if kind != Kind.USER:
                    found[f"top {kind} {action} {window}"] = repr(
                        [c.tobytes() for c in self.store.top(kind, action, window, 9)]
                    )
        self.clock.now, self.clock.jumps = before, jumps
        return found

    def stored(self) -> dict[str, list[tuple[bytes, bytes]]]:
        """Its state as it lies on disk."""
        return {name: list(self.store.shard.family(name).items()) for name in checked(self.service).families}


def reordered(records: list[Record], chance: random.Random) -> list[Record]:
    """In the order of each partition and topic, and in any order between them."""
    by_place = sorted(records, key=lambda r: (r.topic, r.partition))
    streams = [list(of) for _, of in groupby(by_place, key=lambda r: (r.topic, r.partition))]
    found = []
    while streams := [stream for stream in streams if stream]:
        stream = chance.choice(streams)
        for _ in range(min(len(stream), chance.choice([1, 1, 3, 9]))):
            found.append(stream.pop(0))
    return found


def apply_in_order(one: Instance, records: list[Record]) -> None:
    """Record by record, freezing whatever is due; counts write pages at once."""
    with patch.object(of_counters, "LEAST_BEHIND", 500), patch.object(CountTable, "stored_bytes", lambda _: 0):
        for record in records:
            one.apply([record])
            one.freeze()


def apply_anyhow(other: Instance, records: list[Record], chance: random.Random, late: Callable[[], object]) -> int:
    """In chunks, asked and opened again now and then; `late` is called once a file is waited for. How often it was."""
    records, waited = reordered(records, chance), 0
    while records:
        size = chance.choice([1, 2, 5, 20, 80])
        chunk, records = records[:size], records[size:]
        before = other.store.shard.applied()
        try:
            other.apply(chunk)
        except NotReady:
            assert other.store.shard.applied() == before, "nothing is committed"
            waited += 1
            late()
            other.apply(chunk)
        if chance.random() < 0.1:
            other.answers(NOW_MS)
        if chance.random() < 0.1:
            other.freeze()
        if chance.random() < 0.05:
            other.close()
            other.open()
    return waited


@contextmanager
def opened(service: str, folder: Path, clock: Moving, memory: Memory) -> Iterator[Instance]:
    made = Instance(service, folder, clock, memory)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module", params=[1, 2])
def log(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, list[Record]]:
    """A seed, and a log of that seed."""
    return request.param, log_of(tmp_path_factory.mktemp("log"), request.param)


@pytest.mark.parametrize("service", VIEWS)
def test_two_instances_of_a_view_answer_alike(service: str, log: tuple[int, list[Record]], tmp_path: Path) -> None:
    seed, records = log
    chance, folders = random.Random(seed), (tmp_path / "one", tmp_path / "other")
    for folder in folders:
        folder.mkdir()
    load_datasets(folders[0])
    ahead, jumping = Moving(NOW_MS + 5 * YEAR_MS), Moving(jumps=random.Random(seed))
    with ExitStack() as stack:
        stack.enter_context(patch.object(of_smartfeed, "REMOVED_KEPT", 5))
        one = stack.enter_context(opened(service, folders[0], ahead, Memory(64, 64, 64)))
        other = stack.enter_context(opened(service, folders[1], jumping, Memory(1, 1, 1)))
        apply_in_order(one, records)
        late = lambda: shutil.copytree(folders[0] / "datasets", folders[1] / "datasets")  # noqa: E731
        waited = apply_anyhow(other, records, chance, late)
        assert waited == (service == "rockstore"), "its files came late, once"
        latest = max(record.accepted_ms for record in records)
        for now_ms in (latest, latest - 20 * DAY_MS, latest + 5 * DAY_MS):
            expected, found = one.answers(now_ms), other.answers(now_ms)
            assert expected.keys() == found.keys()
            assert not {what for what in expected if expected[what] != found[what]}
        if service in STORED:
            expected_state, found_state = one.stored(), other.stored()
            assert not {name for name in expected_state if expected_state[name] != found_state[name]}
            assert any(expected_state.values())
