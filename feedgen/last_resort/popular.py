"""The pins that many users save, as counters and rockstore have them: a source and the last resort share them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from counters.client import CountersClient
from features.pins import first_interests
from feedgen.last_resort.most_saved import most_saved
from feedgen.last_resort.ttl import TtlValue
from rockstore.client import PIN, RockstoreClient
from services.core.columns import F32, U64
from services.core.events import Kind

R = TypeVar("R")


class Popular(NamedTuple):
    """Pins, most saved first: their shares (float32[n]), qualities, first interests and creators."""

    pins: U64
    shares: F32
    quality: F32
    interests: U64
    creators: U64


@dataclass(frozen=True, slots=True)
class PopularList:
    """Asks counters for the `most` pins saved most of late, and rockstore for their attributes."""

    counters: CountersClient
    rockstore: RockstoreClient
    most: int
    cache: TtlValue[Popular]
    timeout: float

    async def ask(self, now_ms: int) -> Popular:
        """The popular pins, as of now or a little before."""
        return await self.cache.get(now_ms, lambda: self._ask(now_ms))

    def used(self, now_ms: int, use: Callable[[Popular], R]) -> R | Awaitable[R]:
        """The result of `use` on the answer: now when that is cached, and else later."""
        return self.cache.used(now_ms, lambda: self._ask(now_ms), use)

    async def _ask(self, now_ms: int) -> Popular:
        pins, shares = await most_saved(self.counters, Kind.PIN, self.most, now_ms, self.timeout)
        known = await self.rockstore.attributes(PIN, pins, self.timeout, bare=True)
        up = ~known.taken_down & known.described
        interests = first_interests(known.interests)[:, 0]
        return Popular(pins[up], shares[up], known.quality[up], interests[up], known.owners[up])
