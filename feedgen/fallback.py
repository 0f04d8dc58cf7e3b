"""When a page can't be made: the last good one, as smartfeed kept it."""

from dataclasses import dataclass

from feedgen.query import Query
from feedgen.stages import Fallen
from smartfeed.client import SmartfeedClient


@dataclass(frozen=True, slots=True)
class LastGood:
    """Asks smartfeed."""

    smartfeed: SmartfeedClient
    timeout: float
    name: str = "last_good"
    required: bool = True

    async def last(self, query: Query) -> Fallen:
        """The list last served to the user on this feed."""
        found = await self.smartfeed.last_served(query.user, query.surface, self.timeout)
        return Fallen(found.pins, found.boards)
