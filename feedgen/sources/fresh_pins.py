"""The newest good pins of the interests that everybody saves from, for users of whom little is known."""

from collections.abc import Awaitable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from counters.client import CountersClient
from features.requests import CandidateOrigin
from feedgen.candidates import Candidates
from feedgen.filters.met import unmet
from feedgen.last_resort.most_saved import most_saved
from feedgen.last_resort.ttl import TtlValue
from feedgen.query import Query
from feedgen.sources.retrieval import Retrieval
from feedgen.stages import SourceFindings, Words
from polaris.client import INTEREST, Retrieved
from services.core.columns import I64, U64, Array
from services.core.events import Kind

DEEP = 4  # so many times the candidates are cached, for users who have met some of them


class Fresh(NamedTuple):
    """Pins of the popular interests as users get them, first the best of each interest. found.source: index into
    interests; more: there are others beyond.
    """

    interests: U64
    found: Retrieved
    order: I64
    more: bool


@dataclass(frozen=True, slots=True)
class FreshPins:
    """Asks counters for the `most` popular interests, then polaris for their pins, all of one weight: age decides. That is
    the same for all, so it is cached; for a user who has met too much of it polaris is asked anew.
    """

    counters: CountersClient
    retrieval: Retrieval
    most: int
    cache: TtlValue[Fresh]
    timeout: float
    name: str = "fresh_pins"
    required: bool = False

    def find(self, query: Query, source: int) -> SourceFindings | Awaitable[SourceFindings]:
        """Candidates from popular interests."""
        found = self.cache.used(query.now_ms, lambda: self._ask(query.now_ms), partial(self._of, query, source))
        return found if isinstance(found, SourceFindings) else self._awaited(found)

    def _of(self, query: Query, source: int, fresh: Fresh) -> SourceFindings | Awaitable[SourceFindings]:
        rows = self._unmet(query, fresh)
        if rows is None:
            return self._ask_alone(query, source, fresh.interests)
        return SourceFindings(_candidates(source, fresh.interests, fresh.found, rows))

    async def _awaited(self, found: Awaitable[SourceFindings | Awaitable[SourceFindings]]) -> SourceFindings:
        answer = await found
        return answer if isinstance(answer, SourceFindings) else await answer

    async def _ask_alone(self, query: Query, source: int, interests: U64) -> SourceFindings:
        found, dropped = await self.retrieval.ask(query, INTEREST, interests, np.ones(len(interests), np.float32))
        return SourceFindings(_candidates(source, interests, found, np.arange(len(found.pins))), dropped)

    def _unmet(self, query: Query, fresh: Fresh) -> I64 | None:
        """Rows of pins that the user has not met; None when these are too few, and there are more."""
        rows, k = fresh.order, self.retrieval.k
        rows = rows[unmet(query, fresh.found.pins[rows])][:k]
        return None if len(rows) < k and fresh.more else rows

    async def _ask(self, now_ms: int) -> Fresh:
        """The pins for a user who has met none of them."""
        popular = await most_saved(self.counters, Kind.INTEREST, self.most, now_ms, self.timeout)
        interests, k = popular.objects, DEEP * self.retrieval.k
        found = await self.retrieval.of_anybody(now_ms, INTEREST, interests, np.ones(len(interests), np.float32), k)
        within = _places(found.source) < self.retrieval.per_place(self.retrieval.k, len(interests))
        return Fresh(interests, found, np.argsort(~within, kind="stable"), len(found.pins) == k)

    def reason(self, words: Words) -> str:
        """Why a pin is here."""
        return f"new in {words.interest}" if words.interest else "new"


def _candidates(source: int, interests: U64, found: Retrieved, rows: I64) -> Candidates:
    return Candidates.of(
        found.pins[rows],
        interest=interests[found.source[rows]],
        source=source,
        origin=CandidateOrigin.FRESH,
        light=found.scores[rows],
        quality=found.quality[rows],
        at_ms=found.at_ms[rows],
    )


def _places(groups: Array) -> I64:
    """int64[n]: how many rows before each are of its group."""
    order = np.argsort(groups, kind="stable")
    sorted_ = groups[order]
    places = np.empty(len(groups), np.int64)
    places[order] = np.arange(len(groups)) - np.searchsorted(sorted_, sorted_)
    return places
