"""Retrieval: 300 boards of 100 pins each to the best 1,000 that are not in a filter of 10,000, in process and by RPC.

Cost as the work grows: 30 to 3,000 boards in process. The lists are in memory after the first questions; their cost
without that is measured too, with next to no memory for them. Before each is timed, its answers are those of `best_of`.
"""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.boards import BOARDS, PINS, SEEN, Best, K, List, Question, best_of, filter_of, lists_of, questions, saved
from bench.report import Figure, over
from bench.rounds import BOTH_ENDS, ONE_CORE, latencies, on_one_core, repeated, timed
from polaris import layout
from polaris.client import BOARD, PolarisClient
from polaris.kernel import Light
from polaris.service import Polaris
from polaris.store import TOPICS, Limits, PolarisStore, Sources, Wanted
from protos.polaris_pb2_grpc import add_PolarisServicer_to_server
from services.core.columns import U32, U64
from services.core.events import Batch
from services.kernels import bloom
from services.log.memory import MemoryLog
from services.state.shard import Shard
from tests.kit import serve_shards

PART, PARTITIONS, LISTS_BYTES, NO_LISTS_BYTES = "polaris", 16, 64 << 20, 1 << 18
ASKED, CALLS, CHECKED = 300, 200, 5  # boards of a question; calls of a round; questions whose answers are checked
SIZES = (30, ASKED, BOARDS)

Ask = Callable[[Question], Best]


def opened(folder: Path, lists_bytes: int = LISTS_BYTES) -> PolarisStore:
    """The store in the folder, with memory for its lists."""
    shard = Shard(folder, layout.FORMAT, layout.FAMILIES)
    return PolarisStore(shard, PARTITIONS, Light(), Limits(64, 4096, lists_bytes))


def filled(folder: Path, saves: list[Batch]) -> PolarisStore:
    """A store of these saves."""
    store, offsets = opened(folder), MemoryLog(PARTITIONS, retain=False)
    for batch in saves:
        store.apply(offsets.append(batch, TOPICS))
    return store


def in_process(store: PolarisStore, seen: U32) -> Ask:
    """How a store is asked in process."""
    kinds = {size: np.full(size, BOARD, np.uint8) for size in SIZES}

    def ask(question: Question) -> Best:
        wanted = Wanted(question.weights, seen, K, per_source=0, now_ms=question.now_ms, max_age_ms=0)
        _, chosen = store.retrieve(Sources(kinds[len(question.boards)], question.boards), wanted)
        return Best(chosen.pins, chosen.scores)

    return ask


def by_rpc(client: PolarisClient, seen: U32, loop: asyncio.AbstractEventLoop) -> Ask:
    """How a server is asked."""
    kinds, words = np.full(ASKED, BOARD, np.uint8), bloom.to_bytes(seen)

    def ask(question: Question) -> Best:
        boards, weights, now_ms = question
        found = loop.run_until_complete(
            client.retrieve(
                kinds, boards, weights, seen=words, k=K, per_source=0, now_ms=now_ms, max_age_ms=0, timeout=5
            )
        )
        return Best(found.pins, found.scores)

    return ask


class CheckedTimes:
    """Answers checked, then times."""

    def __init__(self, lists: dict[int, List], left_out: U64) -> None:
        """left_out: the pins that the filter holds, as `filter_of` has them."""
        self._lists, self._left_out = lists, left_out

    def figures(self, ask: Ask, boards: int, what: str, target: float | None, note: str) -> list[Figure]:
        """P50 and P99 of a question, and its time by the pin. Raises AssertionError for another answer than the slow one."""
        for question in questions(boards, CHECKED):
            expected = best_of(self._lists, question, self._left_out)
            for got, right in zip(ask(question), expected, strict=True):
                np.testing.assert_array_equal(got, right, err_msg=what)
        asked = questions(boards, CALLS)
        rounds = timed(lambda call: ask(asked[call % CALLS]), CALLS if boards <= ASKED else CALLS // 2)
        each = [float(np.median(took)) / boards / PINS * 1e9 for took in rounds]
        return [
            *latencies(PART, what, rounds, target, note),
            repeated(PART, f"{what}, a pin", each, "ns", of=f"{len(rounds[0])} calls", note=note),
        ]


def measure(_: str | None) -> list[Figure]:
    """In process at each size, then by RPC, then with reads from disk."""
    saves = saved()
    lists = lists_of(saves)
    seen, left_out = filter_of(lists)
    measured, figures = CheckedTimes(lists, left_out), list[Figure]()
    with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as folder:
        store = filled(Path(folder), saves)
        for size in SIZES:
            target = 5 if size == ASKED else None
            with on_one_core():
                found = measured.figures(in_process(store, seen), size, _what(size, "in process"), target, ONE_CORE)
            figures += over("pins", size * PINS, found, said=f"{size:,} boards, {size * PINS:,} pins")
        add = [lambda server: add_PolarisServicer_to_server(Polaris(store), server)]
        with serve_shards(PART, [add], PARTITIONS) as mesh, asyncio.Runner() as runner:
            client, loop = PolarisClient(mesh), runner.get_loop()
            figures += measured.figures(by_rpc(client, seen, loop), ASKED, _what(ASKED, "by RPC"), 15, BOTH_ENDS)
            loop.run_until_complete(client.close())
        store.shard.close()
        store = opened(Path(folder), NO_LISTS_BYTES)
        with on_one_core():
            what = _what(ASKED, "read from disk, in process")
            figures += measured.figures(in_process(store, seen), ASKED, what, None, ONE_CORE)
        store.shard.close()
    return figures


def _what(boards: int, how: str) -> str:
    return f"{boards:,} boards, {boards * PINS:,} pins, filter of {SEEN:,}, best {K:,}, {how}"
