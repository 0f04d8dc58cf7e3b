"""Titles, links and names of the pins of a page, and which of them may not be shown."""

from dataclasses import dataclass

from feedgen.candidates import Candidates
from feedgen.query import Query
from feedgen.stages import Hydrated
from feedgen.titles import Titles


@dataclass(frozen=True, slots=True)
class PageTitles:
    """Asks rockstore. A page without titles is still a page."""

    titles: Titles
    name: str = "titles"
    required: bool = False

    async def hydrate(self, query: Query, rows: Candidates) -> Hydrated:
        """The columns of `feedgen.titles.Titles.of_page`. Raises the errors of rockstore."""
        columns = await self.titles.of_page(query.user, rows.pin, rows.board, rows.seed, rows.owner, rows.interest)
        return Hydrated(columns)
