"""What the page must know of pins that their source does not say: which interest each is of, for the slate's limit, and
whether it was taken down. Scorpion has said so where it ranked; else rockstore is asked, for as few as will do.
"""

from collections.abc import Awaitable
from dataclasses import dataclass

import numpy as np

from features.pins import first_interests
from feedgen.candidates import Candidates
from feedgen.filters.taken_down import walked_alone
from feedgen.query import Query
from feedgen.stages import Scores
from rockstore.client import PIN, RockstoreClient
from services.core.columns import I64, Array

PAGES = 2  # of each source, so many pages of candidates are asked for


@dataclass(frozen=True, slots=True)
class PinAttributes:
    """Asks rockstore, where scorpion did not say: for all that walks alone found, as their graph is as old as its
    snapshot, and for the best of the others whose interest is not known: the rest won't be looked at. For a page that is
    made again, as it had pins that may not be shown, for all; again: only then.
    """

    rockstore: RockstoreClient
    timeout: float
    again: bool = False
    name: str = "pin_attributes"
    required: bool = False

    def columns(self, query: Query, candidates: Candidates) -> Scores | Awaitable[Scores]:
        """`interest`: uint64[n], through which it was found, or else the first that the pin joined, 0: not known; and
        `taken_down`, `undescribed`, `own`: bool[n].
        """
        interest = candidates.interest
        if query.withheld:
            return self._ask(query, candidates, np.arange(len(candidates)))
        if self.again:
            return Scores({})
        if "taken_down" in candidates.more:
            return Scores({"interest": np.where(interest == 0, candidates.column("first_interest"), interest)})
        asked = walked_alone(candidates)
        best = best_of_each(candidates.source, candidates.column("score"), PAGES * query.limit)
        asked[best] |= interest[best] == 0
        rows = np.flatnonzero(asked)
        return self._ask(query, candidates, rows) if len(rows) else Scores({})

    async def _ask(self, query: Query, candidates: Candidates, rows: I64) -> Scores:
        known = await self.rockstore.attributes(PIN, candidates.pin[rows], self.timeout, bare=True)
        interest = candidates.interest.copy()
        first = first_interests(known.interests)
        if len(first):
            interest[rows] = np.where(interest[rows] == 0, first[:, 0], interest[rows])
        columns: dict[str, Array] = {"interest": interest}
        said = {"taken_down": known.taken_down, "undescribed": ~known.described, "own": known.owners == query.user}
        for name, of_rows in said.items():
            columns[name] = np.zeros(len(candidates), bool)
            columns[name][rows] = of_rows
        return Scores(columns)


def best_of_each(source: Array, score: Array, most: int) -> I64:
    """Rows of the `most` best scores of each source."""
    order = np.lexsort((-score, source))
    group = source[order]
    rank = np.arange(len(order)) - np.searchsorted(group, group)
    return order[rank < most]
