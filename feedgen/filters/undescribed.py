"""A pin that nothing describes yet is on no page: it was saved, or it joined an interest, before it was created."""

from dataclasses import dataclass

import numpy as np

from feedgen.candidates import Candidates
from feedgen.query import Query
from services.core.columns import Array


@dataclass(frozen=True, slots=True)
class Undescribed:
    """Drops what scorers found to be undescribed. What they were not asked of, the wording finds out."""

    name: str = "undescribed"
    required: bool = True

    def keep(self, query: Query, candidates: Candidates) -> Array:
        """bool[n]."""
        if "undescribed" in candidates.more:
            return np.asarray(~candidates.column("undescribed"))
        return np.ones(len(candidates), np.bool_)
