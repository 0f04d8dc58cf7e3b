"""Ranks by the light score that the leaves computed, until a model does."""

from collections.abc import Mapping
from dataclasses import dataclass

from feedgen.candidates import Candidates
from feedgen.query import Query
from services.columns import Array

MODEL = "light"


@dataclass(frozen=True, slots=True)
class LightScore:
    """`score` is the light score."""

    name: str = "light_score"
    required: bool = True

    async def columns(self, query: Query, candidates: Candidates) -> Mapping[str, Array]:
        """`score`: float32[n]."""
        return {"score": candidates.light}
