"""When a page can't be made: the newest pages that the user was served, as smartfeed kept them; or popular pins."""

from collections.abc import Awaitable
from dataclasses import dataclass

from feedgen.candidates import Candidates
from feedgen.popular import PopularList
from feedgen.query import Query
from feedgen.stages import Fallen
from services.core.events import Surface
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
        return Fallen(found.pins, found.boards, found.removed)


@dataclass(frozen=True, slots=True)
class LastResort:
    """Popular pins as they were last asked for, by whichever page: a reader without a fallback page gets these."""

    popular: PopularList
    name: str = "popular_pins"
    required: bool = False

    def follows(self, query: Query) -> bool:
        """As `Resort` has it: all feeds but *following* bring popular pins themselves when theirs run out."""
        return query.surface != Surface.FOLLOWING

    def at_hand(self, query: Query) -> Candidates | Awaitable[Candidates]:
        """As `Resort` has it."""
        known = self.popular.kept.latest
        return self._ask(query) if known is None else self.popular.unmet(query, known)

    async def _ask(self, query: Query) -> Candidates:
        return self.popular.unmet(query, await self.popular.ask(query.now_ms))
