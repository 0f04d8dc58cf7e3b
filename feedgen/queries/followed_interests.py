"""Which interests the user follows."""

from dataclasses import dataclass

from apiary.client import ApiaryClient
from feedgen.query import Query
from feedgen.stages import QueryFindings


@dataclass(frozen=True, slots=True)
class FollowedInterests:
    """Asks apiary. limit: interests at most, newest first."""

    apiary: ApiaryClient
    limit: int
    timeout: float
    name: str = "followed_interests"
    required: bool = False

    async def ask(self, query: Query) -> QueryFindings:
        """`followed_interests`."""
        found = await self.apiary.followed(query.user, self.limit, self.timeout)
        return QueryFindings({"followed_interests": found.interests})
