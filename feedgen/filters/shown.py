"""What the pages before have shown is not shown again."""

from dataclasses import dataclass

from feedgen.candidates import Candidates
from feedgen.query import Query
from services.columns import Array, among


@dataclass(frozen=True, slots=True)
class Shown:
    """Drops the pins of the cursor, exactly."""

    name: str = "shown_before"
    required: bool = True

    def keep(self, query: Query, candidates: Candidates) -> Array:
        """bool[n]."""
        return ~among(candidates.pin, query.shown)
