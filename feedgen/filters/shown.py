"""Pins that the pages before have shown are not shown again."""

from dataclasses import dataclass

import numpy as np

from feedgen import kernel
from feedgen.candidates import Candidates
from feedgen.query import Query
from services.core.columns import Array


@dataclass(frozen=True, slots=True)
class ShownBefore:
    """Drops the pins of the cursor, every one, and after many pages a few more (feedgen/shown.py)."""

    name: str = "shown_before"
    required: bool = True

    def keep(self, query: Query, candidates: Candidates) -> Array:
        """bool[n]."""
        keep = np.empty(len(candidates), np.bool_)
        kernel.unshown(candidates.rows, query.shown.marks, query.shown.shift, keep)
        return keep
