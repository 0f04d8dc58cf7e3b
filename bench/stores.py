"""What the stores write for what they are given: write amplification, the rate and processor time of writes, bytes kept and the
cost of a key, with RocksDB's options as they are and as they were, side by side.

Each store applies events through its own write path, of pins and boards that are as likely as each other, until its files have
been compacted many times. All sides get the same events, on folders of their own, in turn.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rocksdict import DBCompressionType, Options

from bench import views
from bench.counters import Increments
from bench.growing import Making, numbered
from bench.report import Figure
from bench.rounds import repeated
from counters import layout as counters_layout
from counters.store import CountersStore
from polaris import layout as polaris_layout
from polaris.kernel import Light
from polaris.store import Limits, PolarisStore
from rockstore import layout as rockstore_layout
from rockstore.store import RockstoreStore
from services.core.clock import wall_clock
from services.core.columns import Ragged
from services.core.events import Action, Batch, events
from services.core.topics import Topic
from services.log.memory import MemoryLog
from services.log.protocol import Record
from services.state.family import Family
from services.state.options import DEFAULT, Tuning
from services.state.shard import Shard

PART, ROUNDS = "stores", 2
CACHE_MB, MEMTABLE_MB = 32, int(os.environ.get("BENCH_MEMTABLE_MB", "16"))  # 2: an eighth of everything, in minutes
PINS, BOARDS = MEMTABLE_MB * 400_000, MEMTABLE_MB * 100_000  # of which a store holds several times what level 0 does
BATCH, CHUNK = 1_000, 8_000  # events of a publish, and of what the log serves together
PARTS = 2 * MEMTABLE_MB  # of 400,000 events, which a store is given
SETTLE_S, POLL_S = 600.0, 0.02
KEYS, SCANNED = 20_000, 2_000_000  # keys asked for, and those among which they are drawn
_AT_WORK = ("num-running-compactions", "num-running-flushes", "compaction-pending", "mem-table-flush-pending")
_CAUSES = {"flush_started": "flush", "compaction_started": "compaction"}
Chunks = Iterator[list[Record]]


def before(options: Options, memtable_mb: int) -> None:
    """The levels as RocksDB has them by itself, all of LZ4: level 1 of 256 MB, four times what level 0 is compacted at."""
    options.set_max_bytes_for_level_base(16 * memtable_mb << 20)
    options.set_compression_type(DBCompressionType.lz4())


SIDES = {"before": Tuning(levels=before), "now": DEFAULT, "now, two compaction threads": Tuning(2)}


class Counted(Shard):
    """A shard that counts the bytes of its write batches."""

    given = 0

    def write(self, batch: Any) -> None:
        """And count them."""
        self.given += batch.size_in_bytes()
        super().write(batch)


@dataclass(frozen=True, slots=True)
class Stream:
    """A view and its events: made by numbered parts of 400,000, of which `parts` are applied."""

    open: Callable[[Shard], Any]
    layout: Any
    part: Callable[[int], Chunks]
    parts: int
    family: str  # that single keys are read of


def _saves(n: int, seed: int) -> Batch:
    """Saves to boards, all of which are as likely."""
    rng = np.random.default_rng(seed)
    return events(n, action=Action.SAVE, user=1, board=rng.integers(1, BOARDS + 1, n), pin=rng.integers(1, PINS + 1, n),
                  at_ms=wall_clock(), quality=rng.random(n), id=np.arange(n) + seed * n + 1)  # fmt: skip


def _pins(n: int, seed: int) -> Batch:
    """Pins made, or made again, each as likely."""
    pins = np.random.default_rng(seed).integers(1, PINS + 1, n).astype(np.uint64)
    interests = np.stack([1 + pins % 300, 1 + pins % 77], axis=1).ravel()
    return events(n, action=Action.CREATE_PIN, user=pins, pin=pins, at_ms=wall_clock(), id=np.arange(n) + seed * n + 1,
                  title=numbered(b"A pin with a title of its own, number ", pins),
                  link=numbered(b"https://example.org/pins/", pins),
                  interests=Ragged(np.arange(1, n + 1, dtype=np.uint32) * np.uint32(2), interests))  # fmt: skip


def _published(drawn: Callable[[int, int], Batch], topic: Topic) -> Callable[[int], Chunks]:
    log = MemoryLog(views.PARTITIONS, retain=False)

    def part(number: int) -> Chunks:
        batch = drawn(views.EVENTS, number)
        for start in range(0, len(batch), CHUNK):
            cuts = range(start, min(start + CHUNK, len(batch)), BATCH)
            yield [r for at in cuts for r in log.append(batch.slice(at, min(at + BATCH, len(batch))), (topic,))]

    return part


def _counted() -> Callable[[int], Chunks]:
    increments = Increments()
    return lambda number: increments.chunks(views.EVENTS, PINS)


def streams() -> dict[str, Callable[[], Stream]]:
    """Each begins with an empty log."""
    own, n = views.OWN, views.PARTITIONS
    light, limits = Light(), Limits(64, 4096)
    return {
        "rockstore": lambda: Stream(lambda x: RockstoreStore(x, own, n), rockstore_layout,
                                    _published(_pins, Topic.OBJECTS), PARTS, rockstore_layout.FAMILIES[0]),
        "polaris": lambda: Stream(lambda x: PolarisStore(x, n, light, limits), polaris_layout,
                                  _published(_saves, Topic.SOURCES), PARTS, polaris_layout.FAMILIES[0]),
        "counters": lambda: Stream(lambda x: CountersStore(x, own, n, wall_clock), counters_layout, _counted(), PARTS,
                                   "increments"),
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Files:
    """Bytes of the sorted files that RocksDB has written, by cause, and how many compactions there were."""

    flushed: int
    compacted: int
    compactions: int

    @classmethod
    def of(cls, folder: Path) -> "Files":
        """Those since the folder was opened, by the events that RocksDB notes in its LOG."""
        cause, size, compactions = dict[int, str](), {"flush": 0, "compaction": 0}, 0
        for line in (folder / "LOG").read_text(errors="replace").splitlines():
            _, found, stated = line.partition("EVENT_LOG_v1 ")
            event: dict[str, Any] = json.loads(stated) if found else {"event": ""}
            if event["event"] in _CAUSES:
                cause[event["job"]] = _CAUSES[event["event"]]
            elif event["event"] == "table_file_creation":
                size[cause[event["job"]]] += event["file_size"]
            compactions += event["event"] == "compaction_finished"
        return cls(size["flush"], size["compaction"], compactions)


@dataclass(frozen=True, slots=True)
class Run:
    """given: bytes of the write batches. io: bytes that the process sent to the disk meanwhile, write-ahead files too."""

    files: Files
    given: int
    io: int
    rate: float
    cpu_us: float
    kept: int
    key_us: float

    @property
    def amplification(self) -> float:
        """Bytes that flushes and compactions wrote, for one that was given."""
        return (self.files.flushed + self.files.compacted) / self.given


def measure(_: str | None) -> list[Figure]:
    """Every store on every side, in turn."""
    figures: list[Figure] = []
    for name, begun in streams().items():
        runs: dict[str, list[Run]] = {side: [] for side in SIDES}
        for _turn in range(ROUNDS):
            for side, tuning in SIDES.items():
                runs[side].append(_run(begun(), tuning))
        for side, of in runs.items():
            figures += _figures(f"{name}, {side}", of)
    return figures


def _figures(what: str, runs: list[Run]) -> list[Figure]:
    files, given, io = runs[-1].files, runs[-1].given, runs[-1].io
    note = (
        f"{given / 1e6:,.0f} MB given, {files.flushed / 1e6:,.0f} MB flushed, {files.compacted / 1e6:,.0f} MB in "
        f"{files.compactions} compactions; {io / 1e6:,.0f} MB to the disk in all"
    )
    each: dict[tuple[str, str], list[float]] = {
        ("bytes written for one given", "times"): [run.amplification for run in runs],
        ("events applied", "events/s"): [run.rate for run in runs],
        ("CPU of an event, compaction included", "us"): [run.cpu_us for run in runs],
        ("kept on disk", "MB"): [run.kept / 1e6 for run in runs],
        ("a key read", "us"): [run.key_us for run in runs],
    }
    return [repeated(PART, f"{what}: {of}", values, unit, note=note) for (of, unit), values in each.items()]


def _run(stream: Stream, tuning: Tuning) -> Run:
    folder = Path(tempfile.mkdtemp(prefix="feedmesh-bench-"))
    shard = Counted(folder, stream.layout.FORMAT, stream.layout.FAMILIES, CACHE_MB, MEMTABLE_MB, tuning=tuning)
    try:
        store, making = stream.open(shard), Making()
        busy, io, took, applied = time.process_time(), _io(), 0.0, 0
        for number in range(stream.parts):
            with making():
                chunks = list(stream.part(number))
            began = time.perf_counter()
            for chunk in chunks:
                store.apply(shard.fresh(chunk))
            took += time.perf_counter() - began
            applied += sum(record.events for chunk in chunks for record in chunk)
        _settle(shard, stream.layout.FAMILIES)
        cpu, io = time.process_time() - busy - making.seconds, _io() - io
        kept = sum(path.stat().st_size for path in folder.glob("*.sst"))
        key_us = _key_us(shard.family(stream.family))
        return Run(Files.of(folder), shard.given, io, applied / took, cpu / applied * 1e6, kept, key_us)
    finally:
        shard.close()
        shutil.rmtree(folder)


def _settle(shard: Shard, families: tuple[str, ...]) -> None:
    """Until RocksDB is at rest: later compactions are a cost of these writes."""
    end, raws = time.monotonic() + SETTLE_S, [shard.family(name).raw for name in families]
    while any(raw.property_int_value(f"rocksdb.{of}") for raw in raws for of in _AT_WORK):
        if time.monotonic() > end:
            raise TimeoutError(f"{shard.folder}: RocksDB was not at rest within {SETTLE_S:.0f} s")
        time.sleep(POLL_S)


def _key_us(family: Family) -> float:
    """The median of a key, of those that the first SCANNED are drawn from, once as many have been read."""
    keys = list(islice(family.keys(), SCANNED))
    drawn = [keys[at] for at in np.random.default_rng(1).integers(0, len(keys), 2 * KEYS)]
    took = []
    for key in drawn:
        began = time.perf_counter()
        family.get(key)
        took.append(time.perf_counter() - began)
    return float(np.median(took[KEYS:])) * 1e6


def _io() -> int:
    """Bytes that this process has sent to the disk."""
    return int(psutil.Process().io_counters().write_bytes)
