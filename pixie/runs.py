"""Edges into the runs that a walk reads, in time and memory in proportion to them: nothing is sorted but ids.

Edges are put to their boards once. From there on each side is made of the other by transposition: going through the
runs of one side in some order and appending each node to the runs that it names leaves these in that order, and a pair
that came twice stands beside itself.
"""

from typing import Any, NamedTuple

import numpy as np

from pixie.steps import DEGREE_BITS, MAX_DEGREE, MAX_WORDS
from services.core.columns import I64, U32, U64, Array
from services.core.errors import InvalidArgument
from services.kernels.jit import kernel
from services.kernels.prefetch import prefetch

AHEAD = 32
_GAMMA, _START, _S32, _ONE, _LOW = (
    np.uint64(0x9E3779B97F4A7C15),
    np.uint64(DEGREE_BITS),
    np.uint64(32),
    np.uint64(1),
    np.uint64(0xFFFF_FFFF),
)


class SparseRows(NamedTuple):
    """Compressed sparse rows of one side: edges[offsets[i]:offsets[i + 1]] are the rows of node i on the other side."""

    offsets: I64  # [nodes + 1]
    edges: U32


def rows_of(ids: U64, values: U64) -> U32:
    """uint32[n]: the row of each value among ids, each of which is there once, and all of them are there."""
    bits = max(4, (2 * len(ids) - 1).bit_length())
    found = np.empty(len(values), np.uint32)
    _look_up(ids, values, np.zeros(1 << bits, np.uint32), np.uint64(64 - bits), found)
    return found


def grouped(keys: U32, values: U32, n: int) -> SparseRows:
    """The values of each key below n, in the order in which they come."""
    offsets, edges = np.zeros(n + 1, np.int64), np.empty(len(values), np.uint32)
    _group(keys, values, offsets, edges)
    return SparseRows(offsets, edges)


def transposed(rows: SparseRows, n: int, order: I64) -> SparseRows:
    """The other side, of n nodes: each run in the order in which `order` names this side's nodes, each once."""
    offsets, edges = np.zeros(n + 1, np.int64), np.empty(len(rows.edges), np.uint32)
    kept = _transpose(rows.offsets, rows.edges, order, offsets, edges)
    return SparseRows(offsets, edges[:kept])


def most_common(rows: SparseRows, values: U64) -> U64:
    """uint64[nodes]: the value above 0 most common among those of each run, the smaller of equals, 0 if there is none."""
    found = np.zeros(len(rows.offsets) - 1, np.uint64)
    if values.any():
        _modes(rows.offsets, rows.edges, values, found)
    return found


def starts_of(rows: SparseRows) -> U64:
    """uint64[nodes + 1]: where the run of each node begins; its header comes before its edges.

    Raises InvalidArgument for more than an edge of a run can name.
    """
    most = int(np.diff(rows.offsets).max())
    if most > MAX_DEGREE:
        raise InvalidArgument(f"a node with {most} edges: at most {MAX_DEGREE} are allowed")
    if len(rows.offsets) + len(rows.edges) > MAX_WORDS:
        raise InvalidArgument(f"{len(rows.edges)} edges: at most {MAX_WORDS - len(rows.offsets)} are allowed")
    return np.asarray(rows.offsets + np.arange(len(rows.offsets)), np.uint64)


def runs_of(rows: SparseRows, others: U64) -> U64:
    """uint64[nodes + edges] of a side; others: the starts of the other side."""
    runs = np.empty(len(rows.offsets) - 1 + len(rows.edges), np.uint64)
    _pack(rows.offsets, rows.edges, others, runs)
    return runs


def fault(runs: Array, starts: Array, others: Array, other_starts: Array) -> int:
    """The first word of a side's runs that is no header of its node, or no edge to a run of the others; -1 if none is.

    starts: uint64[nodes + 1] of the runs, ascending by two or more up to their length; other_starts: of the others.
    """
    return int(_first_fault(runs, starts, others, other_starts))


def starts_in(runs: Array, nodes: int) -> Array:
    """uint64[nodes + 1]: where runs begin, by their headers; a run beyond the last word begins at it."""
    starts = np.empty(nodes + 1, np.uint64)
    _follow(runs, starts)
    return starts


