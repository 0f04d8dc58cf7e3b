"""Ranks by the light score that the sources state, until a model does."""

from dataclasses import dataclass

import numpy as np

from feedgen.candidates import Candidates
from feedgen.page import LIGHT
from feedgen.query import Query
from feedgen.stages import Scores
from services.core.columns import F32


@dataclass(frozen=True, slots=True)
class LightScore:
    """`score` is the light score. below_best: relative to the best of its source, where sources have scales of their own."""

    below_best: bool = False
    name: str = "light_score"
    required: bool = True

    def columns(self, query: Query, candidates: Candidates) -> Scores:
        """`score`: float32[n]."""
        return Scores({"score": _below_best(candidates) if self.below_best else candidates.light}, LIGHT)


def _below_best(candidates: Candidates) -> F32:
    best = np.full(256, -np.inf, np.float32)
    np.maximum.at(best, candidates.source, candidates.light)
    return candidates.light - best[candidates.source]
