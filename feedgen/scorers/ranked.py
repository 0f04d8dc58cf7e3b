"""Ranks by the model that is promoted. Where none is, or scorpion is away, the score of the stage before stays."""

from dataclasses import dataclass

import numpy as np

from features.pins import creator_marks
from feedgen.candidates import Candidates
from feedgen.page import Ranking
from feedgen.query import Query
from feedgen.stages import Scores
from feedgen.stated import stated
from scorpion.client import Attributes, NoModel, ScorpionClient
from services.core.columns import Array
from services.core.errors import MeshError

PROMOTED = ""
GREATEST = float(np.finfo(np.float32).max)  # of a score: the log keeps float32


@dataclass(frozen=True, slots=True)
class Ranked:
    """Asks scorpion."""

    scorpion: ScorpionClient
    timeout: float
    name: str = "ranked"
    required: bool = False

    async def columns(self, query: Query, candidates: Candidates) -> Scores:
        """`score`: float64[n]; `features`: float32[n, f], the model's input; and where it knows of the pins
        `first_interest`: uint64[n] and `taken_down`, `undescribed`, `own`: bool[n]. Raises the errors of scorpion, and
        MeshError for scores that nothing can be ranked by.
        """
        if not len(candidates):
            return Scores({})
        says = stated(query, candidates)
        try:
            scored = await self.scorpion.score(
                PROMOTED,
                says.user,
                says.interests,
                says.affinities,
                says.request,
                candidates.pin,
                now_ms=query.now_ms,
                features=True,
                attributes=True,
                timeout=self.timeout,
            )
        except NoModel:
            return Scores({})  # the light score ranks, and nothing is lost
        if scored.scores.shape != (len(candidates),) or not np.abs(scored.scores).max() <= GREATEST:
            raise MeshError(f"{scored.model} does not give a number of every pin")
        ranking = Ranking(
            scored.model,
            scored.fingerprint,
            tuple(scored.feature_names),
            scored.hits,
            scored.misses,
            tuple(scored.lost),
        )
        columns: dict[str, Array] = {"score": scored.scores, "features": scored.features}
        if scored.attributes is not None:
            columns |= said_of(query, scored.attributes)
        return Scores(columns, ranking, f"defaults for: {', '.join(scored.lost)}" if scored.lost else "")


def said_of(query: Query, known: Attributes) -> dict[str, Array]:
    """The columns of what is known of n candidates besides: `first_interest`, `taken_down`, `undescribed`, `own`."""
    mark = creator_marks(np.array([query.user], np.uint64))[0]
    own = known.creators == mark if mark else np.zeros(len(known.creators), bool)
    return {
        "first_interest": known.first_interests,
        "taken_down": known.taken_down,
        "undescribed": known.undescribed,
        "own": own,
    }