@kernel
def _look_up(ids: Any, values: Any, slots: Any, shift: Any, found: Any) -> None:
    """A table of rows + 1 by Fibonacci hashing of their ids; the slot, then the id, are asked for ahead."""
    mask = len(slots) - 1
    for row in range(len(ids)):
        slot = np.int64((ids[row] * _GAMMA) >> shift)
        while slots[slot]:
            slot = (slot + 1) & mask
        slots[slot] = row + 1
    last = len(values) - 1
    for i in range(len(values)):
        prefetch(slots, np.int64((values[min(i + 2 * AHEAD, last)] * _GAMMA) >> shift))
        prefetch(ids, np.int64(slots[np.int64((values[min(i + AHEAD, last)] * _GAMMA) >> shift)]) - 1)
        slot = np.int64((values[i] * _GAMMA) >> shift)
        while ids[np.int64(slots[slot]) - 1] != values[i]:
            slot = (slot + 1) & mask
        found[i] = slots[slot] - 1


@kernel
def _offsets(keys: Any, offsets: Any) -> None:
    for key in keys:
        offsets[np.int64(key) + 1] += 1
    for node in range(len(offsets) - 1):
        offsets[node + 1] += offsets[node]


@kernel
def _group(keys: Any, values: Any, offsets: Any, edges: Any) -> None:
    _offsets(keys, offsets)
    ends = offsets[:-1].copy()
    for i in range(len(keys)):
        key = keys[i]
        edges[ends[key]] = values[i]
        ends[key] += 1


@kernel
def _transpose(offsets: Any, edges: Any, order: Any, into: Any, found: Any) -> Any:
    """How many edges there are without those that came twice."""
    _offsets(edges, into)
    ends = into[:-1].copy()
    for node in order:
        for i in range(offsets[node], offsets[node + 1]):
            other = edges[i]
            end = ends[other]
            if end == into[other] or found[end - 1] != node:
                found[end] = node
                ends[other] = end + 1
    kept = 0
    for other in range(len(ends)):  # close the gaps that pairs that came twice left
        start, into[other] = into[other], kept
        for i in range(start, ends[other]):
            found[kept] = found[i]
            kept += 1
    into[len(ends)] = kept
    return kept


@kernel
def _modes(offsets: Any, edges: Any, values: Any, modes: Any) -> None:
    for node in range(len(modes)):
        there = np.sort(values[edges[offsets[node] : offsets[node + 1]]])
        most = run = 0
        for i in range(len(there)):
            run = run + 1 if i and there[i] == there[i - 1] else 1
            if there[i] and run > most:
                most, modes[node] = run, there[i]


@kernel
def _pack(offsets: Any, edges: Any, others: Any, runs: Any) -> None:
    last = len(edges) - 1
    for node in range(len(offsets) - 1):
        runs[offsets[node] + node] = np.uint64(offsets[node + 1] - offsets[node]) << _S32 | np.uint64(node)
        for i in range(offsets[node], offsets[node + 1]):
            prefetch(others, np.int64(edges[min(i + AHEAD, last)]))
            other = np.int64(edges[i])
            runs[i + node + 1] = others[other] << _START | (others[other + 1] - others[other] - _ONE)


@kernel
def _follow(runs: Any, starts: Any) -> None:
    at, last = np.uint64(0), np.uint64(len(runs))
    for node in range(len(starts)):
        starts[node] = at
        if at < last:
            at = min(at + (runs[at] >> _S32) + _ONE, last)


@kernel
def _first_fault(runs: Any, starts: Any, others: Any, other_starts: Any) -> Any:
    size, last, nodes = np.uint64(len(others)), np.uint64(len(runs) - 1), np.uint64(len(other_starts) - 1)
    for node in range(len(starts) - 1):
        first, stop = starts[node], starts[node + 1]
        if runs[first] != (stop - first - _ONE) << _S32 | np.uint64(node):
            return np.int64(first)
        for at in range(np.int64(first) + 1, np.int64(stop)):
            ahead = runs[min(np.uint64(at + AHEAD), last)] >> _START
            prefetch(others, np.int64(min(ahead, size - _ONE)))
            start, degree = runs[at] >> _START, runs[at] & np.uint64(MAX_DEGREE)
            if start >= size:
                return np.int64(at)
            row = others[start] & _LOW
            if others[start] >> _S32 != degree or row >= nodes or other_starts[row] != start:
                return np.int64(at)
    return np.int64(-1)
