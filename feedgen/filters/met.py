"""Which pins the user has not met: filters of the past share it with sources of pins that were ranked for all users."""

import numpy as np

from feedgen import kernel
from feedgen.candidates import Candidates
from feedgen.query import Query
from services.core.columns import U64, Array


def not_of(candidates: Candidates, pins: U64) -> Array:
    """bool[n]: which candidates are not of given pins. pins: uint64[m], ascending."""
    keep = np.empty(len(candidates), np.bool_)
    kernel.absent(candidates.rows, pins, keep)
    return keep


def unmet(query: Query, pins: U64) -> Array:
    """bool[n]: which pins (uint64[n]) the user has not met, nor were on the pages before."""
    keep = np.empty(len(pins), np.bool_)
    kernel.unmet(pins, query.seen.pins, query.shown.marks, query.shown.shift, keep)
    return keep
