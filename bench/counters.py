"""Tens of thousands of counts for one request over millions of objects, in process and by RPC; and increments applied.

Cost as the work grows: the same question over 10,000 to 5,000,000 objects. Before anything is timed, counts are those of
a recount of the increments; and again once the folder, with all that was applied, has been opened anew.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from bench.report import Figure, over
from bench.rounds import BOTH_ENDS, ONE_CORE, ROUNDS, latencies, on_one_core, repeated, timed
from counters import layout, table
from counters.client import CountersClient
from counters.service import Counters
from counters.store import CountersStore
from protos.counters_pb2_grpc import add_CountersServicer_to_server
from services.core.clock import wall_clock
from services.core.columns import I64, U64, Array
from services.core.events import ENGAGEMENTS, Kind, events
from services.core.helpers import ALONE, Helpers
from services.core.topics import Topic, partition_of
from services.log.memory import MemoryLog
from services.log.protocol import Record
from services.state.shard import Shard
from tests.kit import serve_shards

PARTITIONS = 16
SIZES = (10_000, 100_000, 1_000_000, 5_000_000)
PER_OBJECT, CALLS = 2, 200  # increments of an object on average; calls of a round
QUESTIONS = 2_000  # more than are timed, so that none finds its pins in the processor's caches
LARGE_ASKED = 20_000  # objects of a large request
ASKED = 4_000  # objects, five actions each: 20,000 counts
APPLIED, CHUNK = 1_000_000, 16_000  # increments of a round, and how many of them are one chunk of the log
STARTS, APPLYING = 3, 3  # rounds
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
PART = "counters"


class Increments:
    """Records of increments for pins as the aggregator writes them, over the last two weeks."""

    def __init__(self) -> None:
        self._log, self._chance = MemoryLog(PARTITIONS, retain=False), np.random.default_rng(1)

    def chunk(self, pins: U64) -> list[Record]:
        """One increment for each pin."""
        n, now, chance = len(pins), wall_clock(), self._chance
        made = events(
            n,
            action=chance.choice(ENGAGEMENTS, n),
            kind=Kind.PIN,
            target=pins,
            at_ms=(now - chance.integers(0, 14 * DAY_MS, n)) // HOUR_MS * HOUR_MS,
            count=chance.integers(1, 9, n),
        )
        where, records = partition_of(pins, PARTITIONS), []
        for partition in range(PARTITIONS):
            part = made.take(where == partition)
            records.append(self._log.append_to(Topic.COUNTS, partition, part, now))
        return records

    def chunks(self, n: int, objects: int) -> Iterator[list[Record]]:
        """n increments for random pins."""
        for _ in range(0, n, CHUNK):
            yield self.chunk(self._chance.integers(1, objects + 1, CHUNK).astype(np.uint64))


class PlainCounts:
    """Every increment, and counts of them by adding up."""

    def __init__(self) -> None:
        self._pins: list[U64] = []
        self._rest: list[Array] = []
        self._of_action = np.full(256, -1, np.int64)
        self._of_action[list(ENGAGEMENTS)] = range(len(ENGAGEMENTS))

    def add(self, records: list[Record]) -> None:
        """Remember the applied increments."""
        for record in records:
            made = record.batch
            self._pins.append(made.target)
            self._rest.append(np.stack([self._of_action[made.action], made.at_ms, made.count.astype(np.int64)]))

    def counts(self, pins: U64, now_ms: int, windows: I64) -> Array:
        """int64[n, actions, windows], as CountersStore.counts has them, of pins below 2^31 and windows of whole hours."""
        asked, back = np.unique(pins, return_inverse=True)
        row = np.full(SIZES[-1] + 1, -1, np.int32)
        row[asked] = np.arange(len(asked))
        sums = np.zeros((len(asked), len(ENGAGEMENTS), len(windows)), np.int64)
        for of_pins, (action, at_ms, count) in zip(self._pins, self._rest, strict=True):
            rows = row[of_pins]
            for column, window in enumerate(windows.tolist()):
                wanted = (rows >= 0) & (at_ms <= now_ms) & ((at_ms > now_ms - window) | (window == 0))
                np.add.at(sums[:, :, column], (rows[wanted], action[wanted]), count[wanted])
        return sums[back]


Ask = Callable[[U64, I64], Array]  # counts, float16[n, actions, windows], of pins in windows before the present


def measure(_: str | None) -> list[Figure]:
    """In process at each size; then by RPC, and applying, at the largest."""
    table.warm()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as name:
        folder, increments, recount, before = Path(name), Increments(), PlainCounts(), 0
        store = _opened(folder)
        for size in SIZES:
            _fill(store, increments, recount, before, size)
            before = size
            with on_one_core():
                found = _asked(_in_process(store), recount, size, "in process", 5, ONE_CORE)
            figures += over("pins", size, found)
        figures += _large(store, recount)
        figures += _by_rpc(store, recount)
        each = store.memory_bytes() / store.objects()
        figures.append(
            Figure(PART, f"memory of an object, of {SIZES[-1]:,} with {PER_OBJECT} increments", each, "bytes")
        )
        figures += _applied(store, increments, recount)
        store.shard.close()
        return [*figures, _started(folder, recount)]


def _opened(folder: Path) -> CountersStore:
    shard = Shard(folder, layout.FORMAT, layout.FAMILIES, 64, 16)
    return CountersStore(shard, range(PARTITIONS), PARTITIONS, wall_clock)


def _fill(store: CountersStore, increments: Increments, recount: PlainCounts, before: int, size: int) -> None:
    """Pins before+1 to size, each counted once, and others of all again."""
    rng = np.random.default_rng(size)
    for start in range(before, size, 200_000):
        new = np.arange(start + 1, min(start + 200_000, size) + 1, dtype=np.uint64)
        for _ in range(PER_OBJECT - 1):
            again = rng.integers(1, size + 1, len(new)).astype(np.uint64)
            new = np.concatenate([new, again])
        chunk = increments.chunk(new)
        store.apply(chunk)
        recount.add(chunk)


def _pins(call: int, objects: int) -> U64:
    return np.random.default_rng(call).integers(1, objects + 1, ASKED).astype(np.uint64)


def _in_process(store: CountersStore) -> Ask:
    kinds, actions = np.full(ASKED, Kind.PIN, np.uint8), np.array(ENGAGEMENTS, np.uint8)
    return lambda pins, windows: store.counts(kinds, pins, actions, windows)


def _check(ask: Ask, recount: PlainCounts, size: int, what: str) -> None:
    """Raises AssertionError for another count than the recount's, of the last week or of all time."""
    windows, pins = np.array([7 * DAY_MS, 0], np.int64), _pins(0, size)
    found = ask(pins, windows)
    np.testing.assert_array_equal(found, recount.counts(pins, wall_clock(), windows), err_msg=what)


