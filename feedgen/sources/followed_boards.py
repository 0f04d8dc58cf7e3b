"""The best unseen pins of the boards the user follows."""

from dataclasses import dataclass

import numpy as np

from feedgen.candidates import Candidates
from feedgen.query import Query
from feedgen.stages import Dropped, Found
from polaris.client import BOARD, DROP_REASONS, SEEN, PolarisClient, Retrieved

HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class FollowedBoards:
    """Asks polaris for the best `k` that were not on the pages before. max_age_ms: 0 for any age."""

    polaris: PolarisClient
    k: int
    max_age_ms: int
    timeout: float
    name: str = "followed_boards"
    required: bool = True

    async def find(self, query: Query, source: int) -> Found:
        """Candidates from the followed boards."""
        boards = query.followed.boards
        found = await self.polaris.retrieve(
            np.full(len(boards), BOARD, np.uint8),
            boards,
            query.followed.weights,
            seen=query.seen.filter,
            k=self.k + len(query.shown),
            per_source=0,
            now_ms=_end_of_hour(query.now_ms),
            max_age_ms=self.max_age_ms,
            explain=query.explain or query.audit_filter,
            timeout=self.timeout,
        )
        candidates = Candidates(
            pin=found.pins,
            board=boards[found.source],
            owner=query.followed.owners[found.source],
            source=np.full(len(found.pins), source, np.uint8),
            light=found.scores,
            quality=found.quality,
            at_ms=found.at_ms,
            more={},
        )
        return Found(candidates, _dropped(query, found))

    def reason(self, board: str, owner: str, direct: bool) -> str:
        """Why a pin is here."""
        if direct:
            return f"from {board or 'a board'}, a board you follow"
        return f"from {board or 'a board'} by {owner or 'someone'}, whom you follow"


def _end_of_hour(now_ms: int) -> int:
    """The moment that ages count from: within an hour the same scores, to the last bit of their rounding to float32."""
    return -(-now_ms // HOUR_MS) * HOUR_MS


def _dropped(query: Query, found: Retrieved) -> Dropped | None:
    if not (query.explain or query.audit_filter):
        return None
    return Dropped(
        found.dropped_pins, query.followed.boards[found.dropped_source], found.dropped_reason, DROP_REASONS, SEEN
    )
