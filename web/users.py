"""GET /v1/users and /v1/users/{user}: the list of users, and the follows and boards of one."""

import asyncio

import numpy as np
from msgspec import UNSET, UnsetType
from starlette.requests import Request

from apiary.client import USER as FOLLOWED_USER
from apiary.client import ApiaryClient
from rockstore.client import BOARD, INTEREST, USER, RockstoreClient
from services.core import tokens
from services.core.columns import ids
from services.core.context import serving
from services.core.errors import MeshError
from web.answers import Counts, Follows, User, UserPage, UserRow
from web.fold import folded
from web.ids import NUMBERS, Ids
from web.names import Names, named, one, titled
from web.questions import ReadQuery, UsersQuery
from web.spelling import LOST
from web.wire import U64, asked

SHOWN = 100  # of each list
COUNTED = 10_000  # of each list
CHUNK = 2_000  # users read in one call when searching
SCANNED = 20_000  # users looked at for one answer at most


class Users:
    """Asks apiary and rockstore."""

    def __init__(self, graph: ApiaryClient, objects: RockstoreClient, timeout: float, ids: Ids = NUMBERS) -> None:
        self._graph, self._objects, self._timeout, self._ids = graph, objects, timeout, ids

    async def page(self, request: Request) -> UserPage:
        """Users by ascending id.

        A search looks at names one by one, whatever their case, accents and normal form, and at 20,000 an answer at
        most, so an answer may hold fewer than `limit` users and still name a `next`. It is for choosing among thousands
        of users, not for finding one among millions.
        """
        query = asked(request, UsersQuery, self._ids.read)
        with serving(self._timeout):
            if query.q:
                found, after = await self._search(query)
            else:
                listed = await self._objects.list(USER, query.after, query.limit, self._timeout)
                found = await self._with_names([int(i) for i in listed])
                after = int(listed[-1]) if len(listed) == query.limit else None
            degraded, counts = await self._followers_of([user for user, _ in found])
            texts, [last] = await self._ids.spelled((USER, [user for user, _ in found]), (USER, [after or 0]))
            if None in texts or (after and last is None):
                degraded.append(LOST)
        rows = [
            UserRow(text, name, count)
            for (_, name), text, count in zip(found, texts, counts, strict=True)
            if text is not None
        ]
        return UserPage(rows, last if after else None, degraded)

    async def get(self, request: Request) -> User:
        """One user."""
        user = self._ids.object_id(request.path_params["user"], "user")
        query = asked(request, ReadQuery)
        with serving(self._timeout, tokens.of_text(query.token)):
            await self._ids.check(USER, user)
            return await self._user(user)

    async def _with_names(self, users: list[int]) -> list[tuple[int, str]]:
        known = await self._objects.attributes(USER, ids(users), self._timeout)
        if known.externals:
            self._ids.learn(USER, users, known.externals)
        return [(user, name) for user, name, found in zip(users, known.titles, known.found, strict=True) if found]

    async def _search(self, query: UsersQuery) -> tuple[list[tuple[int, str]], int | None]:
        """(users found, id to go on after; None: the end). The user with exactly this id comes first, beside `limit`."""
        sought, after = folded(query.q), int(query.after)
        exact = self._ids.sought(query.q.strip()) or 0
        first = await self._with_names([exact]) if exact and not after else []
        found: list[tuple[int, str]] = []
        if not sought:  # of marks alone: every name holds nothing
            return first, None
        for _ in range(SCANNED // CHUNK):
            listed = (await self._objects.list(USER, after, CHUNK, self._timeout)).tolist()
            for user, name in await self._with_names(listed):
                if user != exact and sought in folded(name):
                    found.append((user, name))
                    if len(found) == query.limit:
                        return first + found, user
            if len(listed) < CHUNK:
                return first + found, None
            after = listed[-1]
        return first + found, after

    async def _followers_of(self, users: list[int]) -> tuple[list[str], list[int | UnsetType]]:
        """(what was lost, how many each has)."""
        if not users:
            return [], []
        try:
            counts = await self._graph.follower_counts(FOLLOWED_USER, ids(users), self._timeout)
        except MeshError:
            return ["followers"], [UNSET] * len(users)
        return [], counts.tolist()

    async def _user(self, user: U64) -> User:
        follows, owned, followers = await asyncio.gather(
            self._graph.followed(user, COUNTED, self._timeout),
            self._graph.owned_boards(one(user), COUNTED, self._timeout),
            self._graph.follower_counts(FOLLOWED_USER, one(user), self._timeout),
        )
        users, boards, interests = follows.users[:SHOWN], follows.boards[:SHOWN], follows.interests[:SHOWN]
        own = owned.boards[np.argsort(-owned.at_ms, kind="stable")][:SHOWN]
        names = Names(self._objects, self._timeout, self._ids)
        people, board_titles, interest_names = await names.of(
            (USER, np.append(users, one(user))), (BOARD, np.append(boards, own)), (INTEREST, interests)
        )
        texts = await self._ids.spelled((USER, users), (BOARD, boards), (INTEREST, interests), (BOARD, own))
        lost = ["names"] * names.lost + [LOST] * any(None in of for of in texts)
        return User(
            user=getattr(user, "text", str(user)),
            name=people[-1],
            followers=int(followers[0]),
            follows=Follows(
                named(texts[0], people[:-1]),
                titled(texts[1], board_titles[: len(boards)]),
                named(texts[2], interest_names),
            ),
            boards=titled(texts[3], board_titles[len(boards) :]),
            counts=Counts(len(follows.users), len(follows.boards), len(follows.interests), len(owned.boards)),
            degraded=lost,
        )
