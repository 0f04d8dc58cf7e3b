"""The best unseen pins of boards near what the user engaged with: random walks from their recent pins find the boards."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from features.requests import CandidateOrigin
from feedgen.candidates import EMPTY, Candidates
from feedgen.query import Query
from feedgen.sources.retrieval import Retrieval
from feedgen.stages import SourceFindings, Words
from pixie.client import Recommended
from polaris.client import BOARD


@dataclass(frozen=True, slots=True)
class WalkedBoards:
    """Asks polaris for the pins of the `most` nearest boards that the query's walk reached.

    A board weighs what its score is of the best one's, to the power of `sharpness`: the logarithm of the weight stands in
    the light score beside quality and age, and an old set's ages would outweigh the walk otherwise.
    """

    retrieval: Retrieval
    most: int
    sharpness: float
    name: str = "walked_boards"
    required: bool = False

    async def find(self, query: Query, source: int) -> SourceFindings:
        """Candidates from the boards that the walks reached; seed: the pin whose walk visited the board most. Raises
        the error that the walk was lost to, and the errors of polaris.
        """
        recent, walk = query.recent, query.walked.boards
        if not len(recent.pins):
            return SourceFindings(EMPTY)
        query.walked.check()
        explained = {"walk": _explained(query, walk)} if query.explain else {}
        reached = int(np.count_nonzero(walk.scores > 0))  # they are best first
        boards, scores, seeds = walk.ids[:reached], walk.scores[:reached], recent.pins[walk.seeds[:reached]]
        if not len(boards):
            return SourceFindings(EMPTY, explained=explained)
        weights = np.maximum((scores / scores[0]) ** np.float32(self.sharpness), np.finfo(np.float32).tiny)
        found, dropped = await self.retrieval.ask(query, BOARD, boards, weights)
        candidates = Candidates.of(
            found.pins,
            board=boards[found.source],
            seed=seeds[found.source],
            source=source,
            origin=CandidateOrigin.PICKED,
            weight=weights[found.source],
            light=found.scores,
            quality=found.quality,
            at_ms=found.at_ms,
        )
        return SourceFindings(candidates, dropped, explained)

    def reason(self, words: Words) -> str:
        """Why a pin is here."""
        return f"because you liked {words.seed or 'a pin near it'}"


def _explained(query: Query, walk: Recommended) -> dict[str, Any]:
    pins, weights = query.recent.pins, query.recent.weights
    boards = np.bincount(walk.seeds, minlength=len(pins))
    seeds = [
        {
            "pin": str(pin),
            "title": "",
            "weight": float(weights[i]),
            "known": bool(walk.known[i]),
            "steps": int(walk.steps[i]),
            "boards": int(boards[i]),
        }
        for i, pin in enumerate(pins.tolist())
    ]
    return {"seeds": seeds, "steps": int(walk.steps.sum()), "boards": len(walk.ids), "graph": walk.version}
