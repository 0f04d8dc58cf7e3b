"""A page whose titles say that some of its pins may not be shown is made once more, without them."""

from dataclasses import dataclass

import numpy as np

from feedgen.candidates import Candidates
from feedgen.filters.met import not_of
from feedgen.query import Query
from services.core.columns import Array


@dataclass(frozen=True, slots=True)
class Withheld:
    """Drops the pins that the first attempt at this page had to leave out."""

    name: str = "withheld"
    required: bool = True

    def keep(self, query: Query, candidates: Candidates) -> Array:
        """bool[n]."""
        if not query.withheld:
            return np.ones(len(candidates), np.bool_)
        return not_of(candidates, np.array(sorted(query.withheld), np.uint64))
