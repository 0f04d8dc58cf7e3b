"""Turns a page of ids into what a reader sees: titles, names, and one line that says why each pin is here.

All of it comes from rockstore, and none of it is required: a page without titles is still a page.
"""

import asyncio
from collections.abc import Sequence

import numpy as np

from feedgen.pipeline import Page
from feedgen.stages import Source
from protos import feedgen_pb2 as pb
from rockstore.client import BOARD, INTEREST, PIN, USER, Attributes, RockstoreClient
from services.columns import U64, ids

FROM_BEFORE = "from your last feed"


class Wording:
    """Asks rockstore for the words of a page."""

    def __init__(self, rockstore: RockstoreClient, timeout: float) -> None:
        self._rockstore, self._timeout = rockstore, timeout

    async def items(self, page: Page, sources: Sequence[Source]) -> list[pb.Item]:
        """The page's items, less pins that have been taken down meanwhile. Raises the errors of rockstore."""
        boards, at_board = np.unique(page.boards, return_inverse=True)
        pins, board = await asyncio.gather(self._ask(PIN, page.pins), self._ask(BOARD, boards))
        owners = np.where(page.owners > 0, page.owners, board.owners[at_board])
        users, at_user = np.unique(owners, return_inverse=True)
        interests, at_interest = np.unique(pins.interests.values, return_inverse=True)
        user, interest = await asyncio.gather(self._ask(USER, users), self._ask(INTEREST, interests))
        ends = pins.interests.ends.tolist()
        items = bare_items(page, sources)
        for i, item in enumerate(items):
            b = int(at_board[i])
            item.title, item.link = pins.titles[i], pins.links[i]
            item.board_title, item.owner = board.titles[b], int(owners[i])
            item.owner_name = user.titles[int(at_user[i])]
            named = at_interest[(ends[i - 1] if i else 0) : ends[i]]
            item.interests.extend(interest.titles[int(k)] for k in named if interest.titles[int(k)])
            if page.source[i] >= 0:
                source = sources[int(page.source[i])]
                item.reason = source.reason(item.board_title, item.owner_name, page.owners[i] == 0)
        return [item for item, down in zip(items, pins.taken_down.tolist(), strict=True) if not down]

    async def _ask(self, kind: int, wanted: U64) -> Attributes:
        return await self._rockstore.attributes(kind, ids(wanted), self._timeout)


def bare_items(page: Page, sources: Sequence[Source]) -> list[pb.Item]:
    """The page's items as ids alone, for when there are no words to be had."""
    return [
        pb.Item(
            pin=pin,
            board=board,
            owner=owner,
            source=sources[source].name if source >= 0 else "last_good",
            reason="" if source >= 0 else FROM_BEFORE,
            score=score,
            at_ms=at_ms,
        )
        for pin, board, owner, source, score, at_ms in zip(
            page.pins.tolist(),
            page.boards.tolist(),
            page.owners.tolist(),
            page.source.tolist(),
            page.scores.tolist(),
            page.at_ms.tolist(),
            strict=True,
        )
    ]
