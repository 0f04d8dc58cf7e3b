"""The best of the visited nodes, in order: discounts by degree, and a selection that sorts no more than it must."""

from functools import lru_cache
from typing import Any

import numpy as np

from services.core.columns import F64, U64, Array
from services.kernels.jit import kernel
from services.kernels.prefetch import prefetch
from services.kernels.radix import in_order

AHEAD = 16
RAISED = 1 << 14  # degrees below it are raised to a discount beforehand
_S32, _LOW, _DIGITS = np.uint64(32), np.uint64(0xFFFF_FFFF), np.uint64(1 << 11)


def discounted(runs: U64, starts: U64, scores: F64, discount: float) -> F64:
    """float64[n]: scores / degree ** discount of the nodes whose runs begin there.

    Degrees are raised once for all requests where none is very high.
    """
    degrees, quotients, highest = _divided(runs, starts, scores, _raised(discount))
    return quotients if highest < RAISED else np.asarray(scores / degrees.astype(np.float64) ** discount)


@lru_cache(maxsize=16)
def _raised(discount: float) -> Array:
    """float64[RAISED]: 0 ** discount, 1 ** discount, ..."""
    return np.asarray(np.arange(RAISED, dtype=np.float64) ** discount)


@kernel
def _divided(runs: Any, starts: Any, scores: Any, raised: Any) -> Any:
    """int64[n]: the nodes' degrees; float64[n]: the scores divided by what those below RAISED are raised to; the highest."""
    degrees, quotients, highest = np.empty(len(starts), np.int64), np.empty(len(starts), np.float64), 0
    for i in range(len(starts)):
        prefetch(runs, np.int64(starts[min(i + AHEAD, len(starts) - 1)]))
        degrees[i] = _header(runs, starts[i]) >> _S32
        quotients[i] = scores[i] / raised[min(degrees[i], RAISED - 1)]
        highest = max(highest, degrees[i])
    return degrees, quotients, highest


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
