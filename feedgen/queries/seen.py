"""Which pins the user has met: shown, opened, saved or hidden."""

from dataclasses import dataclass

from aperture.client import ApertureClient
from feedgen.query import Query, SeenFilter
from feedgen.stages import QueryFindings


@dataclass(frozen=True, slots=True)
class SeenPins:
    """Asks aperture. Required: without it a hidden pin would come back, which is worse than yesterday's feed."""

    aperture: ApertureClient
    false_positive_rate: float
    timeout: float
    name: str = "seen"
    required: bool = True

    async def ask(self, query: Query) -> QueryFindings:
        """`seen`."""
        found = await self.aperture.seen_filter(
            query.user, false_positive_rate=self.false_positive_rate, exact=True, timeout=self.timeout
        )
        return QueryFindings({"seen": SeenFilter(found.filter, found.exact)})
