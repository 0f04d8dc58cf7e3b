"""Why each pin is on the page, in one line for the reader."""

from collections.abc import Sequence
from dataclasses import dataclass

from feedgen.candidates import Candidates
from feedgen.query import Query
from feedgen.stages import CandidateSource, Hydrated, Words
from feedgen.titles import objects


@dataclass(frozen=True, slots=True)
class Reasons:
    """Asks each pin's source, once there are titles to say it with. sources: as candidates number them."""

    sources: Sequence[CandidateSource]
    name: str = "reasons"
    required: bool = False

    def hydrate(self, query: Query, rows: Candidates) -> Hydrated:
        """`reason`: object[n], texts; nothing without titles."""
        if "title" not in rows.more:
            return Hydrated({})
        titles = [rows.more[name].tolist() for name in ("board_title", "owner_name", "interest_title", "seed_title")]
        reasons = [
            self.sources[source].reason(Words(board, name, not owner, interest, seed))
            for source, owner, board, name, interest, seed in zip(
                rows.source.tolist(), rows.owner.tolist(), *titles, strict=True
            )
        ]
        return Hydrated({"reason": objects(reasons)})
