"""Pixie alone, without a mesh: a snapshot of a data set's saves and the store that walks it, asked from two threads."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pixie import kernel
from pixie.build import Edges, build
from pixie.kernel import Options
from pixie.store import NearNodes, PixieStore, Question
from services.core.clock import wall_clock
from services.core.columns import I64, Array, ids

THREADS = 2
#: One step a walk, visits added up: a sample of the walk that RP3beta computes.
SINGLE = kernel.options(boards=False, plain=True, restart=1.0)
#: The options of a request that states none: restarts, early stopping and the multi-hit booster.
SERVED = kernel.options(boards=False, restart=0.5, stop_nodes=2_000, stop_visits=4)


@dataclass(frozen=True, slots=True)
class Way:
    """How to walk: steps of a request, discount of popularity, and the rest."""

    steps: int
    discount: float
    options: Options = SINGLE


class Walks:
    """A graph to ask. Pins are rows of the data set; on the wire they would be ids, which are rows + 1."""

    def __init__(self, store: PixieStore) -> None:
        self._store = store

    def ask(
        self, queries: Sequence[I64], way: Way, k: int, done: Callable[[int], None] = lambda _: None
    ) -> tuple[list[tuple[I64, Array]], Array]:
        """Pins and scores, best first, near each query's pins, and the milliseconds of a core that each took.

        done(how many) is called from time to time.
        """

        def one(index: int) -> tuple[NearNodes, float]:
            pins = ids(queries[index]) + np.uint64(1)
            weights = np.ones(len(pins), np.float32)
            began = time.thread_time()
            question = Question(pins, weights, way.options, k, way.steps, way.discount, seed=index + 1)
            return self._store.recommend(question), 1000 * (time.thread_time() - began)

        found, took = [], np.empty(len(queries))
        with ThreadPoolExecutor(THREADS) as pool:
            for index, (answer, ms) in enumerate(pool.map(one, range(len(queries)))):
                found.append((answer.ids.astype(np.int64) - 1, answer.scores))
                took[index] = ms
                if index % 50 == 49:
                    done(index + 1)
        return found, took


@contextmanager
def graph_of(boards: I64, pins: I64) -> Iterator[Walks]:
    """The graph of these saves (rows of boards and pins) until the block ends."""
    with TemporaryDirectory() as folder:
        edges = Edges(ids(pins) + np.uint64(1), ids(boards) + np.uint64(1))
        version = build(Path(folder), edges, built_ms=wall_clock(), durable=False)
        store = PixieStore(Path(folder), wall_clock)
        store.load(version)
        yield Walks(store)


def starting_weights(degree: Array) -> Array:
    """float64[pins]: in what proportion Pixie shares its steps among query pins of these degrees."""
    most = int(degree.max())
    steps = 1 << 40
    shares = kernel.budgets(degree.astype(np.int64), np.ones(len(degree), np.float32), most, steps)
    return shares / steps
