"""The pins that everybody saves, for users of whom little is known, and when nothing else is left."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from counters.client import CountersClient
from features.pins import first_interests
from features.requests import Origin
from feedgen.candidates import EMPTY, Candidates
from feedgen.filters.met import unmet
from feedgen.query import Query
from feedgen.sources.most_saved import Kept, most_saved
from feedgen.stages import Found, Words
from rockstore.client import PIN, RockstoreClient
from services.columns import F32, U64
from services.events import Kind


class Popular(NamedTuple):
    """Pins, most saved first: their shares (float32[n]), qualities and first interests."""

    pins: U64
    shares: F32
    quality: F32
    interests: U64


@dataclass(frozen=True, slots=True)
class PopularPins:
    """Asks counters for the `most` pins saved most of late, and rockstore what they are; brings the best k that the user
    has not met. The light score is ln(share).
    """

    counters: CountersClient
    rockstore: RockstoreClient
    most: int
    k: int
    kept: Kept[Popular]
    timeout: float
    name: str = "popular_pins"
    required: bool = False

    def find(self, query: Query, source: int) -> Found | Awaitable[Found]:
        """Candidates that everybody saves."""
        popular = self.kept.at_hand(query.now_ms)
        return self._ask_first(query, source) if popular is None else self._found(query, source, popular)

    async def _ask_first(self, query: Query, source: int) -> Found:
        popular = await self.kept.get(query.now_ms, lambda: self._ask(query.now_ms))
        return self._found(query, source, popular)

    def _found(self, query: Query, source: int, popular: Popular) -> Found:
        rows = np.flatnonzero(unmet(query, popular.pins))[: self.k]
        if not len(rows):
            return Found(EMPTY)
        candidates = Candidates.of(
            popular.pins[rows],
            interest=popular.interests[rows],
            source=source,
            origin=Origin.POPULAR,
            weight=popular.shares[rows],
            light=np.log(popular.shares[rows]),
            quality=popular.quality[rows],
        )
        return Found(candidates)

    async def _ask(self, now_ms: int) -> Popular:
        pins, shares = await most_saved(self.counters, Kind.PIN, self.most, now_ms, self.timeout)
        known = await self.rockstore.attributes(PIN, pins, self.timeout, bare=True)
        up = ~known.taken_down
        return Popular(pins[up], shares[up], known.quality[up], first_interests(known.interests)[up, 0])

    def reason(self, words: Words) -> str:
        """Why a pin is here."""
        return "popular with everybody"
