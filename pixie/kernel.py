"""The walk over a graph of pins and boards. Arrays in, arrays out; how the arrays come to be is in `pixie/snapshot.py`.

Pixie (Eksombatchai et al., "Pixie: A System for Recommending 3+ Billion Items to 200+ Million Users in Real-Time",
WWW 2018), section 3.1, algorithms 2 and 3. A step goes from a pin to one of its boards and from there to one of its
pins, as in the paper, and counts a visit of what is wanted: the board, or the pin. After each step the walk goes back to
its query pin with the restart probability; 1 makes every step a walk of its own, which is P3 (Cooper et al., "Random
Walks in Recommender Systems", WWW 2014) by sampling.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from services.bloom import read_only
from services.columns import F32, I64, U32, U64, Array
from services.jit import kernel

SLICE = 1 << 18  # steps between two looks at whether the caller still waits: about a tenth of a second
DIRECT = 1 << 17  # graphs of fewer nodes are counted in a table of all of them
FIRST_ROWS = 1 << 13
NOTHING = np.empty(0, np.int64)

_SEED, _TAKEN, _PIN, _HIGH, _ROWS, _TOUCHED = range(6)
_GAMMA, _MIX_1, _MIX_2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S32, _LOW = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32), np.uint64(0xFFFF_FFFF)


class Graph(NamedTuple):
    """Compressed sparse rows both ways: the boards of pin i are pin_edges[pin_offsets[i]:pin_offsets[i + 1]].

    Every node has an edge, and every edge is within range: the walk does not look. Each run ascends by the interest of
    what it names, then by node.
    """

    pin_offsets: I64  # [pins + 1]
    pin_edges: U32
    pin_interests: U64  # [pins] main interest, 0: none
    board_offsets: I64  # [boards + 1]
    board_edges: U32
    board_interests: U64


class Options(NamedTuple):
    """How to walk. Probabilities in 1 / 2 ** 32."""

    boards: bool  # count boards, else pins
    plain: bool  # add visits up, without the multi-hit booster
    restart: Any  # uint64
    bias: Any  # uint64
    interest: Any  # uint64
    stop_nodes: int
    stop_visits: int


class Answer(NamedTuple):
    """The best nodes, best first: uint32[k], float32[k], uint32[k] index of the query pin that visited it most."""

    nodes: U32
    scores: F32
    seeds: U32
    steps: U64  # [n] taken from each query pin


def options(
    *,
    boards: bool,
    plain: bool = False,
    restart: float = 0.5,
    bias: float = 0.0,
    interest: int = 0,
    stop_nodes: int = 1 << 62,
    stop_visits: int = 1 << 62,
) -> Options:
    """Options from probabilities 0..1; without stop_nodes and stop_visits there is no early stopping."""
    biased = bias if interest else 0.0
    one = float(1 << 32)
    return Options(
        boards, plain, np.uint64(restart * one), np.uint64(biased * one), np.uint64(interest), stop_nodes, stop_visits
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


def walk(
    graph: Graph,
    pins: I64,
    shares: I64,
    chosen: Options,
    *,
    k: int,
    discount: float = 0.0,
    seed: int = 1,
    alive: Callable[[], bool] = lambda: True,
    leave_out: I64 = NOTHING,
) -> Answer:
    """Walk `shares[i]` steps from the pin at row `pins[i]` of the graph and answer the k best nodes.

    A node visited v_q times from query pin q scores (sum sqrt v_q) ** 2, or the sum of v_q with `plain`; divided by its
    degree ** discount. Ties go to the smaller node. When pins are wanted, those at the rows `leave_out` are left out. The
    same seed walks the same. Raises TimeoutError when `alive` says that nobody waits any more.
    """
    visits = visited(graph, pins, shares, chosen, seed, alive)
    offsets = graph.board_offsets if chosen.boards else graph.pin_offsets
    nodes, scores, seeds = visits.nodes, visits.scores, visits.seeds
    if discount:
        degrees = offsets[nodes.astype(np.int64) + 1] - offsets[nodes]
        scores = scores / degrees.astype(np.float64) ** discount
    if not chosen.boards:
        keep = ~np.isin(nodes, leave_out.astype(np.uint32))
        nodes, scores, seeds = nodes[keep], scores[keep], seeds[keep]
    best = top(nodes, scores, k)
    return Answer(nodes[best], scores[best].astype(np.float32), seeds[best], visits.steps)


def top(nodes: U32, scores: Array, k: int) -> I64:
    """int64[min(k, n)]: rows of the best scores, best first, ties by the smaller node."""
    rows = np.arange(len(nodes))
    if k < len(nodes):
        rows = np.flatnonzero(scores >= np.partition(scores, len(nodes) - k)[len(nodes) - k])
    return rows[np.lexsort((nodes[rows], -scores[rows]))][:k]


class Visits(NamedTuple):
    """Every node visited, in the order of its first visit, with its score before any discount."""

    nodes: U32
    scores: Array  # float64[m]
    seeds: U32
    steps: U64


class _Rows(NamedTuple):
    """A row for each node visited: room for as many as the arrays are long."""

    nodes: U32
    visits: U32  # from the present query pin
    scores: Array  # float64: of the query pins before, sum of visits or of their roots
    most: U32  # visits from the query pin that visited it most
    seeds: U32  # which that is
    touched: U32  # rows visited from the present query pin


def visited(
    graph: Graph,
    pins: I64,
    shares: I64,
    chosen: Options,
    seed: int = 1,
    alive: Callable[[], bool] = lambda: True,
) -> Visits:
    """All that a walk visits; see `walk`. Its memory is in proportion to the nodes visited."""
    size = len(graph.board_interests if chosen.boards else graph.pin_interests)
    capacity = min(size, DIRECT if size <= DIRECT else FIRST_ROWS)
    rows, table = _rows(capacity), _table(capacity, size)
    progress, rng = np.zeros(6, np.int64), np.array([seed], np.uint64)
    pins, shares = read_only(pins, np.int64), read_only(shares, np.int64)
    steps = np.zeros(len(pins), np.int64)
    while progress[_SEED] < len(pins):
        if not alive():
            raise TimeoutError
        room = SLICE if capacity == size else capacity - int(progress[_ROWS])
        if room < capacity // 4:
            capacity = min(size, 2 * capacity)
            rows, table = _grown(rows, capacity), _table(capacity, size)
            _fill(table, rows.nodes, int(progress[_ROWS]), capacity == size)
            continue
        _advance(graph, pins, shares, chosen, progress, rng, table, rows, steps, min(room, SLICE), capacity == size)
    n = int(progress[_ROWS])
    scores = rows.scores[:n] if chosen.plain else rows.scores[:n] ** 2
    return Visits(rows.nodes[:n], scores, rows.seeds[:n], steps.astype(np.uint64))


def _rows(capacity: int) -> _Rows:
    counts = [np.zeros(capacity, np.uint32) for _ in range(5)]
    return _Rows(counts[0], counts[1], np.zeros(capacity, np.float64), *counts[2:])


def _grown(rows: _Rows, capacity: int) -> _Rows:
    larger = _rows(capacity)
    for old, new in zip(rows, larger, strict=True):
        new[: len(old)] = old
    return larger


def _table(capacity: int, size: int) -> U64:
    """Slots of `node << 32 | row + 1`, 0 if free: one a node when there is room for all, else twice the rows."""
    slots = 1 << max(1, (capacity if capacity == size else 2 * capacity) - 1).bit_length()
    return np.zeros(slots, np.uint64)


@kernel
def _mixed(z: Any) -> Any:
    """The output of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) for a state, which advances by _GAMMA."""
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    return z ^ (z >> _S31)


@kernel
def _slot(table: Any, node: Any, direct: Any) -> Any:
    """Where a node is in the table, or the free slot for it: linear probing after Fibonacci hashing."""
    mask = np.int64(len(table) - 1)
    slot = np.int64(node)
    if not direct:
        slot = np.int64((np.uint64(node) * _GAMMA) >> _S32) & mask
    while table[slot] != 0 and table[slot] >> _S32 != node:
        slot = (slot + 1) & mask
    return slot


@kernel
def _fill(table: Any, nodes: Any, n: Any, direct: Any) -> None:
    for row in range(n):
        table[_slot(table, np.uint64(nodes[row]), direct)] = (np.uint64(nodes[row]) << _S32) | np.uint64(row + 1)


@kernel
def _neighbour(offsets: Any, edges: Any, node: Any, drawn: Any) -> Any:
    """A neighbour of the node by a draw of 32 bits: as even as 2 ** 32 allows for the degree."""
    start = offsets[node]
    degree = np.uint64(offsets[node + 1] - start)
    return np.int64(edges[start + np.int64((drawn * degree) >> _S32)])


@kernel
def _first(interests: Any, edges: Any, start: Any, stop: Any, interest: Any) -> Any:
    """The first edge of a run whose node has this interest, or a higher one."""
    while start < stop:
        middle = (start + stop) // 2
        if interests[edges[middle]] < interest:
            start = middle + 1
        else:
            stop = middle
    return start


@kernel
def _among(offsets: Any, edges: Any, interests: Any, node: Any, interest: Any, drawn: Any) -> Any:
    """A neighbour of this interest, from the sub-range that holds them; any neighbour when there is none.

    Section 3.1, "biasing the walk" (PersonalizedNeighbor).
    """
    stop = offsets[node + 1]
    first = _first(interests, edges, offsets[node], stop, interest)
    last = _first(interests, edges, first, stop, interest + np.uint64(1))
    if first == last:
        return _neighbour(offsets, edges, node, drawn)
    return np.int64(edges[first + np.int64((drawn * np.uint64(last - first)) >> _S32)])


@kernel
def _walk(graph: Any, chosen: Any, start: Any, limit: Any, progress: Any, rng: Any, table: Any, rows: Any,
          direct: Any) -> Any:  # fmt: skip
    """Up to `limit` steps of the present query pin's walk, less when it stops early; how many.

    Arrays are taken out of their tuples before the loop: each time costs a count of references.
    """
    pin_offsets, pin_edges, pin_interests, board_offsets, board_edges, board_interests = graph
    boards, _, restart, bias, interest, stop_nodes, stop_visits = chosen
    nodes, visits, touched_rows = rows.nodes, rows.visits, rows.touched
    pin, high, used, touched = progress[_PIN], progress[_HIGH], progress[_ROWS], progress[_TOUCHED]
    state, taken, coins = rng[0], 0, np.uint64(0)
    while taken < limit and high < stop_nodes:
        state += _GAMMA
        drawn = _mixed(state)
        if bias > 0:
            state += _GAMMA
            coins = _mixed(state)
        if bias > 0 and coins >> _S32 < bias:
            board = _among(pin_offsets, pin_edges, board_interests, pin, interest, drawn >> _S32)
        else:
            board = _neighbour(pin_offsets, pin_edges, pin, drawn >> _S32)
        if bias > 0 and coins & _LOW < bias:
            pin = _among(board_offsets, board_edges, pin_interests, board, interest, drawn & _LOW)
        else:
            pin = _neighbour(board_offsets, board_edges, board, drawn & _LOW)
        node = np.uint64(board if boards else pin)
        slot = _slot(table, node, direct)
        if table[slot] == 0:
            nodes[used] = node
            used += 1
            table[slot] = (node << _S32) | np.uint64(used)
        row = np.int64(table[slot] & _LOW) - 1
        count = visits[row] + 1
        visits[row] = count
        if count == 1:
            touched_rows[touched] = row
            touched += 1
        if count == stop_visits:
            high += 1
        taken += 1
        state += _GAMMA
        if _mixed(state) >> _S32 < restart:
            pin = start
    rng[0] = state
    progress[_PIN], progress[_HIGH], progress[_ROWS], progress[_TOUCHED] = pin, high, used, touched
    return taken


@kernel
def _fold(chosen: Any, progress: Any, rows: Any) -> None:
    """The present query pin is done: add its visits to the scores and clear them."""
    for i in range(progress[_TOUCHED]):
        row = rows.touched[i]
        count = rows.visits[row]
        rows.scores[row] += np.float64(count) if chosen.plain else np.sqrt(np.float64(count))
        if count > rows.most[row]:
            rows.most[row], rows.seeds[row] = count, progress[_SEED]
        rows.visits[row] = 0
    progress[_SEED] += 1
    progress[_TAKEN] = progress[_HIGH] = progress[_TOUCHED] = 0


@kernel
def _advance(graph: Any, pins: Any, shares: Any, chosen: Any, progress: Any, rng: Any, table: Any, rows: Any,
             steps: Any, limit: Any, direct: Any) -> None:  # fmt: skip
    """Go on with the walks for up to `limit` steps; `progress` says where they are."""
    while progress[_SEED] < len(pins):
        seed = progress[_SEED]
        if progress[_TAKEN] == 0:
            progress[_PIN] = pins[seed]
        left = shares[seed] - progress[_TAKEN]
        allowed = min(left, limit)
        taken = _walk(graph, chosen, pins[seed], allowed, progress, rng, table, rows, direct)
        steps[seed] += taken
        progress[_TAKEN] += taken
        limit -= taken
        if taken == left or taken < allowed or progress[_HIGH] >= chosen.stop_nodes:
            _fold(chosen, progress, rows)
        elif limit == 0:
            return
