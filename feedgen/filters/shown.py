"""What the pages before have shown is not shown again."""

from dataclasses import dataclass

from feedgen.candidates import Candidates
from feedgen.filters.met import not_of
from feedgen.query import Query
from services.columns import Array


@dataclass(frozen=True, slots=True)
class Shown:
    """Drops the pins of the cursor, exactly."""

    name: str = "shown_before"
    required: bool = True

    def keep(self, query: Query, candidates: Candidates) -> Array:
        """bool[n]."""
        return not_of(candidates, query.shown)
