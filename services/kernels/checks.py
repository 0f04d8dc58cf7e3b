"""Checks of columns before kernels read them: whole columns of a request, compiled, since a service looks at every value
that comes off the wire; and lengths, since a kernel indexes without a look at bounds, and would read what lies beyond.
"""

from collections.abc import Sized
from typing import Any

import numpy as np

from services.core.columns import I64
from services.kernels.jit import kernel


def check_lengths(n: int, **columns: Sized) -> None:
    """Raises ValueError naming the first of these columns that has not n rows."""
    for name, column in columns.items():
        if len(column) != n:
            raise ValueError(f"{name}: {len(column)} rows, expected {n}")


def check_ends(ends: I64, n: int) -> None:
    """Raises ValueError unless lists back to back, which end at `ends` (int64[s]), have n rows together."""
    last = int(ends[-1]) if len(ends) else 0
    if last != n:
        raise ValueError(f"ends: the last list ends at row {last}, expected {n}")


@kernel
def all_kinds(kinds: Any, least: Any, most: Any) -> Any:
    """Whether all of uint8[n] are in least..most."""
    good = True
    for kind in kinds:
        good &= least <= kind <= most
    return good


@kernel
def all_weights(weights: Any) -> Any:
    """Whether all of float32[n] are finite and above 0."""
    good = True
    for weight in weights:
        good &= np.float32(0) < weight < np.float32(np.inf)
    return good
