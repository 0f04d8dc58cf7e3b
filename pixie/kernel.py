"""The walk over a graph of pins and boards. Arrays in, arrays out; how the arrays come to be is in `pixie/snapshot.py`.

Pixie (Eksombatchai et al., "Pixie: A System for Recommending 3+ Billion Items to 200+ Million Users in Real-Time",
WWW 2018), section 3.1, algorithms 2 and 3. A step goes from a pin to one of its boards and from there to one of its
pins, as in the paper, and counts a visit as asked: of the board, the pin, or both. After each step the walk goes
back to its query pin with the restart probability; 1 makes every step a walk of its own, which is P3 (Cooper et al.,
"Random Walks in Recommender Systems", WWW 2014) by sampling.

Up to 64 walkers of a query pin step alternately (`pixie/steps.py`), each a walk of its own with an equal part of the budget.
All begin at the query pin, which a budget of few steps shows (README, "Beside the paper").
Their visits are counted after every two thousand steps (`pixie/counting.py`), so early stopping is exact: steps beyond
it are not counted.
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
from pixie.ranking import discounted, nearest
from pixie.steps import DEGREE_BITS, GAMMA, MAX_DEGREE, biased_steps, mixed, steps
from services.core.checks import check_lengths
from services.core.columns import F32, I64, U32, U64
from services.kernels.jit import kernel

WALKERS = 64  # that step alternately; more are no faster
PART = 16  # steps of a walker at least: a smaller budget has fewer walkers
SLICE = 1 << 18  # steps between two looks at whether the caller still waits: about a hundredth of a second
NOTHING = np.empty(0, np.int64)

_PIN, _TAKEN = range(2)  # progress: which query pin, and the steps taken from it
_ONE, _START, _DEGREE = np.uint64(1), np.uint64(DEGREE_BITS), np.uint64(MAX_DEGREE)


class GraphRuns(NamedTuple):
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


class BestNodes(NamedTuple):
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
    to the highest degree, where log alone would leave nothing. Raises ValueError for columns of unequal lengths.
    """
    check_lengths(len(degrees), weights=weights)
    known = np.maximum(degrees, 1)
    shares = weights.astype(np.float64) * known * (1.0 + np.log(max(most, 1)) - np.log(known))
    shares *= degrees > 0
    budget: I64 = _shared(shares, shares.sum(), steps)
    return budget


@kernel
def rows_among(ids: Any, values: Any) -> Any:
    """int64[n]: the row of each value among ascending ids, 0 if it has none; bool[n]: whether it has."""
    rows, known = np.searchsorted(ids, values), np.zeros(len(values), np.bool_)
    for i in range(len(values)):
        known[i] = rows[i] < len(ids) and ids[rows[i]] == values[i]
        rows[i] *= known[i]
    return rows, known


@kernel
def edges_to(starts: Any, rows: Any) -> Any:
    """uint64[n]: the edge to each of these nodes. starts: uint64[nodes + 1] of their side."""
    found = np.empty(len(rows), np.uint64)
    for i in range(len(rows)):
        start = starts[rows[i]]
        found[i] = start << _START | (starts[rows[i] + 1] - start - _ONE)
    return found


@kernel
def degrees_at(starts: Any, rows: Any) -> Any:
    """int64[n]: how many edges each of these nodes has. starts: as of `edges_to`."""
    return (edges_to(starts, rows) & _DEGREE).astype(np.int64)


def visited(
    graph: GraphRuns,
    pins: I64,
    shares: I64,
    chosen: Options,
    seed: int = 1,
    alive: Callable[[], bool] = lambda: True,
) -> tuple[Visits, Visits]:
    """Walk `shares[i]` steps from the pin at row `pins[i]`: visits of boards and of pins, none of what isn't wanted.

    A node visited v_q times from query pin q scores (sum sqrt v_q) ** 2, or the sum of v_q with `plain`. The same seed
    walks the same, whatever is counted. Raises TimeoutError when `alive` says that no caller waits any more, ValueError
    for columns of unequal lengths and for rows that the graph has not.
    """
    check_lengths(len(pins), shares=shares)
    if len(pins) and not 0 <= pins.min() <= pins.max() < len(graph.pin_starts) - 1:
        raise ValueError(f"pins: rows {pins.min()} to {pins.max()}, the graph has {len(graph.pin_starts) - 1} pins")
    from_edges = edges_to(graph.pin_starts, pins)
    progress, rng, random = np.zeros(2, np.int64), np.zeros(1, np.uint64), np.uint64(seed)
    walkers, traces = walkers_at(0), np.empty((2, CHUNK + AHEAD), np.uint64)
    tallies = [
        open_tally(shares if wanted else shares[:0], len(edges), len(shares))
        for wanted, edges in ((chosen.boards, graph.pins), (chosen.pins, graph.boards))
    ]
    while alive():
        if _advance(graph, from_edges, shares, chosen, random, progress, rng, walkers, traces, *tallies):
            return scored(tallies[0], chosen.plain), scored(tallies[1], chosen.plain)
        tallies = [grown(tally) if full(tally) else tally for tally in tallies]
    raise TimeoutError


def best(runs: U64, visits: Visits, k: int, discount: float = 0.0, leave_out: I64 = NOTHING) -> BestNodes:
    """The k best nodes of one side of the graph, whose runs these are, scores divided by degree ** discount.

    Ties go to the smaller node. Those at the rows `leave_out` are left out. Raises ValueError for visits of unequal lengths.
    """
    check_lengths(len(visits.starts), scores=visits.scores, seeds=visits.seeds)
    scores = discounted(runs, visits.starts, visits.scores, discount) if discount else visits.scores
    nodes, scores, seeds = nearest(runs, visits, scores, k, np.sort(leave_out))
    return BestNodes(nodes, scores, seeds, visits.steps)


class Walkers(NamedTuple):
    """Of each walker the edge to the pin where it is, and the place of the edge that it asked for; draws of all."""

    at: U64
    asked: U64
    drawn: U64  # [2 * WALKERS] first those for the edges of a step, then those for restarts


def walkers_at(edge: int) -> Walkers:
    """All walkers at the pin that an edge leads to."""
    return Walkers(np.full(WALKERS, edge, np.uint64), np.zeros(WALKERS, np.uint64), np.zeros(2 * WALKERS, np.uint64))


@kernel
def _advance(graph: Any, from_edges: Any, shares: Any, chosen: Any, seed: Any, progress: Any, rng: Any, walkers: Any,
             traces: Any, boards: Any, pins: Any) -> Any:  # fmt: skip
    """Go on with the walks for a slice of steps, or until a tally must grow; `progress` says where they are.

    Whether all are done.
    """
    done = 0
    while progress[_PIN] < len(shares):
        pin = progress[_PIN]
        if progress[_TAKEN] == 0:
            begin(boards, pin, min(shares[pin], len(graph.pins)) if chosen.boards else 0)
            begin(pins, pin, min(shares[pin], len(graph.boards)) if chosen.pins else 0)
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
            return False
        if done >= SLICE:
            break
    return progress[_PIN] == len(shares)


@kernel
def _shared(shares: Any, total: Any, steps: Any) -> Any:
    """int64[n]: the steps in proportion to the shares (float64[n], of this total), rounded so that they add up."""
    found, last, so_far, before = np.zeros(len(shares), np.int64), len(shares) - 1, 0.0, np.int64(0)
    while last >= 0 and shares[last] == 0:
        last -= 1
    for i in range(last + 1):
        so_far += shares[i]
        end = np.int64(np.floor(so_far / total * steps + 0.5)) if i < last else np.int64(steps)
        found[i], before = end - before, end
    return found
