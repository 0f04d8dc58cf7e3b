"""A pin that was taken down is on no page. Polaris leaves them out itself; other sources may be older than that."""

from dataclasses import dataclass

import numpy as np

from features.requests import CandidateOrigin
from feedgen.candidates import Candidates
from feedgen.query import Query
from services.core.columns import Array


@dataclass(frozen=True, slots=True)
class TakenDown:
    """Drops pins that scorers or hydrators found to be taken down; while none can say, pins that walks alone found."""

    name: str = "taken_down"
    required: bool = True
    reason: str = "taken down"

    def keep(self, query: Query, candidates: Candidates) -> Array:
        """bool[n]."""
        if "taken_down" in candidates.more:
            return np.asarray(~candidates.column("taken_down"))
        return ~walked_alone(candidates)


def walked_alone(candidates: Candidates) -> Array:
    """bool[n]: which pins no source found but the walks that passed them, whose graph may be a day old. Of counted ones."""
    return np.asarray(
        (candidates.origin == CandidateOrigin.WALKED) & (np.bitwise_count(candidates.column("found_by")) == 1)
    )
