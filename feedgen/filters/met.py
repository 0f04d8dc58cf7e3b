"""Which candidates are not of given pins: what filters of the past share."""

import numpy as np

from feedgen import kernel
from feedgen.candidates import Candidates
from services.columns import U64, Array


def not_of(candidates: Candidates, pins: U64) -> Array:
    """bool[n]. pins: uint64[m], ascending."""
    keep = np.empty(len(candidates), np.bool_)
    kernel.absent(candidates.rows, pins, keep)
    return keep
