"""The pins nearest to what the user engaged with: those that the random walks to boards pass on their way."""

from dataclasses import dataclass

import numpy as np

from features.requests import CandidateOrigin
from feedgen.candidates import EMPTY, Candidates
from feedgen.filters.met import unmet
from feedgen.query import Query
from feedgen.stages import SourceFindings, Words


@dataclass(frozen=True, slots=True)
class WalkedPins:
    """The k nearest pins that the user has not met, as the query's walk found them.

    The light score is the logarithm of the share of the best one's score. The graph is as old as its snapshot: a pin of
    it may have been taken down since, which later stages say (feedgen/filters/taken_down.py).
    """

    k: int
    name: str = "walked_pins"
    required: bool = False

    def find(self, query: Query, source: int) -> SourceFindings:
        """Candidates that the walks passed; seed: the pin whose walk visited each most. Raises the error that the walk was
        lost to.
        """
        recent, walk = query.recent, query.walked.pins
        if not len(recent.pins):
            return SourceFindings(EMPTY)
        query.walked.check()
        rows = np.flatnonzero((walk.scores > 0) & unmet(query, walk.ids))[: self.k]
        if not len(rows):
            return SourceFindings(EMPTY)
        weights = np.maximum(walk.scores[rows] / walk.scores[0], np.finfo(np.float32).tiny)
        candidates = Candidates.of(
            walk.ids[rows],
            seed=recent.pins[walk.seeds[rows]],
            source=source,
            origin=CandidateOrigin.WALKED,
            weight=weights,
            light=np.log(weights),
        )
        return SourceFindings(candidates)

    def reason(self, words: Words) -> str:
        """Why a pin is here."""
        return f"because you liked {words.seed or 'a pin near it'}"
