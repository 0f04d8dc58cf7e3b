"""The walk beside dgl's PinSAGE sampler, igraph's random walk, and the walk as one would write it plainly."""

import random
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from scipy import sparse, stats

from bench.peers.pairing import Ours, Side, compared, opened, pinned
from bench.report import Figure
from pixie import kernel
from pixie.build import Edges, build
from pixie.store import PixieStore, Question
from services.core.clock import wall_clock
from services.core.columns import Array, ids
from services.kernels.jit import kernel as compiled

PART = "pixie"
PINS, BOARDS, EDGES = 500_000, 100_000, 3_000_000
STEPS, K, QUERY = 100_000, 1_000, 7
SMALL_PINS, SMALL_BOARDS, SMALL_EDGES = 200, 40, 900
CERTAIN = 1e-4  # of a chi-square: below it the walk is not the walk


class Plain:
    """A graph as lists (for Python) and as rows (for numba), and the walk with restarts over each, counted by the pin."""

    def __init__(self, pins: Array, boards: Array) -> None:
        self.pin_offsets, self.pin_edges = _rows(pins, boards)
        self.board_offsets, self.board_edges = _rows(boards, pins)
        self.of_pin = [part.tolist() for part in np.split(self.pin_edges, self.pin_offsets[1:-1])]
        self.of_board = [part.tolist() for part in np.split(self.board_edges, self.board_offsets[1:-1])]
        self._random = random.Random(1)

    def python(self, start: int, steps: int, restart: float) -> list[tuple[int, int]]:
        """In Python: the K pins visited most."""
        visits: Counter[int] = Counter()
        pin, choice, chance = start, self._random.choice, self._random.random
        for _ in range(steps):
            pin = choice(self.of_board[choice(self.of_pin[pin])])
            visits[pin] += 1
            if chance() < restart:
                pin = start
        return visits.most_common(K)

    def compiled(self, start: int, steps: int, restart: float) -> Array:
        """In numba: visits of every pin."""
        visits = np.zeros(len(self.pin_offsets) - 1, np.int64)
        _walk(self.pin_offsets, self.pin_edges, self.board_offsets, self.board_edges, start, steps, restart, visits)
        return visits


@compiled
def _walk(pin_offsets: Array, pin_edges: Array, board_offsets: Array, board_edges: Array, start: int, steps: int,
          restart: float, visits: Array) -> None:  # fmt: skip
    pin = start
    for _ in range(steps):
        board = pin_edges[np.random.randint(pin_offsets[pin], pin_offsets[pin + 1])]
        pin = board_edges[np.random.randint(board_offsets[board], board_offsets[board + 1])]
        visits[pin] += 1
        if np.random.random() < restart:
            pin = start


def measure(_: str | None) -> list[Figure]:
    """A small graph for the chi-square, a larger one for the times."""
    pinned()
    with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as name:
        folder = Path(name)
        graphs = {
            "large": drawn(folder / "large", PINS, BOARDS, EDGES),
            "small": drawn(folder / "small", SMALL_PINS, SMALL_BOARDS, SMALL_EDGES),
        }
        np.save(folder / "query.npy", [QUERY, STEPS, K])
        plain = {name: Plain(*edges) for name, edges in graphs.items()}
        stores = {name: _stored(folder / f"{name}-graphs", edges) for name, edges in graphs.items()}
        ours: list[Side] = [
            Ours(
                "feedmesh",
                {
                    "recommend": lambda: _asked(stores["large"], QUERY, K, 0.5),
                    "small": lambda: _visits(stores["small"]),
                },
                f"restart 0.5, counted, the best {K:,}, one thread",
            ),
            Ours(
                "plain numba",
                {
                    "recommend": lambda: _best(plain["large"].compiled(QUERY, STEPS, 0.5)),
                    "small": lambda: plain["small"].compiled(0, STEPS, 1.0),
                },
                "one walk after the other, counted in an array of all pins, one thread",
            ),
            Ours(
                "plain Python",
                {
                    "recommend": lambda: plain["large"].python(QUERY, STEPS, 0.5),
                    "small": lambda: _counted(plain["small"].python(0, STEPS, 1.0)),
                },
                "random.choice over lists and a Counter",
            ),
        ]
        peers, figures = opened(PART, ("dgl", "igraph"), "walks", folder)
        sides = [*ours, *peers]
        try:
            expected = exact(*graphs["small"])
            figures += [_checked(side, expected) for side in sides]
            what = f"{STEPS:,} steps on {EDGES / 1e6:.3g} M edges"
            least = {"plain Python": 20, "dgl": 10}
            return figures + compared(PART, what, sides, "recommend", least=least, rounds=9)
        finally:
            for side in sides:
                side.close()


