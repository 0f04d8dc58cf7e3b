"""Turns a page of ids into what a reader sees: titles, names, and one line that says why each pin is here.

All of it comes from rockstore, in one question where that has one shard, else in two, and none of it is required: a page
without titles is still a page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from feedgen.page import Page
from feedgen.pipeline import SHARES, attempt
from feedgen.stages import Source, Words
from feedgen.xray import Xray
from protos import feedgen_pb2 as pb
from rockstore.client import BOARD, INTEREST, PIN, USER, Attributes, RockstoreClient

FROM_BEFORE = "from your last feed"


@dataclass(frozen=True, slots=True)
class Wording:
    """Asks rockstore for the words of a page."""

    rockstore: RockstoreClient
    timeout: float
    name: str = "wording"
    required: bool = False

    async def items(self, page: Page, sources: Sequence[Source]) -> list[pb.Item]:
        """The page's items, less pins that have been taken down meanwhile. Raises the errors of rockstore."""
        n, items, rows = len(page.rows), bare_items(page, sources), page.rows
        kinds = np.repeat(np.array([PIN, BOARD, PIN, USER, INTEREST], np.uint8), n)
        ids = np.concatenate([rows.pin, rows.board, rows.seed, rows.owner, rows.interest])
        known = await self.rockstore.attributes(kinds, ids, self.timeout, named=True)
        names, titles = await self._names(known, n), known.titles
        owners = np.where(rows.owner > 0, rows.owner, known.owners[n : 2 * n]).tolist()
        direct, found_by = (rows.owner == 0).tolist(), rows.source.tolist()
        for i, item in enumerate(items):
            item.title, item.link, item.board_title, item.owner = titles[i], known.links[i], titles[n + i], owners[i]
            item.owner_name = titles[3 * n + i] if not direct[i] else names.get((USER, owners[i]), "")
            item.interests.extend(
                filter(None, (names.get((INTEREST, of), "") for of in known.interests.run(i).tolist()))
            )
            if not page.fell_back:
                words = Words(item.board_title, item.owner_name, direct[i], titles[4 * n + i], titles[2 * n + i])
                item.reason = sources[found_by[i]].reason(words)
        return [item for item, down in zip(items, known.taken_down[:n].tolist(), strict=True) if not down]

    async def _names(self, known: Attributes, n: int) -> Mapping[tuple[int, int], str]:
        """Of the owners of the boards, and of the interests of the n pins; those of other shards are asked for."""
        wanted = dict.fromkeys((USER, owner) for owner in known.owners[n : 2 * n].tolist() if owner)
        wanted |= dict.fromkeys(
            (INTEREST, interest) for pin in range(n) for interest in known.interests.run(pin).tolist()
        )
        if not (missing := wanted.keys() - known.names.keys()):
            return known.names
        kinds, objects = zip(*missing, strict=True)
        more = await self.rockstore.attributes(np.array(kinds, np.uint8), np.array(objects, np.uint64), self.timeout)
        return {**known.names, **dict(zip(missing, more.titles, strict=True))}

    async def entitle(self, told: Sequence[dict[str, Any]]) -> bool:
        """Give what the X-ray tells of pins and interests its titles. Raises the errors of rockstore."""
        kinds = np.array([PIN if "pin" in row else INTEREST for row in told], np.uint8)
        ids = np.array([int(row["pin"] if "pin" in row else row["interest"]) for row in told], np.uint64)
        known = await self.rockstore.attributes(kinds, ids, self.timeout)
        for row, title in zip(told, known.titles, strict=True):
            row["title"] = title
        return True


async def worded(wording: Wording, page: Page, sources: Sequence[Source], xray: Xray) -> list[pb.Item]:
    """The items of a page: with titles and reasons, or bare when rockstore does not answer within its share of time."""
    items = await attempt(wording, "hydrator", wording.items(page, sources), SHARES.wording, xray)
    if xray.untitled():
        await attempt(wording, "hydrator", wording.entitle(xray.untitled()), SHARES.wording, xray)
    return bare_items(page, sources) if items is None else items


def bare_items(page: Page, sources: Sequence[Source]) -> list[pb.Item]:
    """The page's items as ids alone, for when there are no words to be had."""
    rows = page.rows
    columns = (rows.pin, rows.board, rows.owner, rows.source, page.scores, rows.at_ms)
    return [
        pb.Item(
            pin=pin,
            board=board,
            owner=owner,
            source="last_good" if page.fell_back else sources[source].name,
            reason=FROM_BEFORE if page.fell_back else "",
            score=score,
            at_ms=at_ms,
        )
        for pin, board, owner, source, score, at_ms in zip(*(column.tolist() for column in columns), strict=True)
    ]
