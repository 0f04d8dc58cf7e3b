"""The attributes of pins that a page needs and sources do not state: which interest each is of, for the slate's limit,
and whether it was taken down. Scorpion has said so where it ranked; else rockstore is asked, for as few as will do.
"""

from collections.abc import Awaitable
from dataclasses import dataclass

import numpy as np

from feedgen.candidates import Candidates
from feedgen.filters.taken_down import walked_alone
from feedgen.query import Query
from feedgen.stages import Scores
from feedgen.titles import OWN, TAKEN_DOWN, UNDESCRIBED, Columns, Titles
from services.core.columns import I64, Array

PAGES = 2  # of each source, so many pages of candidates are asked for


@dataclass(frozen=True, slots=True)
class PinAttributes:
    """Asks rockstore, where scorpion did not say: for all that walks alone found, as their graph is as old as its
    snapshot, and for the best of the others whose interest is not known: the rest won't be looked at.
    """

    titles: Titles
    name: str = "pin_attributes"
    required: bool = False

    def columns(self, query: Query, candidates: Candidates) -> Scores | Awaitable[Scores]:
        """`interest`: uint64[n], through which it was found, or else the first that the pin joined, 0: not known; and
        `taken_down`, `undescribed`, `own`: bool[n].
        """
        interest = candidates.interest
        if "taken_down" in candidates.more:
            return Scores({"interest": np.where(interest == 0, candidates.column("first_interest"), interest)})
        asked = walked_alone(candidates)
        best = best_of_each(candidates.source, candidates.column("score"), PAGES * query.limit)
        asked[best] |= interest[best] == 0
        rows = np.flatnonzero(asked)
        return self._ask(query, candidates, rows) if len(rows) else Scores({})

    async def _ask(self, query: Query, candidates: Candidates, rows: I64) -> Scores:
        return Scores(columns_of(candidates, rows, await self.titles.standing(query.user, candidates.pin[rows])))


def columns_of(candidates: Candidates, rows: I64, standing: Columns) -> dict[str, Array]:
    """Columns of n candidates from what is known of some rows: `interest`, uint64[n], through which each was found, or else
    the first that the pin joined; and the others of `standing` (`feedgen.titles`), False where nothing is known.
    """
    interest = candidates.interest.copy()
    interest[rows] = np.where(interest[rows] == 0, standing["first_interest"], interest[rows])
    columns: dict[str, Array] = {"interest": interest}
    for name in (TAKEN_DOWN, UNDESCRIBED, OWN):
        columns[name] = np.zeros(len(candidates), np.bool_)
        columns[name][rows] = standing[name]
    return columns


def best_of_each(source: Array, score: Array, most: int) -> I64:
    """Rows of the `most` best scores of each source."""
    order = np.lexsort((-score, source))
    group = source[order]
    rank = np.arange(len(order)) - np.searchsorted(group, group)
    return order[rank < most]
