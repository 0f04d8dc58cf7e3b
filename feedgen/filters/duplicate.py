"""A pin that several sources found is one candidate: the first."""

from dataclasses import dataclass

import numpy as np

from feedgen.candidates import Candidates
from feedgen.query import Query
from services.columns import Array


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Keeps the first of each pin."""

    name: str = "duplicate"
    required: bool = True

    def keep(self, query: Query, candidates: Candidates) -> Array:
        """bool[n]."""
        keep = np.zeros(len(candidates), bool)
        keep[np.unique(candidates.pin, return_index=True)[1]] = True
        return keep
