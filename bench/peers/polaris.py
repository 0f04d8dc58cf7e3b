"""The best 1,000 of 300 boards beside plain numpy and Redis' sorted sets; answers compared first.

The question is that of `bench/polaris.py`. In Redis each board is a sorted set of its pins by e to the light score, so that a
board's weight multiplies; ages are as of one moment, since it is only the order that counts. Redis and numpy know exactly
which pins are seen: those that our filter holds, so that all answer the same.
"""

import asyncio
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from bench.boards import PINS, SEEN, Best, K, List, Question, best_of, filter_of, lists_of, questions, saved
from bench.peers.pairing import Ours, Side, compared, opened, pinned
from bench.polaris import ASKED, PARTITIONS, by_rpc, filled, in_process
from bench.report import Figure
from polaris.client import PolarisClient
from polaris.kernel import Light
from polaris.service import Polaris
from protos.polaris_pb2_grpc import add_PolarisServicer_to_server
from services.core.columns import U64
from tests.kit import serve_shards

PART, CLOSE = "polaris", 1e-6
ABOUT = {
    "feedmesh by RPC": "one core: client, server and store",
    "feedmesh in process": "one thread",
    "plain numpy": "one thread",
}


def measure(_: str | None) -> list[Figure]:
    """Clients on one core, and Redis' server on the other; our server is threads of the client's process, so on its core."""
    pinned()  # before there are any threads: they are pinned as well
    saves = saved()
    lists = lists_of(saves)
    seen, left_out = filter_of(lists)
    (question,) = questions(ASKED, 1)
    with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as name:
        folder = Path(name)
        store = filled(folder / "polaris", saves)
        _sets(folder, lists, question, left_out)
        add = [lambda server: add_PolarisServicer_to_server(Polaris(store), server)]
        with serve_shards(PART, [add], PARTITIONS) as mesh, asyncio.Runner() as runner:
            client, loop = PolarisClient(mesh), runner.get_loop()
            ours = {
                "feedmesh by RPC": partial(by_rpc(client, seen, loop), question),
                "feedmesh in process": partial(in_process(store, seen), question),
                "plain numpy": partial(plain, lists, question, left_out),
            }
            try:
                return _compared(folder, ours, best_of(lists, question, left_out))
            finally:
                loop.run_until_complete(client.close())
                store.shard.close()


def plain(lists: dict[int, List], question: Question, seen: U64) -> Best:
    """Plain numpy: the lists back to back, the unseen, each pin's best score, the best K in order."""
    found = [lists[board] for board in question.boards.tolist()]
    pins, at_ms, quality = (np.concatenate(column) for column in zip(*found, strict=True))
    weights = np.repeat(np.log(question.weights), [len(one.pins) for one in found])
    light = Light()
    scores = weights + light.quality * quality - np.maximum(0, question.now_ms - at_ms) / light.scale_ms
    new = ~np.isin(pins, seen)
    distinct, which = np.unique(pins[new], return_inverse=True)
    best = np.full(len(distinct), -np.inf)
    np.maximum.at(best, which, scores[new])
    top = np.argpartition(-best, K)[:K]
    top = top[np.argsort(-best[top])]
    return Best(distinct[top], best[top].astype(np.float32))


def _compared(folder: Path, asks: Mapping[str, Callable[[], Best]], expected: Best) -> list[Figure]:
    ours = [_side(name, ask) for name, ask in asks.items()]
    peers, figures = opened(PART, ("redis",), "boards", folder)
    try:
        for side in (*ours, *peers):
            _same(side, expected)
        what = f"{ASKED} boards, {ASKED * PINS:,} pins, {SEEN:,} seen, best {K:,}"
        of_both = compared(PART, f"{what}, by socket", [ours[0], *peers], "best", rounds=21)
        return figures + of_both + compared(PART, f"{what}, in process", ours[1:], "best", rounds=21)
    finally:
        for side in peers:
            side.close()


def _side(name: str, ask: Callable[[], Best]) -> Side:
    return Ours(name, {"best": ask, "pins": lambda: ask().pins}, ABOUT[name])


def _same(side: Side, expected: Best) -> None:
    """Raises RuntimeError for other pins than expected; such as differ in the last digits of a float32 may change places."""
    found, score = side.answer("pins"), dict(zip(expected.pins.tolist(), expected.scores.tolist(), strict=True))
    scores = np.array([score.get(pin, -np.inf) for pin in found.tolist()])
    if len(set(found.tolist())) != K or not np.allclose(scores, expected.scores, rtol=0, atol=CLOSE):
        raise RuntimeError(
            f"{side.name}: {len(found)} pins, {np.isinf(scores).sum()} of them not those of the slow answer"
        )


def _sets(folder: Path, lists: dict[int, List], question: Question, seen: U64) -> None:
    """For Redis: of every posting its board, pin and e to the score; the pins seen; and the question."""
    light, boards = Light(), np.repeat(list(lists), [len(one.pins) for one in lists.values()])
    pins, at_ms, quality = (np.concatenate(column) for column in zip(*lists.values(), strict=True))
    score = light.quality * quality.astype(np.float64) - np.maximum(0, question.now_ms - at_ms) / light.scale_ms
    columns = {"boards": boards, "pins": pins, "scores": np.exp(score), "seen": seen, "k": np.array([K])}
    columns |= {"asked": question.boards, "weights": question.weights.astype(np.float64)}
    for name, values in columns.items():
        np.save(folder / f"{name}.npy", values)
