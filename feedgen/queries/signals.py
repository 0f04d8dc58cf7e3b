"""The user's interests right now: recent pins, affinities, and counts of recent actions."""

from dataclasses import dataclass

from feedgen.query import Query, Recent
from feedgen.stages import QueryFindings
from realpin.client import RealpinClient


@dataclass(frozen=True, slots=True)
class Signals:
    """Asks realpin. pins, interests: of each at most."""

    realpin: RealpinClient
    pins: int
    interests: int
    timeout: float
    name: str = "signals"
    required: bool = False

    async def ask(self, query: Query) -> QueryFindings:
        """`recent`."""
        found = await self.realpin.signals(
            query.user, pins=self.pins, interests=self.interests, now_ms=query.now_ms, timeout=self.timeout
        )
        recent = Recent(
            found.pins, found.weights, found.interests, found.affinities, found.counts, int(found.newest_ms)
        )
        return QueryFindings({"recent": recent}, "no affinities: rockstore is away" if found.interests_lost else "")
