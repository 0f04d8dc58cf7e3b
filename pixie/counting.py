"""Counts what walks visit: a table for the present query pin, entries of those before, and at the end one score a node.

The table has twice as many slots as the query pin's budget can visit nodes, and grows up to that; a slot is asked for
some visits before it is needed, as the walkers do with their edges (`pixie/steps.py`). Entries are put
together by sorting them, so nodes come in order (`services/kernels/radix.py`).
"""

from typing import Any, NamedTuple

import numpy as np

from pixie.steps import DEGREE_BITS, GAMMA, MAX_DEGREE
from services.core.columns import I64, U32, U64, Array
from services.kernels.jit import kernel
from services.kernels.prefetch import prefetch
from services.kernels.radix import in_order

CHUNK = 2_048  # most visits counted at a time
AHEAD = 16  # visits between asking for a slot and needing it
FIRST_BITS = 16  # of the first table, of half a megabyte; at least 13: a chunk must fit into half of it

_FIRST, _USED, _HIGH, _BITS, _NEEDED, STOPPED = range(6)  # of a tally's numbers
_ONE, _START, _COUNT = np.uint64(1), np.uint64(DEGREE_BITS), np.uint64(MAX_DEGREE)
_S32, _LOW = np.uint64(32), np.uint64(0xFFFF_FFFF)


class Visits(NamedTuple):
    """Every node visited once, with its score before any discount."""

    starts: U64  # [m] of the nodes' runs, ascending, as the rows of nodes do
    scores: Array  # float64[m]
    seeds: U32  # [m] index of the query pin that visited it most
    steps: U64  # [n] counted from each query pin


class Tally(NamedTuple):
    """Visits of one side. table: slots `start << 28 | visits` of the present query pin, 0 if free.

    entries: the same of the query pins before, one query pin's after the other's, then which slots of the table are used;
    room for all that there can be, of which memory is taken as it is written.
    """

    table: U64
    entries: U64
    ends: I64  # [n] of each query pin's entries
    steps: I64  # [n] counted
    numbers: I64


def open_tally(shares: I64, edges: int, n: int) -> Tally:
    """For n query pins of these budgets, none when the side is not wanted, and so many edges to walk over."""
    bits, reach = _sizes(shares, edges)
    table, entries = np.zeros(1 << min(FIRST_BITS, bits), np.uint64), np.empty(reach + 1, np.uint64)
    return Tally(table, entries, np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(STOPPED + 1, np.int64))


@kernel
def full(tally: Any) -> Any:
    """Whether the table must grow before the next chunk."""
    return tally.numbers[_BITS] < tally.numbers[_NEEDED] and 2 * (tally.numbers[_USED] + CHUNK) > len(tally.table)


def grown(tally: Tally) -> Tally:
    """With a table four times as large, or as large as it can be needed."""
    bits = min(int(tally.numbers[_BITS]) + 2, int(tally.numbers[_NEEDED]))
    larger = tally._replace(table=np.zeros(1 << bits, np.uint64))
    larger.numbers[_BITS] = bits
    _refill(larger, tally.table)
    return larger


def scored(tally: Tally, plain: bool) -> Visits:
    """Entries of all query pins put together."""
    starts, scores, seeds = _merged(tally.entries, tally.ends, plain)
    return Visits(starts, scores, seeds, tally.steps.view(np.uint64))


@kernel
def _bits(nodes: Any) -> Any:
    """Of a table for so many nodes that at most half of it is used."""
    bits = 4
    while (1 << bits) < 2 * nodes:
        bits += 1
    return bits


@kernel
def _sizes(shares: Any, edges: Any) -> Any:
    """Bits of the largest table needed, and how many entries there can be."""
    most = reach = 0
    for share in shares:
        nodes = min(max(share, 0), edges)  # a graph that was not checked may have a degree that makes a share negative
        most, reach = max(most, nodes), reach + nodes
    return _bits(most), reach


@kernel
def _first_slot(start: Any, bits: Any) -> Any:
    """Where a node belongs in a table of 2 ** bits slots, by Fibonacci hashing."""
    return (start * GAMMA) >> np.uint64(64 - bits)


@kernel
def _slot(table: Any, start: Any, bits: Any) -> Any:
    """Where a node is in the first 2 ** bits slots, or the free slot for it: linear probing."""
    slot, mask = _first_slot(start, bits), np.uint64((1 << bits) - 1)
    while (table[slot] != 0) & (table[slot] >> _START != start):  # one branch, nearly always not taken
        slot = (slot + _ONE) & mask
    return slot


