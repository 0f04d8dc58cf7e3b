"""A data folder with all that there is in one: a log, every view, a dataset; as it was before, and as it is now.

Now is as after kill -9: most of it in files, the last of it in write-ahead logs.
"""

import gc
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cli.schema import SERVICE_SETTINGS
from counters import partition as of_counters
from counters.table import CountTable
from protos import events_pb2
from roadrunner import begun
from roadrunner import layout as log_layout
from roadrunner.aggregator import Aggregator
from roadrunner.committer import Committer
from roadrunner.retention import Retention
from roadrunner.store import EventLog
from rockstore import bulk
from rockstore.keys import datasets_of
from services.core.columns import U64, Ragged, ids
from services.core.events import Action, Batch, Surface, events
from services.core.topics import Topic
from services.log.history import LogHistory
from services.log.protocol import End, Partition, Record
from services.state.checked import Checked, Opening
from services.state.shard import open_or_rebuild

A = Action
VIEWS = ("apiary", "aperture", "counters", "polaris", "realpin", "rockstore", "smartfeed")
PARTITIONS = 2
NOW_MS = 1_750_000_000_000
DAY_MS = 86_400_000
EVERY_ID: U64 = ids(range(1, 61))
ACTIONS = [A.SAVE, A.IMPRESSION, A.CLOSEUP, A.CLICK, A.HIDE, A.CREATE_PIN, A.JOIN_INTEREST, A.LEAVE_INTEREST]
ACTIONS += [A.FOLLOW_USER, A.FOLLOW_BOARD, A.FOLLOW_INTEREST, A.UNFOLLOW_USER, A.CREATE_BOARD, A.NAME_USER, A.SERVED]
OFTEN = np.array([8, 12, 4, 3, 2, 3, 2, 1, 3, 3, 2, 1, 1, 1, 12], float)


def clock() -> int:
    """It stands still."""
    return NOW_MS


def happened(n: int, seed: int) -> Batch:
    """n events of few users on few pins, and what there is once in each phase: takedowns, features, a deleted board."""
    chance = np.random.default_rng(seed)
    action = chance.choice(np.array(ACTIONS), n, p=OFTEN / OFTEN.sum())
    action[:4] = (A.TAKEDOWN, A.PUT_FEATURES, A.DELETE_BOARD, A.PUT_FEATURES)
    of = {
        name: chance.integers(1, most, n) for name, most in (("user", 30), ("pin", 60), ("board", 25), ("target", 40))
    }
    titles = [
        f"thing {i} of {seed}" if a in (A.CREATE_PIN, A.CREATE_BOARD, A.NAME_USER) else "" for i, a in enumerate(action)
    ]
    features: list[list[float]] = [[] for _ in range(n)]
    for row in np.flatnonzero(action == A.PUT_FEATURES).tolist():
        titles[row], features[row] = "taste", [float(row), seed, 0.5]
    stated: list[Any] = [chance.integers(1, 40, 2) if a == A.CREATE_PIN else [] for a in action]
    surface = np.where(action == A.SERVED, chance.choice(np.array([Surface.HOME, Surface.PICKED]), n), Surface.HOME)
    at_ms = NOW_MS - chance.integers(0, 5 * DAY_MS, n)
    names = {"title": titles, "features": features, "interests": Ragged.of_lists(stated)}
    return events(
        n,
        action=action,
        **of,
        at_ms=at_ms,
        id=np.arange(1, n + 1) + seed * 1_000_000,
        surface=surface,
        position=np.where(action == A.SERVED, chance.integers(0, 25, n), 0),
        quality=np.where(action == A.CREATE_PIN, chance.random(n), np.nan),
        **names,
    )


def switch() -> Batch:
    """The dataset's first version is taken."""
    return events(1, action=A.SWITCH_DATASET, target=1, title=["taste"], at_ms=NOW_MS, id=77)


def checked(service: str) -> Checked:
    """How a view is checked."""
    found: Checked = import_module(f"{service}.check").CHECKED
    return found


def open_log(data: Path) -> EventLog:
    """The log of a data folder, in small segments."""
    folder = data / "roadrunner" / "0of1"
    begun.check_there(data, folder)
    log = EventLog(folder, PARTITIONS, Retention(segment_bytes=8 << 10), clock, 1, 1)
    begun.check_same(data, folder, log.history.identity)
    return log


def open_view(data: Path, service: str) -> Any:
    """The store of a view, as its process opens it."""
    spec, form = checked(service), f"{checked(service).form}, {PARTITIONS} partitions"
    shard = open_or_rebuild(data / service / "0of1", form, spec.families, 1, 1)
    struct = SERVICE_SETTINGS[service]
    try:
        return spec.open(Opening(shard, range(PARTITIONS), PARTITIONS, small(struct()), data, clock))
    except BaseException:
        shard.close()
        raise


def small(section: Any) -> Any:
    """Settings by which little data has all there is: frozen lists and days."""
    for name, value in (("head_postings", 20), ("recent_keys", 3)):
        if hasattr(section, name):
            setattr(section, name, value)
    return section


class Past(NamedTuple):
    """What a view learns of a log before it reads on."""

    history: LogHistory
    ends: dict[Partition, End]


