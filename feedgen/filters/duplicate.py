"""A pin that several sources found is one candidate: the first."""

from dataclasses import dataclass

from feedgen.candidates import Candidates
from feedgen.query import Query
from services.core.columns import Array


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Keeps the first of each pin, of candidates that were counted."""

    name: str = "duplicate"
    required: bool = True

    def keep(self, query: Query, candidates: Candidates) -> Array:
        """bool[n]."""
        return candidates.column("first")
