"""Counts what walks visit: a table for the present query pin, entries of those before, and at the end one score a node.

The table has twice as many slots as the query pin's budget can visit nodes, and grows up to that; a slot is asked for
some visits before it is needed, as the walkers do with their edges (`pixie/steps.py`).
"""

from typing import Any, NamedTuple

import numpy as np

from pixie.steps import DEGREE_BITS, GAMMA, MAX_DEGREE
from services.columns import I64, U32, U64, Array
from services.jit import kernel
from services.prefetch import prefetch

CHUNK = 2_048  # most visits counted at a time
AHEAD = 16  # visits between asking for a slot and needing it
FIRST_BITS = 16  # of the first table, of half a megabyte; at least 13: a chunk must fit into half of it

_USED, _HIGH, _BITS, _NEEDED, STOPPED = range(5)  # of a tally's numbers
_ONE, _START, _COUNT = np.uint64(1), np.uint64(DEGREE_BITS), np.uint64(MAX_DEGREE)


class Visits(NamedTuple):
    """Every node visited once, in no order, with its score before any discount."""

    starts: U64  # [m] of the nodes' runs; they ascend as the rows of nodes do
    scores: Array  # float64[m]
    seeds: U32  # [m] index of the query pin that visited it most
    steps: U64  # [n] counted from each query pin


class Tally(NamedTuple):
    """Visits of one side. table: slots `start << 28 | visits` of the present query pin, 0 if free.

    entries: the same of the query pins before, one query pin's after the other's; room for all that there can be, of
    which memory is taken as it is written.
    """

    table: U64
    entries: U64
    ends: I64  # [n] of each query pin's entries
    steps: I64  # [n] counted
    numbers: I64


def open_tally(shares: I64, edges: int, n: int) -> Tally:
    """For n query pins of these budgets, none when the side is not wanted, and so many edges to walk over."""
    reach = np.minimum(shares, edges)
    numbers = np.zeros(5, np.int64)
    bits = min(FIRST_BITS, int(_bits(reach.max(initial=0))))
    entries = np.empty(int(reach.sum()) + 1, np.uint64)
    return Tally(np.zeros(1 << bits, np.uint64), entries, np.zeros(n, np.int64), np.zeros(n, np.int64), numbers)


@kernel
def full(tally: Any) -> Any:
    """Whether the table must grow before the next chunk."""
    return tally.numbers[_BITS] < tally.numbers[_NEEDED] and 2 * (tally.numbers[_USED] + CHUNK) > len(tally.table)


def grown(tally: Tally) -> Tally:
    """With a table four times as large, or as large as it can be needed."""
    bits = min(int(tally.numbers[_BITS]) + 2, int(tally.numbers[_NEEDED]))
    larger = tally._replace(table=np.zeros(1 << bits, np.uint64))
    larger.numbers[_BITS] = bits
    _refill(larger.table, tally.table[tally.table > 0], larger.numbers[_BITS])
    return larger


def scored(tally: Tally, plain: bool) -> Visits:
    """Entries of all query pins put together."""
    ends = tally.ends
    entries = tally.entries[: ends[-1] if len(ends) else 0]
    steps = tally.steps.astype(np.uint64)
    if np.count_nonzero(np.diff(ends, prepend=0)) <= 1:
        seeds = np.full(len(entries), np.argmax(ends > 0) if len(ends) else 0, np.uint32)
        return Visits(entries >> _START, (entries & _COUNT).astype(np.float64), seeds, steps)
    starts, seeds = np.empty(len(entries), np.uint64), np.empty(len(entries), np.uint32)
    scores = np.empty(len(entries), np.float64)
    n = _merge(entries, ends, plain, np.zeros(1 << int(_bits(len(entries))), np.uint64), starts, scores, seeds)
    return Visits(starts[:n], scores[:n], seeds[:n], steps)


@kernel
def _bits(nodes: Any) -> Any:
    """Of a table for so many nodes that at most half of it is used."""
    bits = 4
    while (1 << bits) < 2 * nodes:
        bits += 1
    return bits


@kernel
def _slot(table: Any, start: Any, bits: Any) -> Any:
    """Where a node is in the first 2 ** bits slots, or the free slot for it: linear probing after Fibonacci hashing."""
    mask = (1 << bits) - 1
    slot = np.int64((start * GAMMA) >> np.uint64(64 - bits))
    while table[slot] != 0 and table[slot] >> _START != start:
        slot = (slot + 1) & mask
    return slot


@kernel
def _refill(table: Any, slots: Any, bits: Any) -> None:
    for held in slots:
        table[_slot(table, held >> _START, bits)] = held


@kernel
def count(trace: Any, n: Any, tally: Any, chosen: Any) -> Any:
    """Count n visits, less when the walk stops early; how many."""
    table, bits = tally.table, tally.numbers[_BITS]
    used, high, stop_nodes, enough = tally.numbers[_USED], tally.numbers[_HIGH], chosen.stop_nodes, chosen.stop_visits
    counted = n
    for i in range(n):
        prefetch(table, np.int64(((trace[i + AHEAD] >> _START) * GAMMA) >> np.uint64(64 - bits)))
        start = trace[i] >> _START
        slot = _slot(table, start, bits)
        held = table[slot]
        count = (held & _COUNT) + _ONE
        table[slot] = start << _START | count
        used += held == 0
        high += np.int64(count) == enough
        if high >= stop_nodes:
            counted = i + 1
            break
    tally.numbers[_USED], tally.numbers[_HIGH] = used, high
    tally.numbers[STOPPED] = high >= stop_nodes
    return counted


@kernel
def begin(tally: Any, reach: Any) -> None:
    """Make ready for a query pin that can reach so many nodes; the table is clean."""
    tally.numbers[:] = 0
    tally.numbers[STOPPED] = reach == 0
    bits = _bits(reach)
    tally.numbers[_NEEDED] = bits
    while (1 << bits) > len(tally.table):
        bits -= 1
    tally.numbers[_BITS] = bits


@kernel
def fold(tally: Any, pin: Any) -> None:
    """The present query pin is done: its visits become entries, and the table is clean again."""
    table, entries, end = tally.table, tally.entries, tally.ends[pin - 1] if pin else 0
    for slot in range(1 << tally.numbers[_BITS]):
        held = table[slot]
        entries[end] = held  # without a branch: what is free is written over by the next
        end += held != 0
        table[slot] = 0
    tally.ends[pin] = end


@kernel
def _merge(entries: Any, ends: Any, plain: Any, table: Any, starts: Any, scores: Any, seeds: Any) -> Any:
    """Put the entries of all query pins together; how many nodes. table: of a slot for each node, all free."""
    bits, n, at, most = _bits(len(entries)), 0, 0, np.empty(len(entries), np.uint32)
    for pin in range(len(ends)):
        while at < ends[pin]:
            ahead = min(at + AHEAD, len(entries) - 1)
            prefetch(table, np.int64(((entries[ahead] >> _START) * GAMMA) >> np.uint64(64 - bits)))
            start, count = entries[at] >> _START, entries[at] & _COUNT
            slot = _slot(table, start, bits)
            if table[slot] == 0:
                starts[n], scores[n], most[n], seeds[n] = start, 0.0, 0, pin
                n += 1
                table[slot] = start << _START | np.uint64(n)
            row = np.int64(table[slot] & _COUNT) - 1
            scores[row] += np.float64(count) if plain else np.sqrt(np.float64(count))
            if count > most[row]:
                most[row], seeds[row] = count, pin
            at += 1
    if not plain:
        for node in range(n):
            scores[node] *= scores[node]
    return n
