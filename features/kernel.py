"""The arithmetic of features on arrays."""

from services.columns import F32, I64, U64
from services.jit import kernel


@kernel
def place(rows: F32, to: I64, values: F32, of: I64) -> None:
    """rows[:, to[i]] = values[:, of[i]] for every i. rows: float32[n, f], written; values: float32[n, k]."""
    for row in range(len(rows)):
        for i in range(len(to)):
            rows[row, to[i]] = values[row, of[i]]


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
