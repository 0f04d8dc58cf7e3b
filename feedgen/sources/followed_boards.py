"""The best unseen pins of the boards the user follows."""

from dataclasses import dataclass

from features.requests import CandidateOrigin
from feedgen.candidates import EMPTY, Candidates
from feedgen.query import Query
from feedgen.sources.retrieval import Retrieval
from feedgen.stages import SourceFindings, Words
from polaris.client import BOARD


@dataclass(frozen=True, slots=True)
class FollowedBoardPins:
    """Asks polaris."""

    retrieval: Retrieval
    name: str = "followed_boards"
    required: bool = True

    async def find(self, query: Query, source: int) -> SourceFindings:
        """Candidates from the followed boards."""
        of = query.followed
        if not len(of.boards):
            return SourceFindings(EMPTY)
        found, dropped = await self.retrieval.ask(query, BOARD, of.boards, of.weights)
        candidates = Candidates.of(
            found.pins,
            board=of.boards[found.source],
            owner=of.owners[found.source],
            source=source,
            origin=CandidateOrigin.FOLLOWING,
            weight=of.weights[found.source],
            light=found.scores,
            quality=found.quality,
            at_ms=found.at_ms,
        )
        return SourceFindings(candidates, dropped)

    def reason(self, words: Words) -> str:
        """Why a pin is here."""
        if words.direct:
            return f"from {words.board or 'a board'}, a board you follow"
        return f"from {words.board or 'a board'} by {words.owner or 'someone'}, whom you follow"
