"""Which interest each of the best candidates is of, for the slate's limit. Scorpion has said so where it ranked; else only
the best are asked for: the rest won't be looked at.
"""

from dataclasses import dataclass

import numpy as np

from features.pins import first_interests
from feedgen.candidates import Candidates
from feedgen.query import Query
from feedgen.stages import Scores
from rockstore.client import PIN, RockstoreClient
from services.columns import I64, Array

PAGES = 2  # of each source, so many pages of candidates are asked for


@dataclass(frozen=True, slots=True)
class MainInterests:
    """Asks rockstore, for candidates whose source does not say and scorpion did not."""

    rockstore: RockstoreClient
    timeout: float
    name: str = "main_interests"
    required: bool = False

    async def columns(self, query: Query, candidates: Candidates) -> Scores:
        """`interest`: uint64[n], through which it was found, or else the first that the pin joined; 0: not known."""
        if "first_interest" in candidates.more:
            first = candidates.column("first_interest")
            return Scores({"interest": np.where(candidates.interest == 0, first, candidates.interest)})
        best = best_of_each(candidates.source, candidates.column("score"), PAGES * query.limit)
        rows = best[candidates.interest[best] == 0]
        if not len(rows):
            return Scores({})
        known = await self.rockstore.attributes(PIN, candidates.pin[rows], self.timeout, bare=True)
        interest = candidates.interest.copy()
        interest[rows] = first_interests(known.interests)[:, 0]
        return Scores({"interest": interest})


def best_of_each(source: Array, score: Array, most: int) -> I64:
    """Rows of the `most` best scores of each source."""
    order = np.lexsort((-score, source))
    group = source[order]
    rank = np.arange(len(order)) - np.searchsorted(group, group)
    return order[rank < most]
