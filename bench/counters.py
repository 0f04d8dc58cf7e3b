"""Tens of thousands of counts for one request, in process and by RPC."""

import asyncio
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.report import Figure, latencies
from counters import layout
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
OBJECTS, CALLS = 200_000, 300
ASKED = 4_000  # objects, five actions each: 20,000 counts
HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def filled(store: CountersStore) -> None:
    """Pins with increments by the hour, over the last two weeks."""
    rng, now = np.random.default_rng(1), wall_clock()
    offsets = [0] * PARTITIONS
    for _ in range(40):
        n = 50_000
        pins = rng.integers(1, OBJECTS + 1, n).astype(np.uint64)
        made = events(
            n,
            action=rng.choice(ENGAGEMENTS, n),
            kind=Kind.PIN,
            target=pins,
            at_ms=(now - rng.integers(0, 14 * DAY_MS, n)) // HOUR_MS * HOUR_MS,
            count=rng.integers(1, 9, n),
            id=1,
        )
        where, records = partition_of(pins, PARTITIONS), []
        for partition in range(PARTITIONS):
            part = made.take(where == partition)
            records.append(Record(Topic.COUNTS, partition, offsets[partition], now, part))
            offsets[partition] += 1
        store.apply(records)


def measure(_: str | None) -> list[Figure]:
    """In process, then through RPC."""
    with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as folder:
        shard = Shard(Path(folder), layout.FORMAT, layout.FAMILIES, 64, 16)
        store = CountersStore(shard, range(PARTITIONS), PARTITIONS, wall_clock)
        filled(store)
        figures = _in_process(store)
        add = [lambda server: add_CountersServicer_to_server(Counters(store), server)]
        with serve_shards("counters", [add], PARTITIONS) as mesh:
            figures += asyncio.run(_by_rpc(mesh))
        shard.close()
        return figures


def _asked(call: int) -> U64:
    return np.random.default_rng(call).integers(1, OBJECTS + 1, ASKED).astype(np.uint64)


def _in_process(store: CountersStore) -> list[Figure]:
    took, actions = [], np.array(ENGAGEMENTS, np.uint8)
    for call in range(CALLS + 20):
        pins = _asked(call)
        started = time.perf_counter()
        store.counts(np.full(ASKED, Kind.PIN, np.uint8), pins, actions, np.array([7 * DAY_MS], np.int64))
        took.append(time.perf_counter() - started)
    return latencies("counters", f"{ASKED * 5:,} counts of {OBJECTS:,} pins, in process", took[20:], 20)


async def _by_rpc(mesh: Mesh) -> list[Figure]:
    client, took = CountersClient(mesh), []
    kinds = np.full(ASKED, Kind.PIN, np.uint8)
    for call in range(CALLS + 20):
        pins = _asked(call)
        started = time.perf_counter()
        await client.counts(kinds, pins, ENGAGEMENTS, [7 * DAY_MS], timeout=5)
        took.append(time.perf_counter() - started)
    await client.close()
    return latencies("counters", f"{ASKED * 5:,} counts of {OBJECTS:,} pins, by RPC", took[20:], 20)