def drawn(folder: Path, pins: int, boards: int, edges: int) -> tuple[Array, Array]:
    """Edges of a graph where some pins and boards are on far more than others; every node has one. In the folder too."""
    rng = np.random.default_rng(1)
    some = edges - pins - boards
    pin = np.concatenate(
        [np.arange(pins), rng.integers(0, pins, boards), (pins * rng.random(some) ** 2).astype(np.int64)]
    )
    board = np.concatenate(
        [rng.integers(0, boards, pins), np.arange(boards), (boards * rng.random(some) ** 2).astype(np.int64)]
    )
    pair = np.unique(pin * boards + board)
    folder.mkdir()
    found = pair // boards, pair % boards
    for name, values in zip(("pins", "boards"), found, strict=True):
        np.save(folder / f"{name}.npy", values)
    return found


def exact(pins: Array, boards: Array) -> Array:
    """float64[pins]: the chance of each pin to be where a step from pin 0 ends."""
    on = sparse.csr_matrix((np.ones(len(pins)), (pins, boards)))
    to_board = sparse.diags(1 / on.sum(axis=1).A1) @ on
    to_pin = sparse.diags(1 / on.sum(axis=0).A1) @ on.T
    return np.asarray((to_board @ to_pin)[0].todense()).ravel()


def _checked(side: Side, expected: Array) -> Figure:
    """Raises RuntimeError when the ends of 100,000 single steps are not distributed as they must be."""
    found = np.asarray(side.answer("small"), np.int64)
    possible = expected > 0
    if found[~possible].any() or found.sum() != STEPS:
        raise RuntimeError(f"{side.name}: {found.sum()} steps, {found[~possible].sum()} where none can end")
    p = float(stats.chisquare(found[possible], expected[possible] * STEPS).pvalue)
    if p < CERTAIN:
        raise RuntimeError(f"{side.name}: chi-square p = {p:.2g}: it does not walk as it must")
    what = f"chi-square of {STEPS:,} single steps with the exact chances, {side.name}"
    return Figure(PART, what, p, "p", CERTAIN)


def _stored(folder: Path, edges: tuple[Array, Array]) -> PixieStore:
    """Ids are rows and one more."""
    made = Edges(*(values.astype(np.uint64) + np.uint64(1) for values in edges))
    store = PixieStore(folder, wall_clock)
    store.load(build(folder, made, built_ms=wall_clock(), durable=False))
    return store


def _asked(store: PixieStore, query: int, k: int, restart: float) -> Array:
    options = kernel.options(boards=False, plain=True, restart=restart)
    seed = random.randrange(1 << 60)
    question = Question(ids([query + 1]), np.ones(1, np.float32), options, k, STEPS, 0.0, seed)
    found = store.recommend(question)
    return np.column_stack([found.ids.astype(np.int64) - 1, found.scores.astype(np.int64)])


def _visits(store: PixieStore) -> Array:
    """Of every pin of the small graph by single steps. The query pin is not answered, so it has what the others leave."""
    found = _counted([(int(pin), int(n)) for pin, n in _asked(store, 0, SMALL_PINS, 1.0)])
    found[0] = STEPS - found.sum()
    return found


def _counted(visits: list[tuple[int, int]]) -> Array:
    found = np.zeros(SMALL_PINS, np.int64)
    for pin, n in visits:
        found[pin] = n
    return found


def _best(visits: Array) -> Array:
    """The K pins visited most; only those visited at all are sorted."""
    visited = np.flatnonzero(visits)
    return visited[np.argsort(visits[visited])[: -K - 1 : -1]]


def _rows(sources: Array, targets: Array) -> tuple[Array, Array]:
    """Offsets and edges of compressed sparse rows."""
    counts = np.bincount(sources)
    return np.concatenate([[0], np.cumsum(counts)]), targets[np.argsort(sources, kind="stable")]
