"""The arithmetic of features on arrays."""

from typing import Any

import numpy as np

from services.core.columns import F32, I64, U8, U64
from services.kernels.jit import kernel


@kernel
def place(
    rows: F32, first: F32, kept: F32, kept_of: I64, kept_to: I64, columns: F32, columns_to: I64, defaults: F32
) -> None:
    """Every row of `rows` (float32[n, f], written) is `first`, then what is kept of it and what columns say of it; what
    is NaN then becomes its column's default, which may be NaN.

    first, defaults: float32[f]; kept: float32[n, k], of which kept_of[i] goes to kept_to[i]; columns: float32[c, n],
    of which i goes to columns_to[i].
    """
    for row in range(len(rows)):
        for i in range(len(first)):
            rows[row, i] = first[i]
        for i in range(len(kept_to)):
            rows[row, kept_to[i]] = kept[row, kept_of[i]]
        for i in range(len(columns_to)):
            rows[row, columns_to[i]] = columns[i, row]
        for i in range(len(defaults)):
            rows[row, i] = defaults[i] if np.isnan(rows[row, i]) else rows[row, i]


@kernel
def age_and_rates(kept: F32, today: Any, done_at: I64, shown_at: I64, smoothing: Any, out: F32) -> None:
    """Of pins as kept (float32[n, k]), NaN where something is not known. out: float32[1 + r, n], written: days from
    kept[:, 0] to today, never below 0; and for each i the share of what was done (done_at[i]) in what was shown
    (shown_at[i]), which is no less, and `smoothing`. today, smoothing: float32.
    """
    for row in range(len(kept)):
        days = today - kept[row, 0]
        out[0, row] = np.float32(0) if days < 0 else days
        for i in range(len(done_at)):
            done, shown = kept[row, done_at[i]], kept[row, shown_at[i]]
            out[1 + i, row] = done / ((done if done > shown else shown) + smoothing)


@kernel
def meet(known: U64, affinities: F32, of_pins: U64, out: F32) -> None:
    """A user's affinities to the interests of each pin: their sum, the largest and the smallest but never
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
