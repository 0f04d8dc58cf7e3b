"""A pin that nothing describes yet is on no page: it was saved, or it joined an interest, before it was created."""

from dataclasses import dataclass

import numpy as np

from feedgen.candidates import Candidates
from feedgen.query import Query
from services.core.columns import Array


@dataclass(frozen=True, slots=True)
class Undescribed:
    """Drops pins that scorers or hydrators found to be undescribed."""

    name: str = "undescribed"
    required: bool = True
    reason: str = "nothing describes it yet"

    def keep(self, query: Query, candidates: Candidates) -> Array:
        """bool[n]."""
        if "undescribed" in candidates.more:
            return np.asarray(~candidates.column("undescribed"))
        return np.ones(len(candidates), np.bool_)
