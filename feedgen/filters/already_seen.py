"""What the user has met, exactly: the leaves' bloom filter lets none through, this says so whatever they did."""

from dataclasses import dataclass

from feedgen.candidates import Candidates
from feedgen.query import Query
from services.columns import Array, among


@dataclass(frozen=True, slots=True)
class AlreadySeen:
    """Drops pins that were shown, opened, saved or hidden."""

    name: str = "already_seen"
    required: bool = True

    def keep(self, query: Query, candidates: Candidates) -> Array:
        """bool[n]."""
        return ~among(candidates.pin, query.seen.pins)