def _asked(ask: Ask, recount: PlainCounts, size: int, how: str, p99_ms: float, note: str) -> list[Figure]:
    what, week = f"{ASKED * 5:,} counts of {size:,} pins, {how}", np.array([7 * DAY_MS], np.int64)
    _check(ask, recount, size, what)
    asked = [_pins(call, size) for call in range(QUESTIONS)]
    rounds = timed(lambda call: ask(asked[call % QUESTIONS], week), CALLS)
    each = [float(np.median(took)) / (ASKED * 5) * 1e9 for took in rounds]
    return [
        *latencies(PART, what, rounds, p99_ms, note),
        repeated(PART, f"{what}, a count", each, "ns", of=f"{CALLS} calls", note=note),
    ]


def _large(store: CountersStore, recount: PlainCounts) -> list[Figure]:
    """One request of 100,000 counts by one thread and by two, in turn, on all cores."""
    n, week, kinds = LARGE_ASKED, np.array([7 * DAY_MS], np.int64), np.full(LARGE_ASKED, Kind.PIN, np.uint8)
    asked = [np.random.default_rng(call).integers(1, SIZES[-1] + 1, n).astype(np.uint64) for call in range(200)]
    sides = {threads: Helpers(threads) for threads in (1, 2)}
    took: dict[int, list[list[float]]] = {threads: [] for threads in sides}
    actions = np.array(ENGAGEMENTS, np.uint8)
    for _turn in range(1 + ROUNDS):
        for threads, helpers in sides.items():
            store.helpers = helpers
            (round_,) = timed(lambda call: store.counts(kinds, asked[call % len(asked)], actions, week), CALLS, 1)
            took[threads].append(round_)
    for helpers in sides.values():
        helpers.close()
    store.helpers = ALONE
    what = f"{n * 5:,} counts of {SIZES[-1]:,} pins, in process, threads:"
    return [f for threads, of in took.items() for f in latencies(PART, f"{what} {threads}", of[1:], None, "all cores")]


