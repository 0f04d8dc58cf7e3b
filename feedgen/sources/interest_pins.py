"""The best unseen pins of the interests that the user follows, and of those that their actions show."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from features.requests import CandidateOrigin
from feedgen.candidates import EMPTY, Candidates
from feedgen.query import Query
from feedgen.sources.retrieval import Retrieval
from feedgen.stages import SourceFindings, Words
from polaris.client import INTEREST
from services.core.columns import F32, U64, Array, ids

DISLIKED = 0.25  # of its weight is left to a followed interest whose pins the user hides: the follow was stated


@dataclass(frozen=True, slots=True)
class InterestPins:
    """Asks polaris. most: interests looked at, greatest weight first; inferred: weight of the strongest inferred
    interest, where a followed one has 1. An interest that is followed and inferred has the sum.
    """

    retrieval: Retrieval
    most: int
    inferred: float
    name: str = "interest_pins"
    required: bool = True

    async def find(self, query: Query, source: int) -> SourceFindings:
        """Candidates from the user's interests."""
        interests, weights = self.interests(query)
        if not len(interests):
            return SourceFindings(EMPTY)
        found, dropped = await self.retrieval.ask(query, INTEREST, interests, weights)
        candidates = Candidates.of(
            found.pins,
            interest=interests[found.source],
            source=source,
            origin=CandidateOrigin.INTEREST,
            weight=weights[found.source],
            light=found.scores,
            quality=found.quality,
            at_ms=found.at_ms,
        )
        return SourceFindings(candidates, dropped, _explained(query, interests, weights) if query.explain else {})

    def interests(self, query: Query) -> tuple[U64, F32]:
        """The interests that are looked at, uint64[n], and their weights, float32[n] > 0, greatest first."""
        followed = set(query.followed_interests.tolist())
        every = sorted(followed.union(query.recent.interests.tolist()))
        interests = ids(every)
        affinity = affinities_of(query, interests)
        top = float(affinity.max(initial=0))
        weights = np.array([interest in followed for interest in every], np.float32)
        weights[affinity < 0] *= DISLIKED
        if top > 0:
            weights += np.float32(self.inferred / top) * np.maximum(affinity, 0)
        order = np.lexsort((interests, -weights))[: self.most]
        order = order[weights[order] > 0]
        return interests[order], weights[order]

    def reason(self, words: Words) -> str:
        """Why a pin is here."""
        return f"from {words.interest}, one of your interests" if words.interest else "from one of your interests"


def affinities_of(query: Query, interests: U64) -> F32:
    """float32[n]: the user's affinity for each interest; 0: none is known."""
    known = dict(zip(query.recent.interests.tolist(), query.recent.affinities.tolist(), strict=True))
    return np.array([known.get(interest, 0.0) for interest in interests.tolist()], np.float32)


def _explained(query: Query, interests: U64, weights: F32) -> dict[str, Any]:
    followed: Array = np.isin(interests, query.followed_interests)
    known = np.isin(interests, query.recent.interests)
    affinity = affinities_of(query, interests)
    rows = [
        {
            "interest": str(interest),
            "title": "",
            "weight": float(weights[i]),
            "followed": bool(followed[i]),
            "affinity": float(affinity[i]) if known[i] else None,
        }
        for i, interest in enumerate(interests.tolist())
    ]
    return {"interests": rows}
