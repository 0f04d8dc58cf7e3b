"""Which boards the user follows, directly and through users."""

from dataclasses import dataclass

from apiary.client import ApiaryClient
from feedgen.query import Query, QueryBoards
from feedgen.stages import QueryFindings


@dataclass(frozen=True, slots=True)
class Followed:
    """Asks apiary. limit: boards at most."""

    apiary: ApiaryClient
    limit: int
    timeout: float
    name: str = "followed"
    required: bool = True

    async def ask(self, query: Query) -> QueryFindings:
        """`followed`."""
        found = await self.apiary.followed_boards(query.user, self.limit, self.timeout)
        return QueryFindings({"followed": QueryBoards(found.boards, found.weights, found.owners)})
