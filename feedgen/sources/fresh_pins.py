"""The newest good pins of the interests that everybody saves from, for users of whom little is known."""

from dataclasses import dataclass

import numpy as np

from counters.client import CountersClient
from features.requests import Origin
from feedgen.candidates import EMPTY, Candidates
from feedgen.query import Query
from feedgen.sources.most_saved import Kept, Saved, most_saved
from feedgen.sources.retrieval import Retrieval
from feedgen.stages import Found, Words
from polaris.client import INTEREST
from services.events import Kind


@dataclass(frozen=True, slots=True)
class FreshPins:
    """Asks counters for the `most` popular interests, then polaris for their pins, all of one weight: age decides."""

    counters: CountersClient
    retrieval: Retrieval
    most: int
    kept: Kept[Saved]
    timeout: float
    name: str = "fresh_pins"
    required: bool = False

    async def find(self, query: Query, source: int) -> Found:
        """Candidates from popular interests."""
        popular = await self.kept.get(
            query.now_ms, lambda: most_saved(self.counters, Kind.INTEREST, self.most, query.now_ms, self.timeout)
        )
        interests = popular.objects
        if not len(interests):
            return Found(EMPTY)
        found, dropped = await self.retrieval.ask(query, INTEREST, interests, np.ones(len(interests), np.float32))
        candidates = Candidates.of(
            found.pins,
            interest=interests[found.source],
            source=source,
            origin=Origin.FRESH,
            light=found.scores,
            quality=found.quality,
            at_ms=found.at_ms,
        )
        return Found(candidates, dropped)

    def reason(self, words: Words) -> str:
        """Why a pin is here."""
        return f"new in {words.interest}" if words.interest else "new"