def past_of(log: EventLog) -> Past:
    """Of an open log."""
    return Past(log.history, log.ends())


def connect(store: Any, service: str, log: Past) -> None:
    """Compare what the view has applied with the log, as a follower does before it reads on. Raises Damaged."""
    partitions = [(int(topic), p) for topic in checked(service).topics for p in range(PARTITIONS)]
    store.shard.connect(log.history, log.ends, partitions)


def follow(store: Any, service: str, records: list[Record]) -> None:
    """Apply what the view lacks, a few records at a time."""
    mine = [record for record in records if record.topic in checked(service).topics]
    fresh = store.shard.fresh(mine)
    for start in range(0, len(fresh), 40):
        store.apply(fresh[start : start + 40])
    if service == "aperture":
        while store.freezer.step():
            pass


def records_of(log: EventLog) -> list[Record]:
    """All that is visible, in order within a partition."""
    positions = {at: end.first for at, end in log.ends().items()}
    found = []
    while some := log.read(positions):
        for r in some:
            positions[r.topic, r.partition] = r.offset + 1
            batch = Batch.of(events_pb2.Batch.FromString(r.batch))
            found.append(Record(Topic(r.topic), r.partition, r.offset, r.accepted_ms, batch))
    return found


def append(log: EventLog, *batches: Batch) -> None:
    """Append events in small publishes, and what the aggregator makes of them."""
    for batch in batches:
        for start in range(0, len(batch), 50):
            log.append([batch.slice(start, min(start + 50, len(batch))).to_proto()])
            log.sync()
    committer = Committer(log, 100, lambda: "")
    committer.start()
    partitions = len({partition for _, partition in log.ends()})
    aggregator = Aggregator(log, committer, lambda: "", partitions)
    while aggregator.step():
        pass
    committer.stop()


def answers_of_log(log: EventLog, accepted: list[Batch]) -> dict[str, str]:
    """All that the log answers: its records, how far they are aggregated, the interests of pins, what was accepted."""
    found = {}
    for record in records_of(log):
        found[f"record {record.topic} {record.partition} {record.offset}"] = (
            record.batch.to_proto().SerializeToString().hex()
        )
    found["aggregated"] = repr(sorted(log.aggregated().items()))
    found["ends"] = repr(sorted(log.ends().items()))
    for family in log_layout.FAMILIES:
        if family not in ("records", "accepted", log_layout.HISTORY):  # an opening begins an epoch
            found[family] = repr(list(log.database.family(family).items()))
    again = [log.append([batch.to_proto()])[0].accepted for batch in accepted]
    found["accepted again"] = repr(again)
    return found


@dataclass(frozen=True)
class World:
    """older, open, now: data folders, the second as it was before the first was closed; records, past: of the log as it is;
    answers: of each service, as they must be.
    """

    older: Path
    open: Path
    now: Path
    records: list[Record]
    past: Past
    accepted: list[Batch]
    answers: dict[str, dict[str, str]]


def build(root: Path, n: int = 900) -> World:
    """Three phases: what is old, what came since, and what came last and is in no file but the write-ahead logs."""
    with patch.object(of_counters, "LEAST_BEHIND", 2_000), patch.object(CountTable, "stored_bytes", lambda _: 0):
        return _built(root, n)  # with so little behind, counters write pages too


def _built(root: Path, n: int) -> World:
    data, phases = root / "data", [happened(n, seed) for seed in (1, 2, 3)]
    data.mkdir()
    _dataset(root, data)
    with _opened(data) as (log, views):
        append(log, phases[0], switch())
        _follow_all(log, views)
        shutil.copytree(data, root / "open")
    shutil.copytree(data, root / "older")
    with _opened(data) as (log, views):
        append(log, phases[1])
        _follow_all(log, views)
    with _opened(data) as (log, views):
        append(log, phases[2].slice(0, 200))
        _follow_all(log, views)
        past = past_of(log)
        shutil.copytree(data, root / "now")
        records, answers = (
            records_of(log),
            {service: checked(service).answers(view, EVERY_ID) for service, view in views.items()},
        )
        accepted = [phase.slice(0, 40) for phase in phases]
        answers["roadrunner"] = answers_of_log(log, accepted)
    return World(root / "older", root / "open", root / "now", records, past, accepted, answers)


@contextmanager
def _opened(data: Path) -> Iterator[tuple[EventLog, dict[str, Any]]]:
    log = open_log(data)
    views = {service: open_view(data, service) for service in VIEWS}
    yield log, views
    log.close()
    for view in views.values():
        view.shard.close()
    views.clear()
    gc.collect()  # what was made of a database holds its folder


def _follow_all(log: EventLog, views: dict[str, Any]) -> None:
    records, past = records_of(log), past_of(log)
    for service, view in views.items():
        connect(view, service, past)
        follow(view, service, records)


def _dataset(root: Path, data: Path) -> None:
    keys = np.arange(1, 61)
    columns = {name: np.random.default_rng(i).standard_normal(len(keys)) for i, name in enumerate("abc")}
    pq.write_table(pa.table({"pin": keys, **columns}), root / "in.parquet")
    bulk.load(root / "in.parquet", datasets_of(data), "taste", PARTITIONS, NOW_MS)
