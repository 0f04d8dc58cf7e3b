"""20,000 counts of one request beside Redis' MGET of the same keys, both over sockets; and ours in process."""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.pairing import Ours, Side, compared, opened, pinned
from bench.report import Figure
from counters import layout
from counters.client import CountersClient
from counters.service import Counters
from counters.store import CountersStore
from protos.counters_pb2_grpc import add_CountersServicer_to_server
from services.core.clock import wall_clock
from services.core.columns import U64, Array
from services.core.events import ENGAGEMENTS, Kind, events
from services.core.topics import Topic, partition_of
from services.log.memory import MemoryLog
from services.state.shard import Shard
from tests.kit import serve_shards

PART, PARTITIONS = "counters", 16
PINS, ASKED, AT_ONCE = 1_000_000, 4_000, 100_000
ACTIONS, HOUR_MS = len(ENGAGEMENTS), 3_600_000
EVER = np.zeros(1, np.int64)


def measure(_: str | None) -> list[Figure]:
    """Clients on one core, and Redis' server on the other; our server is threads of the client's process, so on its core."""
    pinned()  # before there are any threads: they are pinned as well
    counts = np.random.default_rng(1).integers(1, 2_000, (PINS, ACTIONS))
    pins = np.random.default_rng(2).choice(PINS, ASKED, replace=False)
    actions = np.array(ENGAGEMENTS, np.uint8)
    with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as name:
        folder = Path(name)
        shard = Shard(folder / "counters", layout.FORMAT, layout.FAMILIES, 64, 16)
        store = CountersStore(shard, range(PARTITIONS), PARTITIONS, wall_clock)
        _fill(store, counts)
        asked = pins.astype(np.uint64) + np.uint64(1)
        kinds = np.full(ASKED, Kind.PIN, np.uint8)
        _keys(folder, counts, asked)
        add = [lambda server: add_CountersServicer_to_server(Counters(store), server)]
        with serve_shards("counters", [add], PARTITIONS) as mesh, asyncio.Runner() as runner:
            client = CountersClient(mesh)
            loop = runner.get_loop()

            def by_rpc() -> Any:
                return loop.run_until_complete(client.counts(kinds, asked, ENGAGEMENTS, [0], timeout=5))

            def in_process() -> Any:
                return store.counts(kinds, asked, actions, EVER)

            try:
                return _compared(folder, {"feedmesh by RPC": by_rpc, "feedmesh in process": in_process})
            finally:
                loop.run_until_complete(client.close())
                shard.close()


def _compared(folder: Path, ours: dict[str, Callable[[], Any]]) -> list[Figure]:
    peers, figures = opened(PART, ("redis",), "counts", folder)
    wanted = np.load(folder / "wanted.npy")
    for name, work in ours.items():
        np.testing.assert_array_equal(np.asarray(work(), np.float64).ravel(), wanted, err_msg=name)
    try:
        for side in peers:
            np.testing.assert_array_equal(side.answer("counts"), wanted, err_msg=side.name)
        about = "one core: client, server and store"
        sides: list[Side] = [Ours(name, {"counts": work}, about) for name, work in ours.items()]
        what = f"{ASKED * ACTIONS:,} counts of {PINS:,} pins"
        return figures + compared(PART, what, [*sides, *peers], "counts", least={"redis": 4}, rounds=21)
    finally:
        for side in peers:
            side.close()


def _fill(store: CountersStore, counts: Array) -> None:
    """One increment a pin and action, within the present hour."""
    hour, log = wall_clock() // HOUR_MS * HOUR_MS, MemoryLog(PARTITIONS, retain=False)
    for start in range(0, PINS, AT_ONCE):
        some = counts[start : start + AT_ONCE]
        pins = np.repeat(np.arange(start + 1, start + 1 + len(some), dtype=np.uint64), ACTIONS)
        actions = np.tile(np.array(ENGAGEMENTS, np.uint8), len(some))
        made = events(some.size, action=actions, kind=Kind.PIN, target=pins, at_ms=hour, count=some.ravel(), id=1)
        where = partition_of(pins, PARTITIONS)
        for partition in range(PARTITIONS):
            store.apply([log.append_to(Topic.COUNTS, partition, made.take(where == partition), hour)])


def _keys(folder: Path, counts: Array, asked: U64) -> None:
    """All keys with their counts, and those that are asked for with their answers."""
    pins, actions = np.arange(1, PINS + 1, dtype=np.uint64), np.array(ENGAGEMENTS, np.uint64)
    np.save(folder / "keys.npy", np.column_stack([np.repeat(pins, ACTIONS), np.tile(actions, PINS)]))
    np.save(folder / "counts.npy", counts.ravel())
    np.save(folder / "asked.npy", np.column_stack([np.repeat(asked, ACTIONS), np.tile(actions, len(asked))]))
    of = counts[asked.astype(np.int64) - 1].astype(np.float16).astype(np.float64)
    np.save(folder / "wanted.npy", of.ravel())
