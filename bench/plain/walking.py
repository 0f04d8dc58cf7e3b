"""The random walk of Pixie in Python, over lists in memory: the paper's step budgets, restarts, early stopping, multi-hit
booster. A step goes from a pin to one of its boards and on to one of its pins; one walk counts both.
"""

from array import array
from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from bench.plain.rows import Rows
from bench.plain.rules import RESTART, STOP_NODES, STOP_VISITS

Visits: TypeAlias = "array[int]"


class PlainGraph:
    """Pins and boards as rows of ascending ids, each with a list of the rows of the other side."""

    def __init__(self, pins: Rows, boards: Rows) -> None:
        """pins, boards: uint64[e], one pair an edge, each pair once."""
        self.pin_ids, pin_rows = np.unique(pins, return_inverse=True)
        self.board_ids, board_rows = np.unique(boards, return_inverse=True)
        self.of_pins: list[list[int]] = [[] for _ in self.pin_ids]
        self.of_boards: list[list[int]] = [[] for _ in self.board_ids]
        for pin, board in zip(pin_rows.tolist(), board_rows.tolist(), strict=True):
            self.of_pins[pin].append(board)
            self.of_boards[board].append(pin)
        self.degrees = np.bincount(pin_rows, minlength=len(self.pin_ids))
        self.most = int(self.degrees.max(initial=1))


class Walked(NamedTuple):
    """Nodes with their scores, and the index of the query pin that visited each most."""

    ids: Rows
    scores: Rows
    seeds: Rows


NOWHERE = Walked(np.empty(0, "<u8"), np.empty(0, "<f4"), np.empty(0, np.int64))


def walk(
    graph: PlainGraph,
    pins: Rows,
    weights: Rows,
    steps: int,
    boards_k: int,
    pins_k: int,
    discount: float,
    random: Random,
) -> tuple[Walked, Walked]:
    """The nearest boards, and the nearest pins but for the query pins; best first, of equals the lowest id."""
    at = np.minimum(np.searchsorted(graph.pin_ids, pins), len(graph.pin_ids) - 1)
    known = graph.pin_ids[at] == pins
    boards, passed, owners = visits(graph, at, budgets(graph, at, known, weights, steps), random)
    of_boards = _best(graph.board_ids, boards, owners[0], np.zeros(0, np.int64), boards_k)
    of_pins = _best(graph.pin_ids, passed, owners[1], at[known], pins_k, graph.degrees**discount)
    return of_boards, of_pins


def budgets(graph: PlainGraph, at: Rows, known: Rows, weights: Rows, steps: int) -> list[int]:
    """Steps of each query pin: more for pins of high degree, but less than linearly (WWW 2018, section 3.1)."""
    degrees = np.maximum(graph.degrees[at], 1)
    shares = weights.astype(np.float64) * degrees * (1.0 + np.log(graph.most) - np.log(degrees))
    shares[~known] = 0.0
    if not shares.any():
        return [0] * len(shares)
    ends = np.floor(np.cumsum(shares) / shares.sum() * steps + 0.5).astype(np.int64)
    ends[np.flatnonzero(shares).max() :] = steps
    return [int(n) for n in np.diff(ends, prepend=0)]


def visits(
    graph: PlainGraph, starts: Rows, steps: Sequence[int], random: Random, restart: float = RESTART
) -> tuple[Visits, Visits, Any]:
    """Every visit of a board, every visit of a pin, and for both the index of the query pin of each visit."""
    boards, pins = array("q"), array("q")
    board_ends, pin_ends = [], []
    for start, n in zip(starts.tolist(), steps, strict=True):
        if n < STOP_NODES * STOP_VISITS:  # too few to stop early
            _wander(graph, start, n, random, restart, boards, pins)
        else:
            _wander_until(graph, start, n, random, restart, boards, pins)
        board_ends.append(len(boards))
        pin_ends.append(len(pins))
    index = np.arange(len(steps))
    owners = [np.repeat(index, np.diff(ends, prepend=0)) for ends in (board_ends, pin_ends)]
    return boards, pins, owners


def _wander(
    graph: PlainGraph, start: int, n: int, random: Random, restart: float, boards: Visits, pins: Visits
) -> None:
    draw, of_pins, of_boards = random.random, graph.of_pins, graph.of_boards
    went, passed, at = boards.append, pins.append, start
    for _ in range(n):
        ways = of_pins[at]
        board = ways[int(draw() * len(ways))]
        ways = of_boards[board]
        pin = ways[int(draw() * len(ways))]
        went(board)
        passed(pin)
        at = start if draw() < restart else pin


def _wander_until(
    graph: PlainGraph, start: int, n: int, random: Random, restart: float, boards: Visits, pins: Visits
) -> None:
    """As _wander; a side is counted until STOP_NODES nodes of it were visited STOP_VISITS times."""
    walked = (array("q"), array("q"))
    _wander(graph, start, n, random, restart, *walked)
    for side, counted in zip(walked, (boards, pins), strict=True):
        counted.extend(side[: _stops(np.frombuffer(side, np.int64))])


def _stops(visited: Rows) -> int:
    """How many of the visits are counted."""
    order = np.argsort(visited, kind="stable")
    nodes = visited[order]
    first = np.flatnonzero(np.append(True, nodes[1:] != nodes[:-1]))
    enough = np.diff(np.append(first, len(nodes))) >= STOP_VISITS
    if enough.sum() < STOP_NODES:
        return len(visited)
    at = np.sort(order[first[enough] + STOP_VISITS - 1])  # where each of them is visited often enough
    return int(at[STOP_NODES - 1]) + 1


def _best(ids: Rows, visited: Visits, owner: Rows, leave_out: Rows, k: int, divisor: Rows | None = None) -> Walked:
    """(sum over query pins of sqrt(visits)) ** 2, divided where a divisor of each node is given."""
    if not visited:
        return NOWHERE
    pairs, counts = np.unique(np.frombuffer(visited, np.int64) * (int(owner[-1]) + 1) + owner, return_counts=True)
    nodes, query = np.divmod(pairs, int(owner[-1]) + 1)
    first = np.flatnonzero(np.append(True, nodes[1:] != nodes[:-1]))
    scores = np.add.reduceat(np.sqrt(counts), first) ** 2
    most = np.repeat(np.maximum.reduceat(counts, first), np.diff(np.append(first, len(nodes))))
    rows = np.flatnonzero(counts == most)  # the first of a node is the first query pin that visited it most
    seeds = query[rows[np.searchsorted(nodes[rows], nodes[first])]]
    nodes = nodes[first]
    if divisor is not None:
        scores = scores / divisor[nodes]
    order = np.lexsort((nodes, -scores))
    order = order[~np.isin(nodes[order], leave_out)][:k] if len(leave_out) else order[:k]
    return Walked(ids[nodes[order]], scores[order].astype(np.float32), seeds[order])
