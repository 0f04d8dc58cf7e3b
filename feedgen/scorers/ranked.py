"""Ranks by the model that is promoted. Where none is, or scorpion is away, the score of the stage before stays."""

from dataclasses import dataclass

from feedgen.candidates import Candidates
from feedgen.page import Ranking
from feedgen.query import Query
from feedgen.stages import Scores
from feedgen.stated import stated
from scorpion.client import ScorpionClient
from services.columns import Array
from services.errors import NotReady

PROMOTED = ""
NO_MODEL = "no model is promoted; "  # as scorpion says it; it is not ready for other reasons too


@dataclass(frozen=True, slots=True)
class Ranked:
    """Asks scorpion."""

    scorpion: ScorpionClient
    timeout: float
    name: str = "ranked"
    required: bool = False

    async def columns(self, query: Query, candidates: Candidates) -> Scores:
        """`score`: float64[n]; `features`: float32[n, f], what the model saw; and where it knows of the pins
        `first_interest`: uint64[n] and `taken_down`: bool[n].
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
        except NotReady as error:
            if NO_MODEL not in str(error):
                raise
            return Scores({})  # the light score ranks, and nothing is lost
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
            columns["first_interest"], columns["taken_down"] = scored.attributes
        return Scores(columns, ranking, f"defaults for: {', '.join(scored.lost)}" if scored.lost else "")
