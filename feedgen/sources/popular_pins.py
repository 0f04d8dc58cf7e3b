"""The pins that everybody saves, for users of whom little is known."""

from collections.abc import Awaitable
from dataclasses import dataclass
from functools import partial

import numpy as np

from features.requests import CandidateOrigin
from feedgen.candidates import EMPTY, Candidates
from feedgen.filters.met import unmet
from feedgen.last_resort.popular import Popular, PopularList
from feedgen.query import Query
from feedgen.stages import SourceFindings, Words


@dataclass(frozen=True, slots=True)
class PopularPins:
    """Brings the best k popular pins that the user has not met. own: the user's own pins too."""

    popular: PopularList
    k: int
    own: bool = False
    name: str = "popular_pins"
    required: bool = False

    def find(self, query: Query, source: int) -> SourceFindings | Awaitable[SourceFindings]:
        """Candidates that everybody saves. The light score is ln(share)."""
        return self.popular.used(query.now_ms, partial(self._of, query, source))

    def _of(self, query: Query, source: int, popular: Popular) -> SourceFindings:
        new = unmet(query, popular.pins)
        if not self.own:
            new &= popular.creators != query.user
        rows = np.flatnonzero(new)[: self.k]
        if not len(rows):
            return SourceFindings(EMPTY)
        candidates = Candidates.of(
            popular.pins[rows],
            interest=popular.interests[rows],
            source=source,
            origin=CandidateOrigin.POPULAR,
            weight=popular.shares[rows],
            light=np.log(popular.shares[rows]),
            quality=popular.quality[rows],
        )
        return SourceFindings(candidates)

    def reason(self, words: Words) -> str:
        """Why a pin is here."""
        return "popular with everybody"
