"""Which candidates may not be shown, of all that are left: once one pin of a page may not, the others must be known."""

from dataclasses import dataclass

import numpy as np

from feedgen.candidates import Candidates
from feedgen.query import Query
from feedgen.scorers.pin_attributes import columns_of
from feedgen.stages import Hydrated
from feedgen.titles import Titles


@dataclass(frozen=True, slots=True)
class Visibility:
    """Asks rockstore of every candidate."""

    titles: Titles
    name: str = "visibility"
    required: bool = False

    async def hydrate(self, query: Query, rows: Candidates) -> Hydrated:
        """`taken_down`, `undescribed`, `own`: bool[n]; `interest`: uint64[n], for the slate. Raises the errors of
        rockstore.
        """
        standing = await self.titles.standing(query.user, rows.pin)
        return Hydrated(columns_of(rows, np.arange(len(rows)), standing))
