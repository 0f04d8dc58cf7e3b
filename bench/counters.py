"""Tens of thousands of counts for one request over millions of objects, in process and by RPC; and increments applied.

Cost as the work grows: the same question over 10,000 to 5,000,000 objects.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.report import Figure, latencies
from counters import layout, table
from counters.client import CountersClient
from counters.service import Counters
from counters.store import CountersStore
from protos.counters_pb2_grpc import add_CountersServicer_to_server
from services.clock import wall_clock
from services.columns import U64
from services.events import ENGAGEMENTS, Kind, events
from services.log import Record
from services.mesh import Mesh
from services.shard import Shard
from services.topics import Topic, partition_of
from tests.kit import serve_shards

PARTITIONS = 16
SIZES = (10_000, 100_000, 1_000_000, 5_000_000)
PER_OBJECT, CALLS = 2, 300  # increments of an object on average
ASKED = 4_000  # objects, five actions each: 20,000 counts
APPLIED, CHUNK = 2_000_000, 16_000  # increments, and how many of them are one chunk of the log
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
PART = "counters"


class Increments:
    """Records of increments for pins as the aggregator writes them, over the last two weeks."""

    def __init__(self) -> None:
        self._offsets, self._chance = [0] * PARTITIONS, np.random.default_rng(1)

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
            records.append(Record(Topic.COUNTS, partition, self._offsets[partition], now, part))
            self._offsets[partition] += 1
        return records

    def chunks(self, n: int, objects: int) -> Iterator[list[Record]]:
        """n increments for random pins."""
        for _ in range(0, n, CHUNK):
            yield self.chunk(self._chance.integers(1, objects + 1, CHUNK).astype(np.uint64))


def measure(_: str | None) -> list[Figure]:
    """In process at each size; then by RPC, and applying, at the largest."""
    table.warm()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as folder:
        shard = Shard(Path(folder), layout.FORMAT, layout.FAMILIES, 64, 16)
        store, increments, before = CountersStore(shard, range(PARTITIONS), PARTITIONS, wall_clock), Increments(), 0
        for size in SIZES:
            _fill(store, increments, before, size)
            before = size
            figures += _in_process(store, size)
        add = [lambda server: add_CountersServicer_to_server(Counters(store), server)]
        with serve_shards(PART, [add], PARTITIONS) as mesh:
            figures += asyncio.run(_by_rpc(mesh))
        figures += _applied(store, increments)
        each = store.memory_bytes() / store.objects()
        figures.append(
            Figure(PART, f"memory of an object, of {SIZES[-1]:,} with {PER_OBJECT} increments", each, "bytes")
        )
        shard.close()
        figures += _opened(Path(folder))
        return figures


def _fill(store: CountersStore, increments: Increments, before: int, size: int) -> None:
    """Pins before+1 to size, each counted once, and others of all again."""
    rng = np.random.default_rng(size)
    for start in range(before, size, 200_000):
        new = np.arange(start + 1, min(start + 200_000, size) + 1, dtype=np.uint64)
        for _ in range(PER_OBJECT - 1):
            again = rng.integers(1, size + 1, len(new)).astype(np.uint64)
            new = np.concatenate([new, again])
        store.apply(increments.chunk(new))


def _asked(call: int, objects: int) -> U64:
    return np.random.default_rng(call).integers(1, objects + 1, ASKED).astype(np.uint64)


def _in_process(store: CountersStore, size: int) -> list[Figure]:
    took, actions = [], np.array(ENGAGEMENTS, np.uint8)
    for call in range(CALLS + 20):
        pins = _asked(call, size)
        started = time.perf_counter()
        store.counts(np.full(ASKED, Kind.PIN, np.uint8), pins, actions, np.array([7 * DAY_MS], np.int64))
        took.append(time.perf_counter() - started)
    figures = latencies(PART, f"{ASKED * 5:,} counts of {size:,} pins, in process", took[20:], 5)
    least = Figure(
        PART, f"one of {ASKED * 5:,} counts of {size:,} pins, fastest call", min(took) / (ASKED * 5) * 1e9, "ns"
    )
    return [*figures, least]


async def _by_rpc(mesh: Mesh) -> list[Figure]:
    client, took = CountersClient(mesh), []
    kinds = np.full(ASKED, Kind.PIN, np.uint8)
    for call in range(CALLS + 20):
        pins = _asked(call, SIZES[-1])
        started = time.perf_counter()
        await client.counts(kinds, pins, ENGAGEMENTS, [7 * DAY_MS], timeout=5)
        took.append(time.perf_counter() - started)
    await client.close()
    return latencies(PART, f"{ASKED * 5:,} counts of {SIZES[-1]:,} pins, by RPC", took[20:], 10)


def _applied(store: CountersStore, increments: Increments) -> list[Figure]:
    """Increments a second for random pins of all, each in a chunk of its own write batch, and synced at the end."""
    made = list(increments.chunks(APPLIED, SIZES[-1]))
    rows = sum(len(record.batch) for chunk in made for record in chunk)
    started, busy = time.perf_counter(), time.process_time()
    for chunk in made:
        store.apply(store.shard.fresh(chunk))
    store.shard.sync()
    took, worked = time.perf_counter() - started, time.process_time() - busy
    what = f"increments of {SIZES[-1]:,} pins applied and durable, in chunks of {CHUNK:,}"
    note = f"{worked / rows * 1e6:.2f} us of processor time each, RocksDB's flushes and compactions included"
    return [Figure(PART, what, rows / took, "increments/s", 1_000_000, note=note)]


def _opened(folder: Path) -> list[Figure]:
    started = time.perf_counter()
    shard = Shard(folder, layout.FORMAT, layout.FAMILIES, 64, 16)
    store = CountersStore(shard, range(PARTITIONS), PARTITIONS, wall_clock)
    took = time.perf_counter() - started
    shard.close()
    return [Figure(PART, f"a start that reads {store.objects():,} pins from disk", took, "s")]
