"""The walk over a graph of pins and boards. Arrays in, arrays out; how the arrays come to be is in `pixie/snapshot.py`.

Pixie (Eksombatchai et al., "Pixie: A System for Recommending 3+ Billion Items to 200+ Million Users in Real-Time",
WWW 2018), section 3.1, algorithms 2 and 3. A step goes from a pin to one of its boards and from there to one of its
pins, as in the paper, and counts a visit of what is wanted: the board, the pin, or both. After each step the walk goes
back to its query pin with the restart probability; 1 makes every step a walk of its own, which is P3 (Cooper et al.,
"Random Walks in Recommender Systems", WWW 2014) by sampling.

Up to 64 walkers of a query pin take turns (`pixie/steps.py`), each a walk of its own with an equal part of the budget.
What they visit is counted after every two thousand steps (`pixie/counting.py`), so early stopping is exact: what was
walked beyond it is not counted.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pixie.counting import (
    AHEAD,
    CHUNK,
    STOPPED,
    Visits,
    begin,
    count,
    fold,
    full,
    grown,
    open_tally,
    scored,
)
from pixie.steps import DEGREE_BITS, GAMMA, biased_steps, mixed, steps
from services.bloom import read_only
from services.columns import F32, I64, U32, U64, Array
from services.jit import kernel
from services.prefetch import prefetch

WALKERS = 64  # that take turns; more are no faster
PART = 16  # steps of a walker at least: a smaller budget has fewer walkers
SLICE = 1 << 18  # steps between two looks at whether the caller still waits: about a hundredth of a second
NOTHING = np.empty(0, np.int64)

_PIN, _TAKEN = range(2)  # progress: which query pin, and the steps taken from it
_ONE, _START, _S32 = np.uint64(1), np.uint64(DEGREE_BITS), np.uint64(32)
_LOW = np.uint64(0xFFFF_FFFF)


class Graph(NamedTuple):
    """The runs of both sides, uint64. A run is a header, `degree << 32 | row` of its node, and the node's edges.

    An edge is `start << 28 | degree` of the run of the node it leads to, on the other side. Each run ascends by the
    interest of the nodes it leads to, then by node.
    """

    pins: U64
    pin_starts: U64  # [pins + 1] where the run of each pin begins
    pin_interests: U64  # [pins] main interest, 0: none
    boards: U64
    board_interests: U64


class Options(NamedTuple):
    """How to walk. Probabilities in 1 / 2 ** 32."""

    boards: bool  # count boards
    pins: bool  # count pins
    plain: bool  # add visits up, without the multi-hit booster
    restart: Any  # uint64
    bias: Any  # uint64
    interest: Any  # uint64
    stop_nodes: int
    stop_visits: int


class Answer(NamedTuple):
    """The best nodes, best first: uint32[k] rows, float32[k], uint32[k] index of the query pin that visited it most."""

    nodes: U32
    scores: F32
    seeds: U32
    steps: U64  # [n] counted from each query pin


def options(
    *,
    boards: bool,
    pins: bool | None = None,
    plain: bool = False,
    restart: float = 0.5,
    bias: float = 0.0,
    interest: int = 0,
    stop_nodes: int = 1 << 62,
    stop_visits: int = 1 << 62,
) -> Options:
    """Options from probabilities 0..1; without stop_nodes and stop_visits there is no early stopping.

    Counted are boards or else pins; with `pins` too, both, each as if the other had not been asked for.
    """
    one = float(1 << 32)
    return Options(
        boards,
        not boards if pins is None else pins,
        plain,
        np.uint64(restart * one),
        np.uint64((bias if interest else 0.0) * one),
        np.uint64(interest),
        stop_nodes,
        stop_visits,
    )


def budgets(degrees: I64, weights: F32, most: int, steps: int) -> I64:
    """int64[n]: `steps` shared among query pins of these degrees (0: not in the graph) and weights.

    Section 3.1, "multiple query pins": N_q = w_q s_q N / sum(w s) with s_q = |E(q)| (C - log |E(q)|), more for pins of
    high degree but less than linearly. C is 1 + log of the highest degree in the graph, `most`: with that s_q rises up
    to the highest degree, where log alone would leave nothing.
    """
    known = np.maximum(degrees, 1)
    shares = weights.astype(np.float64) * known * (1.0 + np.log(max(most, 1)) - np.log(known))
    shares[degrees == 0] = 0.0
    total = shares.sum()
    if not total:
        return np.zeros(len(degrees), np.int64)
    ends = np.floor(np.cumsum(shares) / total * steps + 0.5).astype(np.int64)
    ends[int(np.flatnonzero(shares).max()) :] = steps
    return np.asarray(np.diff(ends, prepend=0), np.int64)


def edges_to(starts: U64, rows: I64) -> U64:
    """uint64[n]: what an edge to each of these nodes is. starts: uint64[nodes + 1] of their side."""
    start = np.asarray(starts[rows], np.uint64)
    return np.asarray(start << _START | (np.asarray(starts[rows + 1], np.uint64) - start - _ONE), np.uint64)


def visited(
    graph: Graph,
    pins: I64,
    shares: I64,
    chosen: Options,
    seed: int = 1,
    alive: Callable[[], bool] = lambda: True,
) -> tuple[Visits, Visits]:
    """Walk `shares[i]` steps from the pin at row `pins[i]`: visits of boards and of pins, none of what isn't wanted.

    A node visited v_q times from query pin q scores (sum sqrt v_q) ** 2, or the sum of v_q with `plain`. The same seed
    walks the same, whatever is counted. Raises TimeoutError when `alive` says that nobody waits any more.
    """
    shares = read_only(shares, np.int64)
    from_edges = read_only(edges_to(graph.pin_starts, pins), np.uint64)
    progress, rng = np.zeros(2, np.int64), np.zeros(1, np.uint64)
    walkers = walkers_at(0)
    traces = np.zeros((2, CHUNK + AHEAD), np.uint64)
    tallies = [
        open_tally(shares if wanted else shares[:0], len(edges), len(shares))
        for wanted, edges in ((chosen.boards, graph.pins), (chosen.pins, graph.boards))
    ]
    while progress[_PIN] < len(shares):
        if not alive():
            raise TimeoutError
        _advance(graph, from_edges, shares, chosen, np.uint64(seed), progress, rng, walkers, traces, *tallies)
        tallies = [grown(tally) if full(tally) else tally for tally in tallies]
    return scored(tallies[0], chosen.plain), scored(tallies[1], chosen.plain)


def best(runs: U64, visits: Visits, k: int, discount: float = 0.0, leave_out: I64 = NOTHING) -> Answer:
    """The k best nodes of one side of the graph, whose runs these are, scores divided by degree ** discount.

    Ties go to the smaller node. Those at the rows `leave_out` are left out.
    """
    scores = visits.scores
    if discount:
        scores = scores / (_headers(runs, visits.starts) >> _S32).astype(np.float64) ** discount
    at = top(visits.starts, scores, k + len(leave_out))
    nodes = (_headers(runs, visits.starts[at]) & _LOW).astype(np.uint32)
    if len(leave_out):
        keep = ~np.isin(nodes, leave_out.astype(np.uint32))
        at, nodes = at[keep], nodes[keep]
    at, nodes = at[:k], nodes[:k]
    return Answer(nodes, scores[at].astype(np.float32), visits.seeds[at], visits.steps)


def top(nodes: Array, scores: Array, k: int) -> I64:
    """int64[min(k, n)]: rows of the best scores, best first, ties by the smaller node."""
    rows = np.arange(len(nodes))
    if k < len(nodes):
        rows = np.flatnonzero(scores >= np.partition(scores, len(nodes) - k)[len(nodes) - k])
    return rows[np.lexsort((nodes[rows], -scores[rows]))][:k]


class Walkers(NamedTuple):
    """Of each walker the edge to the pin where it is, the place of the edge that it asked for, and its draw."""

    at: U64
    asked: U64
    drawn: U64


def walkers_at(edge: int) -> Walkers:
    """All walkers at the pin that an edge leads to."""
    return Walkers(np.full(WALKERS, edge, np.uint64), np.zeros(WALKERS, np.uint64), np.zeros(WALKERS, np.uint64))


@kernel
def _advance(graph: Any, from_edges: Any, shares: Any, chosen: Any, seed: Any, progress: Any, rng: Any, walkers: Any,
             traces: Any, boards: Any, pins: Any) -> None:  # fmt: skip
    """Go on with the walks for a slice of steps, or until a tally must grow; `progress` says where they are."""
    done = 0
    while progress[_PIN] < len(shares):
        pin = progress[_PIN]
        if progress[_TAKEN] == 0:
            begin(boards, min(shares[pin], len(graph.pins)) if chosen.boards else 0)
            begin(pins, min(shares[pin], len(graph.boards)) if chosen.pins else 0)
            walkers.at[:] = from_edges[pin]
            rng[0] = mixed(seed + GAMMA * np.uint64(pin + 1))  # a stream for each query pin, however long the others'
        some = min(WALKERS, max(1, shares[pin] // PART))
        left = shares[pin] - progress[_TAKEN]
        n = min(CHUNK // some * some, left)
        if chosen.bias > 0:
            rng[0] = biased_steps(graph, chosen, from_edges[pin], n, some, rng[0], walkers, traces[0], traces[1])
        else:
            rng[0] = steps(graph, chosen, from_edges[pin], n, some, rng[0], walkers, traces[0], traces[1])
        if not boards.numbers[STOPPED]:
            boards.steps[pin] += count(traces[0], n, boards, chosen)
        if not pins.numbers[STOPPED]:
            pins.steps[pin] += count(traces[1], n, pins, chosen)
        progress[_TAKEN] += n
        done += n
        if n == left or (boards.numbers[STOPPED] and pins.numbers[STOPPED]):
            fold(boards, pin)
            fold(pins, pin)
            progress[_PIN] += 1
            progress[_TAKEN] = 0
        elif full(boards) or full(pins):
            return
        if done >= SLICE:
            return


@kernel
def _headers(runs: Any, starts: Any) -> Any:
    """uint64[n]: the header of each run."""
    found = np.empty(len(starts), np.uint64)
    for i in range(len(starts)):
        prefetch(runs, np.int64(starts[min(i + AHEAD, len(starts) - 1)]))
        found[i] = runs[min(starts[i], np.uint64(len(runs) - 1))]
    return found
