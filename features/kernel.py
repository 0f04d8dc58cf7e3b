"""The arithmetic of features on arrays."""

import numpy as np

from services.columns import F32, I64, U8, U64
from services.jit import kernel


@kernel
def place(rows: F32, to: I64, values: F32, of: I64) -> None:
    """rows[:, to[i]] = values[:, of[i]] for every i. rows: float32[n, f], written; values: float32[n, k]."""
    for row in range(len(rows)):
        for i in range(len(to)):
            rows[row, to[i]] = values[row, of[i]]


@kernel
def fill(rows: F32, defaults: F32) -> None:
    """What is NaN becomes its column's default, which may be NaN. rows: float32[n, f], written; defaults: float32[f]."""
    for row in range(len(rows)):
        for i in range(len(defaults)):
            if np.isnan(rows[row, i]):
                rows[row, i] = defaults[i]


@kernel
def meet(known: U64, affinities: F32, of_pins: U64, out: F32) -> None:
    """What a user's affinities say of the interests of each pin: their sum, the largest and the smallest but never
    across 0, and the share of the pin's interests that the user likes.

    known: uint64[m], ascending; affinities: float32[m]; of_pins: uint64[n, k], 0: none; out: float32[4, n], written.
    """
    for row in range(len(of_pins)):
        total = largest = smallest = 0.0
        has = liked = 0
        for i in range(of_pins.shape[1]):
            interest = of_pins[row, i]
            if interest == 0:
                continue
            has += 1
            low, size = 0, len(known)
            while size > 1:
                half = size >> 1
                low += half if known[low + half - 1] < interest else 0
                size -= half
            if len(known) == 0 or known[low] != interest:
                continue
            affinity = affinities[low]
            total += affinity
            largest, smallest = max(largest, affinity), min(smallest, affinity)
            liked += affinity > 0
        out[0, row], out[1, row], out[2, row], out[3, row] = total, largest, smallest, liked / max(has, 1)


@kernel
def within_source(origin: U8, light: F32, weight: F32, below: F32, rank: F32, share: F32) -> None:
    """How rows compare with those of the same origin. below, rank, share: float32[n], written: how far the light score is
    below the best; how many of them are better, of equals those before, as a share; and the weight as a share of the
    greatest.
    """
    starts = np.zeros(257, np.int64)
    for kind in origin:
        starts[kind + 1] += 1
    starts = np.cumsum(starts)
    grouped, ends = np.empty(len(origin), np.int64), starts.copy()
    for row in range(len(origin)):
        grouped[ends[origin[row]]] = row
        ends[origin[row]] += 1
    for kind in range(256):
        rows = grouped[starts[kind] : starts[kind + 1]]
        if len(rows):
            _compare(rows, light, weight, below, rank, share)


@kernel
def _compare(rows: I64, light: F32, weight: F32, below: F32, rank: F32, share: F32) -> None:
    """As above, of the rows of one origin."""
    best, heaviest, sorted_ = light[rows[0]], max(weight[rows[0]], np.float32(1e-30)), True
    for i in range(1, len(rows)):
        sorted_ = sorted_ and light[rows[i]] <= light[rows[i - 1]]
        best, heaviest = max(best, light[rows[i]]), max(heaviest, weight[rows[i]])
    ranked = (
        rows if sorted_ else rows[np.argsort(-light[rows], kind="mergesort")]
    )  # stable; sources bring theirs sorted
    for place in range(len(rows)):
        row = ranked[place]
        below[row], rank[row], share[row] = light[row] - best, place / len(rows), weight[row] / heaviest
