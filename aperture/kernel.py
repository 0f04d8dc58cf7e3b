"""Counts events by key, window and action, and finds the distinct among many ids: pure functions of arrays."""

import numpy as np

from services.bloom import read_only
from services.columns import I64, U32, U64, Array
from services.jit import kernel

_BITS, _DIGITS = 8, 8  # of an id
_DIGIT = np.uint64(2**_BITS - 1)


def tally(keys: Array, n: int, ages: I64, windows: I64, slots: Array, actions: int) -> U32:
    """uint32[n, w, actions]: how many rows each key has of each action, no older than each window.

    keys: int[m], the key of each row, 0..n-1. ages: int64[m] ms, not negative; a window counts ages below it.
    windows: int64[w] ms, in any order. slots: int[m], the action of each row, 0..actions-1.
    """
    order = np.argsort(windows)
    smallest = np.searchsorted(windows[order], ages, side="right")  # the first window that counts the row
    within = smallest < len(windows)
    cells = (keys[within] * len(windows) + smallest[within]) * actions + slots[within]
    fresh = np.bincount(cells, minlength=n * len(windows) * actions).reshape(n, len(windows), actions)
    counts = np.empty(fresh.shape, np.uint32)
    counts[:, order] = np.cumsum(fresh, axis=1)  # a larger window counts what a smaller one does
    return counts


def distinct(ids: U64) -> U64:
    """The distinct of `ids` (uint64[n], in any order), ascending."""
    return _distinct(read_only(ids, np.uint64))


@kernel
def _distinct(ids: U64) -> U64:
    ascending = _sorted(ids.copy(), np.empty_like(ids))
    n = 0
    for key in ascending:
        if not n or key != ascending[n - 1]:
            ascending[n] = key
            n += 1
    return ascending[:n]


@kernel
def _sorted(source: U64, target: U64) -> U64:
    """`source` ascending, in whichever of the two arrays it ended in: radix sort, the least significant digit first.

    Digits that all ids share are passed over: ids are often small. np.sort takes three to six times as long over 50,000.
    """
    differing = np.uint64(0)
    for key in source:
        differing |= key ^ source[0]
    counts = np.empty(2**_BITS, np.int64)
    for digit in range(_DIGITS):
        shift, at = np.uint64(digit * _BITS), 0
        if not (differing >> shift) & _DIGIT:
            continue
        counts[:] = 0
        for key in source:
            counts[np.int64((key >> shift) & _DIGIT)] += 1
        for value in range(2**_BITS):
            counts[value], at = at, at + counts[value]
        for key in source:
            to = np.int64((key >> shift) & _DIGIT)
            target[counts[to]] = key
            counts[to] += 1
        source, target = target, source
    return source
