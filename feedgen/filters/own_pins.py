"""Pins are not recommended to the users who made them."""

from dataclasses import dataclass

import numpy as np

from feedgen.candidates import Candidates
from feedgen.query import Query
from services.core.columns import Array


@dataclass(frozen=True, slots=True)
class OwnPins:
    """Drops pins that scorers or hydrators found to be the user's own."""

    name: str = "own_pins"
    required: bool = True
    reason: str = "the user made it"

    def keep(self, query: Query, candidates: Candidates) -> Array:
        """bool[n]."""
        if "own" in candidates.more:
            return np.asarray(~candidates.column("own"))
        return np.ones(len(candidates), np.bool_)
