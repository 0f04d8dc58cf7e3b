"""GET /v1/users and /v1/users/{user}: who there is, and what one of them follows and owns."""

import asyncio

import numpy as np
from starlette.requests import Request

from apiary.client import USER as FOLLOWED_USER
from apiary.client import ApiaryClient
from rockstore.client import BOARD, INTEREST, USER, RockstoreClient
from services import tokens
from services.columns import ids
from services.context import serving
from services.errors import MeshError
from web.answers import Counts, Follows, User, UserPage, UserRow
from web.names import Names, named, one, titled
from web.questions import ReadQuery, UsersQuery
from web.wire import MAX_ID, asked, object_id

SHOWN = 100  # of each list
COUNTED = 10_000  # of each list
CHUNK = 2_000  # users looked at together when searching
SCANNED = 20_000  # users looked at for one answer at most


class Users:
    """Asks apiary and rockstore."""

    def __init__(self, graph: ApiaryClient, objects: RockstoreClient, timeout: float) -> None:
        self._graph, self._objects, self._timeout = graph, objects, timeout

    async def page(self, request: Request) -> UserPage:
        """Users by ascending id.

        A search looks at names one by one, at most 20,000 an answer, so an answer may hold fewer than `limit` users
        and still name a `next`. It is for choosing among thousands of users, not for finding one among millions.
        """
        query = asked(request, UsersQuery)
        with serving(self._timeout):
            if query.q:
                found, after = await self._search(query)
            else:
                listed = await self._objects.list(USER, query.after, query.limit, self._timeout)
                found = await self._with_names([int(i) for i in listed])
                after = int(listed[-1]) if len(listed) == query.limit else None
            rows = [UserRow(str(user), name) for user, name in found]
            degraded = await self._count_followers(rows)
        return UserPage(rows, None if after is None else str(after), degraded)

    async def get(self, request: Request) -> User:
        """One user."""
        user = object_id(request.path_params["user"], "user")
        query = asked(request, ReadQuery)
        with serving(self._timeout, tokens.of_text(query.token)):
            return await self._user(user)

    async def _with_names(self, users: list[int]) -> list[tuple[int, str]]:
        known = await self._objects.attributes(USER, ids(users), self._timeout)
        return [(user, name) for user, name, found in zip(users, known.titles, known.found, strict=True) if found]

    async def _search(self, query: UsersQuery) -> tuple[list[tuple[int, str]], int | None]:
        """(users found, id to go on after; None: the end). The user with exactly this id comes first, beside `limit`."""
        sought, after = query.q.strip().casefold(), int(query.after)
        exact = int(sought) if sought.isascii() and sought.isdigit() and len(sought) <= 20 else 0
        first = await self._with_names([exact]) if 0 < exact <= MAX_ID and not after else []
        found: list[tuple[int, str]] = []
        for _ in range(SCANNED // CHUNK):
            listed = (await self._objects.list(USER, after, CHUNK, self._timeout)).tolist()
            for user, name in await self._with_names(listed):
                if user != exact and sought in name.casefold():
                    found.append((user, name))
                    if len(found) == query.limit:
                        return first + found, user
            if len(listed) < CHUNK:
                return first + found, None
            after = listed[-1]
        return first + found, after

    async def _count_followers(self, rows: list[UserRow]) -> list[str]:
        if not rows:
            return []
        try:
            counts = await self._graph.follower_counts(FOLLOWED_USER, ids([int(r.user) for r in rows]), self._timeout)
        except MeshError:
            return ["followers"]
        for row, count in zip(rows, counts.tolist(), strict=True):
            row.followers = count
        return []

    async def _user(self, user: int) -> User:
        follows, owned, followers = await asyncio.gather(
            self._graph.followed(user, COUNTED, self._timeout),
            self._graph.owned_boards(one(user), COUNTED, self._timeout),
            self._graph.follower_counts(FOLLOWED_USER, one(user), self._timeout),
        )
        users, boards, interests = follows.users[:SHOWN], follows.boards[:SHOWN], follows.interests[:SHOWN]
        own = owned.boards[np.argsort(-owned.at_ms, kind="stable")][:SHOWN]
        names = Names(self._objects, self._timeout)
        people, board_titles, interest_names = await names.of(
            (USER, np.append(users, one(user))), (BOARD, np.append(boards, own)), (INTEREST, interests)
        )
        return User(
            user=str(user),
            name=people[-1],
            followers=int(followers[0]),
            follows=Follows(
                named(users, people[:-1]), titled(boards, board_titles[: len(boards)]), named(interests, interest_names)
            ),
            boards=titled(own, board_titles[len(boards) :]),
            counts=Counts(len(follows.users), len(follows.boards), len(follows.interests), len(owned.boards)),
            degraded=["names"] if names.lost else [],
        )
