"""Pins that the user has met, exactly. Polaris has dropped them by its bloom filter; this makes sure, also for sources that do
not ask polaris.
"""

from dataclasses import dataclass

from feedgen.candidates import Candidates
from feedgen.filters.met import not_of
from feedgen.query import Query
from services.core.columns import Array


@dataclass(frozen=True, slots=True)
class AlreadySeen:
    """Drops pins that were shown, opened, saved or hidden."""

    name: str = "already_seen"
    required: bool = True

    def keep(self, query: Query, candidates: Candidates) -> Array:
        """bool[n]."""
        return not_of(candidates, query.seen.pins)
