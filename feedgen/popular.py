"""The pins that everybody saves, as counters and rockstore have them: what a source and the last resort share.

It knows no kernel: the edge asks this too, when feedgen is away, and has no compiler in its memory.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from counters.client import CountersClient
from features.pins import first_interests
from features.requests import Origin
from feedgen.candidates import EMPTY, Candidates
from feedgen.query import Query
from feedgen.sources.most_saved import Kept, most_saved
from rockstore.client import PIN, RockstoreClient
from services.core.columns import F32, U64, Array, among
from services.core.events import Kind


class Popular(NamedTuple):
    """Pins, most saved first: their shares (float32[n]), qualities, first interests and creators."""

    pins: U64
    shares: F32
    quality: F32
    interests: U64
    creators: U64


@dataclass(frozen=True, slots=True)
class PopularList:
    """Asks counters for the `most` pins saved most of late, and rockstore what they are; chooses the best k of them."""

    counters: CountersClient
    rockstore: RockstoreClient
    most: int
    k: int
    kept: Kept[Popular]
    timeout: float
    own: bool = False  # whether the user's own pins are chosen too

    async def ask(self, now_ms: int) -> Popular:
        """What is popular, as of now or a little before."""
        return await self.kept.get(now_ms, lambda: self._ask(now_ms))

    def unmet(self, query: Query, popular: Popular) -> Candidates:
        """The best of these that the user has not met. For now and then: a source has a kernel for it."""
        met = among(popular.pins, query.seen.pins) | query.shown.among(popular.pins)
        return self.chosen(query, 0, popular, ~met)

    def chosen(self, query: Query, source: int, popular: Popular, new: Array) -> Candidates:
        """The best of these that are new (bool[n]). The light score is ln(share)."""
        if not self.own:
            new = new & (popular.creators != query.user)
        rows = np.flatnonzero(new)[: self.k]
        if not len(rows):
            return EMPTY
        return Candidates.of(
            popular.pins[rows],
            interest=popular.interests[rows],
            source=source,
            origin=Origin.POPULAR,
            weight=popular.shares[rows],
            light=np.log(popular.shares[rows]),
            quality=popular.quality[rows],
        )

    async def _ask(self, now_ms: int) -> Popular:
        pins, shares = await most_saved(self.counters, Kind.PIN, self.most, now_ms, self.timeout)
        known = await self.rockstore.attributes(PIN, pins, self.timeout, bare=True)
        up = ~known.taken_down & known.described
        interests = first_interests(known.interests)[:, 0]
        return Popular(pins[up], shares[up], known.quality[up], interests[up], known.owners[up])
