"""Where random walks from the user's recent pins lead: boards and pins from one walk, for the sources that read either."""

from dataclasses import dataclass

from feedgen.query import Query, Walked
from feedgen.stages import QueryFindings
from pixie.client import PixieClient
from services.core.errors import MeshError

MOST = 10_000  # that pixie answers


@dataclass(frozen=True, slots=True)
class Walk:
    """Asks pixie, once `signals` has said where to start. boards: of the nearest boards so many; pins: of the nearest pins
    that the user has not met so many; either at least 1. A visit of a pin counts 1 / degree ** `discount`, so that what
    everybody saves is not near everything.

    It is not lost itself: the sources that needed it are, each by its name.
    """

    pixie: PixieClient
    boards: int
    pins: int
    steps: int
    discount: float
    timeout: float
    name: str = "walk"
    required: bool = False

    def enabled(self, query: Query) -> bool:
        """Only where a walk can start: from recent pins."""
        return len(query.recent.pins) > 0

    async def ask(self, query: Query) -> QueryFindings:
        """`walked`."""
        recent = query.recent
        met = len(query.seen.pins) + query.shown.count
        try:
            boards, pins = await self.pixie.recommend_both(
                recent.pins,
                recent.weights,
                boards_k=self.boards,
                pins_k=min(MOST, self.pins + met),
                steps=self.steps,
                pins_discount=self.discount,
                seed=query.user,  # the same page for the same state
                timeout=self.timeout,
            )
        except MeshError as error:
            return QueryFindings({"walked": Walked(lost=error)})
        return QueryFindings({"walked": Walked(boards, pins)})
