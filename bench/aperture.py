"""The filter of what a user has seen: over 10,000 impressions of months, most of them frozen, in process and by RPC."""

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
IMPRESSIONS, USERS, DAYS, CALLS = 10_000, 40, 120, 1_000


def history(user: int, seed: int) -> Batch:
    """A user's impressions over months, in order."""
    rng, now = np.random.default_rng(seed), wall_clock()
    at_ms = np.sort(now - rng.integers(0, DAYS * DAY_MS, IMPRESSIONS))
    pins = rng.integers(1, 10_000_000, IMPRESSIONS)
    ids = rng.integers(1, 2**63, IMPRESSIONS)
    return events(IMPRESSIONS, user=user, action=Action.IMPRESSION, pin=pins, at_ms=at_ms, id=ids)


def measure(_: str | None) -> list[Figure]:
    """In process, then through RPC."""
    with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as folder:
        shard = Shard(Path(folder), layout.FORMAT, layout.FAMILIES)
        store, offsets = ApertureStore(shard, range(PARTITIONS), PARTITIONS, wall_clock), Offsets(PARTITIONS)
        for user in range(1, USERS + 1):
            made = history(user, user)
            for start in range(0, IMPRESSIONS, 250):
                store.apply(offsets.records(made.slice(start, start + 250), TOPICS))
        while store.freezer.step():
            pass
        figures = _in_process(store)
        add = [lambda server: add_ApertureServicer_to_server(Aperture(store), server)]
        with serve_shards("aperture", [add], PARTITIONS) as mesh:
            figures += asyncio.run(_by_rpc(mesh))
        shard.close()
        return figures


def _in_process(store: ApertureStore) -> list[Figure]:
    took = []
    for call in range(CALLS + 20):
        started = time.perf_counter()
        bloom.build(store.seen(1 + call % USERS), 0.01)
        took.append(time.perf_counter() - started)
    return latencies("aperture", f"filter over {IMPRESSIONS:,} impressions, in process", took[20:], 10)


async def _by_rpc(mesh: Mesh) -> list[Figure]:
    client, took = ApertureClient(mesh), []
    for call in range(CALLS + 20):
        started = time.perf_counter()
        await client.seen_filter(1 + call % USERS, false_positive_rate=0.01, exact=True, timeout=5)
        took.append(time.perf_counter() - started)
    await client.close()
    return latencies("aperture", f"filter over {IMPRESSIONS:,} impressions and the exact list, by RPC", took[20:], 10)
