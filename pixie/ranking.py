"""The best of what was visited, in order: what degrees discount, and a selection that sorts no more than it must."""

from functools import lru_cache
from typing import Any

import numpy as np

from services.columns import I64, Array
from services.jit import kernel
from services.prefetch import prefetch
from services.radix import in_order

AHEAD = 16
RAISED = 1 << 14  # degrees below it are raised to a discount beforehand
_S32, _LOW, _DIGITS = np.uint64(32), np.uint64(0xFFFF_FFFF), np.uint64(1 << 11)


def divisors(degrees: I64, discount: float) -> Array:
    """float64[n]: degree ** discount, which is raised once for all requests where no degree is very high."""
    if degrees.max(initial=0) < RAISED:
        return np.asarray(_raised(discount)[degrees])
    return np.asarray(degrees.astype(np.float64) ** discount)


@lru_cache(maxsize=16)
def _raised(discount: float) -> Array:
    """float64[RAISED]: 0 ** discount, 1 ** discount, ..."""
    return np.asarray(np.arange(RAISED, dtype=np.float64) ** discount)


@kernel
def degrees_of(runs: Any, starts: Any) -> Any:
    """int64[n]: of the nodes whose runs begin there."""
    found = np.empty(len(starts), np.int64)
    for i in range(len(starts)):
        prefetch(runs, np.int64(starts[min(i + AHEAD, len(starts) - 1)]))
        found[i] = _header(runs, starts[i]) >> _S32
    return found


@kernel
def nearest(runs: Any, visits: Any, scores: Any, k: Any, leave_out: Any) -> Any:
    """Of the k nodes of the best scores (float64[n] >= 0) their rows, scores and seeds, ties by the smaller node.

    leave_out: int64[m], ascending: rows of nodes that are not answered.
    """
    # A score that is not negative and its bits ascend together.
    keys, rows = _without(runs, visits.starts, ~scores.view(np.uint64), leave_out)
    keys, rows = _least(keys, rows, k)
    keys, rows = in_order(keys, rows, 0)
    n = min(k, len(keys))
    nodes, best, seeds = np.empty(n, np.uint32), np.empty(n, np.float32), np.empty(n, np.uint32)
    for i in range(n):
        prefetch(runs, np.int64(visits.starts[rows[min(i + AHEAD, n - 1)]]))
        row = rows[i]
        nodes[i] = _header(runs, visits.starts[row]) & _LOW
        best[i], seeds[i] = scores[row], visits.seeds[row]
    return nodes, best, seeds


@kernel
def _header(runs: Any, start: Any) -> Any:
    return runs[min(start, np.uint64(len(runs) - 1))]


@kernel
def _without(runs: Any, starts: Any, keys: Any, leave_out: Any) -> Any:
    """The keys of all nodes but those, and their rows among the visits, which ascend as the rows of nodes do."""
    n, rows, at, kept = len(starts), np.empty(len(starts), np.uint32), 0, 0
    for index in range(len(leave_out) + 1):
        first, last = at, n
        while index < len(leave_out) and first < last:
            middle = (first + last) // 2
            if np.int64(_header(runs, starts[middle]) & _LOW) < leave_out[index]:
                first = middle + 1
            else:
                last = middle
        for i in range(at, last):
            keys[kept], rows[kept] = keys[i], i
            kept += 1
        there = index < len(leave_out) and last < n and np.int64(_header(runs, starts[last]) & _LOW) == leave_out[index]
        at = last + there
    return keys[:kept], rows[:kept]


@kernel
def _least(keys: Any, rows: Any, k: Any) -> Any:
    """The k least keys and maybe some more, as they stand: all up to the first digit by which there are enough."""
    if len(keys) <= k:
        return keys, rows
    differing, shift = np.uint64(0), np.uint64(0)
    for key in keys:
        differing |= key ^ keys[0]
    while differing >> shift >= _DIGITS:
        shift += np.uint64(1)
    mask, counts = _DIGITS - np.uint64(1), np.zeros(_DIGITS, np.int64)
    for key in keys:
        counts[key >> shift & mask] += 1
    most, enough = np.uint64(0), counts[0]
    while enough < k:
        most += np.uint64(1)
        enough += counts[most]
    kept = 0
    for i in range(len(keys)):
        keys[kept], rows[kept] = keys[i], rows[i]
        kept += (keys[i] >> shift & mask) <= most
    return keys[:kept], rows[:kept]