@kernel
def _refill(tally: Any, before: Any) -> None:
    """Copy the previous table into this one."""
    for at in range(tally.numbers[_FIRST], tally.numbers[_FIRST] + tally.numbers[_USED]):
        held = before[tally.entries[at]]
        slot = _slot(tally.table, held >> _START, tally.numbers[_BITS])
        tally.table[slot], tally.entries[at] = held, slot


@kernel
def count(trace: Any, n: Any, tally: Any, chosen: Any) -> Any:
    """Count n visits, less when the walk stops early; how many."""
    table, entries, bits, end = tally.table, tally.entries, tally.numbers[_BITS], tally.numbers[_FIRST]
    used, high, stop_nodes, enough = tally.numbers[_USED], tally.numbers[_HIGH], chosen.stop_nodes, chosen.stop_visits
    counted = n
    for i in range(n):
        prefetch(table, np.int64(_first_slot(trace[i + AHEAD] >> _START, bits)))
        start = trace[i] >> _START
        slot = _slot(table, start, bits)
        held = table[slot]
        count = (held & _COUNT) + _ONE
        table[slot] = start << _START | count
        entries[np.uint64(end + used)] = (
            slot  # without a branch: a slot that is there already is overwritten by the next
        )
        used += held == 0
        high += np.int64(count) == enough
        if high >= stop_nodes:
            counted = i + 1
            break
    tally.numbers[_USED], tally.numbers[_HIGH] = used, high
    tally.numbers[STOPPED] = high >= stop_nodes
    return counted


@kernel
def begin(tally: Any, pin: Any, reach: Any) -> None:
    """Make ready for a query pin that can reach so many nodes; the table is clean."""
    tally.numbers[:] = 0
    tally.numbers[_FIRST] = tally.ends[pin - 1] if pin else 0
    tally.numbers[STOPPED] = reach == 0
    bits = _bits(reach)
    tally.numbers[_NEEDED] = bits
    while (1 << bits) > len(tally.table):
        bits -= 1
    tally.numbers[_BITS] = bits


@kernel
def fold(tally: Any, pin: Any) -> None:
    """The present query pin is done: its visits become entries, and the table is clean again."""
    table, entries, end = tally.table, tally.entries, tally.numbers[_FIRST] + tally.numbers[_USED]
    for at in range(tally.numbers[_FIRST], end):
        slot = entries[at]
        entries[at], table[slot] = table[slot], np.uint64(0)
    tally.ends[pin] = end


@kernel
def _merged(entries: Any, ends: Any, plain: Any) -> Any:
    """Put the entries of all query pins together: starts, scores and seeds, as of `Visits`."""
    end = ends[-1] if len(ends) else 0
    pins, first, several = np.empty(end, np.uint32), 0, 0
    for pin in range(len(ends)):
        pins[first : ends[pin]] = pin
        several += ends[pin] > first
        first = ends[pin]
    entries, pins = in_order(entries[:end], pins, DEGREE_BITS)
    visits = (entries & _COUNT).astype(np.float64)
    if plain or several <= 1:  # of one query pin alone a score is its visits, to the last bit
        return _summed(entries, pins, visits)
    starts, scores, seeds = _summed(entries, pins, np.sqrt(visits))
    return starts, scores * scores, seeds


@kernel
def _summed(entries: Any, pins: Any, values: Any) -> Any:
    """Of each node among the entries, which stand in order: its start, the sum of its values, the query pin of most visits.

    Without a branch: the next entry is of the same node or of another, as it happens.
    """
    starts, sums, seeds = np.empty(len(pins), np.uint64), np.empty(len(pins), np.float64), np.empty_like(pins)
    node, last, total, most = np.uint64(0) - _ONE, ~np.uint64(0), 0.0, np.uint64(0)
    for i in range(len(pins)):
        start = entries[i] >> _START
        same = start == last
        node, last = node + np.uint64(not same), start
        total = values[i] + (total if same else 0.0)
        rank = (entries[i] & _COUNT) << _S32 | (_LOW - np.uint64(pins[i]))  # more visits, then the earlier query pin
        most = max(most if same else np.uint64(0), rank)
        starts[node], sums[node], seeds[node] = start, total, _LOW - (most & _LOW)
    return starts[: node + _ONE], sums[: node + _ONE], seeds[: node + _ONE]
