"""Retrieval: 300 boards of 100 pins each to the best 1,000 that are not in a filter of 10,000, in process and by RPC.

Cost as the work grows: 30 to 3,000 boards in process. The lists are in memory after the first questions; what they cost
without that is measured too, with room for next to none.
"""

import asyncio
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.report import Figure, latencies
from polaris import layout
from polaris.client import BOARD, PolarisClient
from polaris.kernel import Light
from polaris.service import Polaris
from polaris.store import TOPICS, Limits, PolarisStore, Sources, Wanted
from protos.polaris_pb2_grpc import add_PolarisServicer_to_server
from services import bloom
from services.clock import DAY_MS, wall_clock
from services.events import Action, events
from services.mesh import Mesh
from services.shard import Shard
from tests.kit import Offsets, serve_shards

PARTITIONS, LISTS_BYTES, NO_LISTS_BYTES = 16, 64 << 20, 1 << 18
BOARDS, ASKED, PINS, SEEN, K, CALLS = 3_000, 300, 100, 10_000, 1_000, 1_000
SIZES = (30, ASKED, BOARDS)  # boards of one question


def opened(folder: Path, lists_bytes: int = LISTS_BYTES) -> PolarisStore:
    """What is in the folder, with room for lists in memory."""
    shard = Shard(folder, layout.FORMAT, layout.FAMILIES)
    return PolarisStore(shard, PARTITIONS, Light(), Limits(64, 4096, lists_bytes))


def filled(folder: Path) -> PolarisStore:
    """A store of 3,000 boards with 100 pins each."""
    store = opened(folder)
    rng, offsets, now = np.random.default_rng(1), Offsets(PARTITIONS), wall_clock()
    for _ in range(PINS // 10):
        n = BOARDS * 10
        saves = events(
            n,
            user=1,
            action=Action.SAVE,
            pin=rng.integers(1, 2_000_000, n),
            board=np.repeat(np.arange(1, BOARDS + 1), 10),
            at_ms=now - rng.integers(0, 365 * DAY_MS, n),
            quality=rng.random(n),
            id=rng.integers(1, 2**63, n),
        )
        store.apply(offsets.records(saves, TOPICS))
    return store


def measure(_: str | None) -> list[Figure]:
    """In process at each size, then by RPC and client."""
    with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as folder:
        store = filled(Path(folder))
        figures = [figure for size in SIZES for figure in _in_process(store, size, "", 5 if size == ASKED else None)]
        add = [lambda server: add_PolarisServicer_to_server(Polaris(store), server)]
        with serve_shards("polaris", [add], PARTITIONS) as mesh:
            took, considered = asyncio.run(_ask(mesh))
        store.shard.close()
        store = opened(Path(folder), NO_LISTS_BYTES)
        figures += _in_process(store, ASKED, ", read from disk", None)
        store.shard.close()
    what = f"{ASKED} boards, {considered:,.0f} pins, filter of {SEEN:,}, best {K:,}, by RPC"
    return [*figures, *latencies("polaris", what, took, 15)]


def _in_process(store: PolarisStore, boards: int, how: str, target: float | None) -> list[Figure]:
    rng, took = np.random.default_rng(3), []
    seen = bloom.build(rng.integers(1, 2_000_000, SEEN).astype(np.uint64), 0.01)
    for _ in range(CALLS * ASKED // max(boards, ASKED) + 20):
        asked = rng.choice(BOARDS, boards, replace=False).astype(np.uint64) + np.uint64(1)
        weights = rng.choice(np.array([0.7, 1.0], np.float32), boards)
        wanted = Wanted(weights, seen, K, per_source=0, now_ms=wall_clock(), max_age_ms=0)
        started = time.perf_counter()
        store.retrieve(Sources(np.full(boards, BOARD, np.uint8), asked), wanted)
        took.append(time.perf_counter() - started)
    what = f"{boards:,} boards, {boards * PINS:,} pins, best {K:,}{how}"
    least = Figure("polaris", f"{what}, fastest call", min(took) / boards / PINS * 1e9, "ns/pin")
    return [*latencies("polaris", f"{what}, in process", took[20:], target), least]


async def _ask(mesh: Mesh) -> tuple[list[float], float]:
    client, rng = PolarisClient(mesh), np.random.default_rng(2)
    took: list[float] = []
    considered: list[int] = []
    seen = bloom.to_bytes(bloom.build(rng.integers(1, 2_000_000, SEEN).astype(np.uint64), 0.01))
    for call in range(CALLS + 20):
        boards = rng.choice(BOARDS, ASKED, replace=False).astype(np.uint64) + np.uint64(1)
        weights = rng.choice(np.array([0.7, 1.0], np.float32), ASKED)
        started = time.perf_counter()
        found = await client.retrieve(
            np.full(ASKED, BOARD, np.uint8),
            boards,
            weights,
            seen=seen,
            k=K,
            per_source=0,
            now_ms=wall_clock(),
            max_age_ms=0,
            explain=False,
            timeout=5,
        )
        took.append(time.perf_counter() - started)
        considered.append(found.considered)
        if len(found.pins) != K:
            raise RuntimeError(f"call {call}: {len(found.pins)} pins, expected {K}")
    await client.close()
    return took[20:], float(np.mean(considered))
