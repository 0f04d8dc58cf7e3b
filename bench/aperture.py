"""The filter of what a user has seen: over 1,000 to 50,000 impressions of months, most of them frozen, in process; and by
RPC over the most.
"""

import asyncio
import tempfile
import time
from pathlib import Path

import numpy as np

from aperture import layout
from aperture.client import ApertureClient
from aperture.service import Aperture
from aperture.store import TOPICS, ApertureStore
from bench.report import Figure, latencies
from protos.aperture_pb2_grpc import add_ApertureServicer_to_server
from services import bloom
from services.clock import DAY_MS, wall_clock
from services.events import Action, Batch, events
from services.mesh import Mesh
from services.shard import Shard
from tests.kit import Offsets, serve_shards

PARTITIONS = 16
SIZES, USERS, DAYS, CALLS = (1_000, 10_000, 50_000), 10, 120, 500  # users of each size


def history(user: int, impressions: int) -> Batch:
    """A user's impressions over months, in order."""
    rng, now = np.random.default_rng(user), wall_clock()
    at_ms = np.sort(now - rng.integers(0, DAYS * DAY_MS, impressions))
    pins = rng.integers(1, 10_000_000, impressions)
    ids = rng.integers(1, 2**63, impressions)
    return events(impressions, user=user, action=Action.IMPRESSION, pin=pins, at_ms=at_ms, id=ids)


def measure(_: str | None) -> list[Figure]:
    """In process, then through RPC."""
    with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as folder:
        shard = Shard(Path(folder), layout.FORMAT, layout.FAMILIES)
        store, offsets = ApertureStore(shard, range(PARTITIONS), PARTITIONS, wall_clock), Offsets(PARTITIONS)
        for number, size in enumerate(SIZES):
            for user in _users(number):
                made = history(user, size)
                for start in range(0, size, 250):
                    store.apply(offsets.records(made.slice(start, start + 250), TOPICS))
        while store.freezer.step():
            pass
        figures = [figure for number in range(len(SIZES)) for figure in _in_process(store, number)]
        add = [lambda server: add_ApertureServicer_to_server(Aperture(store), server)]
        with serve_shards("aperture", [add], PARTITIONS) as mesh:
            figures += asyncio.run(_by_rpc(mesh))
        shard.close()
        return figures


def _users(number: int) -> range:
    """Those with SIZES[number] impressions."""
    return range(1 + number * USERS, 1 + (number + 1) * USERS)


def _in_process(store: ApertureStore, number: int) -> list[Figure]:
    took, users, size = [], _users(number), SIZES[number]
    for call in range(CALLS + 20):
        started = time.perf_counter()
        bloom.build(store.seen(users[call % USERS]), 0.01)
        took.append(time.perf_counter() - started)
    least = Figure(
        "aperture", f"filter over {size:,} impressions, fastest call", min(took) / size * 1e9, "ns/impression"
    )
    return [*latencies("aperture", f"filter over {size:,} impressions, in process", took[20:], 5), least]


async def _by_rpc(mesh: Mesh) -> list[Figure]:
    client, took, users = ApertureClient(mesh), [], _users(len(SIZES) - 1)
    for call in range(CALLS + 20):
        started = time.perf_counter()
        await client.seen_filter(users[call % USERS], false_positive_rate=0.01, exact=True, timeout=5)
        took.append(time.perf_counter() - started)
    await client.close()
    return latencies("aperture", f"filter over {SIZES[-1]:,} impressions and the exact list, by RPC", took[20:], 10)
