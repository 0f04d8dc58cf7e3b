"""Turns a page of ids into what a reader sees: titles, names, and one line that says why each pin is here.

All of it comes from rockstore, in two questions, and none of it is required: a page without titles is still a page.
"""

from collections.abc import Sequence

import numpy as np

from feedgen.pipeline import Page
from feedgen.stages import Source
from protos import feedgen_pb2 as pb
from rockstore.client import BOARD, INTEREST, PIN, USER, RockstoreClient

FROM_BEFORE = "from your last feed"


class Wording:
    """Asks rockstore for the words of a page."""

    def __init__(self, rockstore: RockstoreClient, timeout: float) -> None:
        self._rockstore, self._timeout = rockstore, timeout

    async def items(self, page: Page, sources: Sequence[Source]) -> list[pb.Item]:
        """The page's items, less pins that have been taken down meanwhile. Raises the errors of rockstore."""
        n, items = len(page.pins), bare_items(page, sources)
        kinds = np.repeat(np.array([PIN, BOARD], np.uint8), n)
        known = await self._rockstore.attributes(kinds, np.concatenate([page.pins, page.boards]), self._timeout)
        owners = np.where(page.owners > 0, page.owners, known.owners[n:])
        ends = known.interests.ends[:n].tolist()
        interests = known.interests.values[: ends[-1] if n else 0]
        kinds = np.repeat(np.array([USER, INTEREST], np.uint8), [n, len(interests)])
        named = await self._rockstore.attributes(kinds, np.concatenate([owners, interests]), self._timeout)
        names = named.titles[n:]
        for i, item in enumerate(items):
            item.title, item.link = known.titles[i], known.links[i]
            item.board_title, item.owner, item.owner_name = known.titles[n + i], int(owners[i]), named.titles[i]
            item.interests.extend(name for name in names[(ends[i - 1] if i else 0) : ends[i]] if name)
            if page.source[i] >= 0:
                source = sources[int(page.source[i])]
                item.reason = source.reason(item.board_title, item.owner_name, page.owners[i] == 0)
        return [item for item, down in zip(items, known.taken_down[:n].tolist(), strict=True) if not down]


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