def _by_rpc(store: CountersStore, recount: PlainCounts) -> list[Figure]:
    add, kinds = (
        [lambda server: add_CountersServicer_to_server(Counters(store), server)],
        np.full(ASKED, Kind.PIN, np.uint8),
    )
    with serve_shards(PART, [add], PARTITIONS) as mesh, asyncio.Runner() as runner:
        client, loop = CountersClient(mesh), runner.get_loop()

        def ask(pins: U64, windows: I64) -> Array:
            asking = client.counts(kinds, pins, ENGAGEMENTS, windows.tolist(), timeout=5)
            return np.asarray(loop.run_until_complete(asking))

        figures = _asked(ask, recount, SIZES[-1], "by RPC", 10, BOTH_ENDS)
        loop.run_until_complete(client.close())
        return figures


def _applied(store: CountersStore, increments: Increments, recount: PlainCounts) -> list[Figure]:
    """Increments a second for random pins of all, each in a chunk of its own write batch, the first chunks not counted;
    with each chunk on the disk before the next is applied, and as the service does it.
    """
    figures = []
    for synced in (True, False):
        rates, worked = [], []
        for turn in range(1 + APPLYING):
            made = list(increments.chunks(APPLIED if turn else APPLIED // 4, SIZES[-1]))
            began, busy = time.perf_counter(), time.process_time()
            for chunk in made:
                store.apply(store.shard.fresh(chunk))
                if synced:
                    store.shard.sync()
            rows = sum(record.events for chunk in made for record in chunk)
            rates.append(rows / (time.perf_counter() - began))
            worked.append((time.process_time() - busy) / rows * 1e6)
            for chunk in made:
                recount.add(chunk)
        how = "applied and durable" if synced else "applied as the service does, which leaves syncing to the log"
        note = (
            f"each chunk of {CHUNK:,} {'synced' if synced else 'written, none synced'}; one thread, RocksDB's flushes and "
            f"compactions on threads of their own; {np.median(worked[1:]):.2f} us of processor time each, theirs included"
        )
        what, target = f"increments of {SIZES[-1]:,} pins {how}", 1_000_000 if synced else None
        figures.append(repeated(PART, what, rates[1:], "increments/s", target, of=f"{rows:,} increments", note=note))
    return figures


def _started(folder: Path, recount: PlainCounts) -> Figure:
    """From the folder as it was left, and the answers then."""
    took = []
    for _ in range(STARTS):
        began = time.perf_counter()
        store = _opened(folder)
        took.append(time.perf_counter() - began)
        objects = store.objects()
        if len(took) == STARTS:
            _check(_in_process(store), recount, SIZES[-1], "opened again")
        store.shard.close()
    note = "one thread; the folder is in the page cache; counts compared again"
    return repeated(PART, f"a start that reads {objects:,} pins from disk", took, "s", note=note)
