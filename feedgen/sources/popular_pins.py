"""The pins that everybody saves, for users of whom little is known."""

from collections.abc import Awaitable
from dataclasses import dataclass

from feedgen.filters.met import unmet
from feedgen.popular import Popular, PopularList
from feedgen.query import Query
from feedgen.stages import Found, Words


@dataclass(frozen=True, slots=True)
class PopularPins:
    """Brings the best of what is popular that the user has not met."""

    popular: PopularList
    name: str = "popular_pins"
    required: bool = False

    def find(self, query: Query, source: int) -> Found | Awaitable[Found]:
        """Candidates that everybody saves."""
        popular = self.popular.kept.at_hand(query.now_ms)
        return self._ask_first(query, source) if popular is None else self._of(query, source, popular)

    async def _ask_first(self, query: Query, source: int) -> Found:
        return self._of(query, source, await self.popular.ask(query.now_ms))

    def _of(self, query: Query, source: int, popular: Popular) -> Found:
        return Found(self.popular.chosen(query, source, popular, unmet(query, popular.pins)))

    def reason(self, words: Words) -> str:
        """Why a pin is here."""
        return "popular with everybody"
