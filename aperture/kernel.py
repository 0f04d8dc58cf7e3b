"""Counts events by key, window and action, and finds the distinct among many ids: pure functions of arrays."""

import numpy as np

from services.core.columns import I64, U32, U64, Array
from services.kernels.bloom import read_only
from services.kernels.jit import kernel
from services.kernels.radix import ascending


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
    found: U64 = ascending(ids.copy(), np.empty_like(ids), 0)
    n = 0
    for key in found:
        if not n or key != found[n - 1]:
            found[n] = key
            n += 1
    return found[:n]
