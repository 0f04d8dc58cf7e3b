"""Turns a page of ids into what a reader sees: titles, names, and one line that says why each pin is here.

All of it comes from rockstore, in one question where that has one shard, else in two, and none of it is required: a page
without titles is still a page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from feedgen.page import Page
from feedgen.pipeline import SHARES, answered, attempt
from feedgen.stages import Source, Words
from feedgen.xray import Xray
from protos import feedgen_pb2 as pb
from rockstore.client import BOARD, INTEREST, PIN, USER, Attributes, RockstoreClient
from services.core.columns import Ragged

FROM_BEFORE = {
    "last_good": "from your last feed",
    "popular_pins": "popular with everybody",
}  # by what a page fell back to
TAKEN_DOWN, UNDESCRIBED, OWN = "taken down", "nothing describes it yet", "the user made it"
_KINDS = np.array([PIN, BOARD, PIN, USER, INTEREST], np.uint8)  # what is asked of each pin of a page


@dataclass(frozen=True, slots=True)
class Wording:
    """Asks rockstore for the words of a page. own: whether users are shown the pins that they made."""

    rockstore: RockstoreClient
    timeout: float
    own: bool = True
    name: str = "wording"
    required: bool = False

    async def word(self, items: Any, page: Page, sources: Sequence[Source], user: int) -> Mapping[int, str]:
        """Give the page's items (a repeated pb.Item) their words, and leave out pins that may not be shown: these, by pin,
        and why. Raises the errors of rockstore.
        """
        n, rows = len(page.rows), page.rows
        ids = np.concatenate([rows.pin, rows.board, rows.seed, rows.owner, rows.interest])
        known = await self.rockstore.attributes(_KINDS.repeat(n), ids, self.timeout, named=True)
        owners, interests = known.owners[n : 2 * n].tolist(), _lists(known.interests, n)
        names = await self._names(known, owners, interests)
        titles, links = known.titles, known.links
        for i, (item, source) in enumerate(zip(items, rows.source.tolist(), strict=True)):
            item.title, item.link, item.board_title = titles[i], links[i], titles[n + i]
            direct = not item.owner
            if direct:
                item.owner, item.owner_name = owners[i], names.get((USER, owners[i]), "")
            else:
                item.owner_name = titles[3 * n + i]
            item.interests.extend([name for of in interests[i] if (name := names.get((INTEREST, of)))])
            if not page.fell_back:
                words = Words(titles[n + i], item.owner_name, direct, titles[4 * n + i], titles[2 * n + i])
                item.reason = sources[source].reason(words)
        if known.externals:
            _spell(items, known, owners)
        withheld = self._withheld(known, n, user)
        for i in sorted(withheld, reverse=True):
            del items[i]
        return {int(rows.pin[i]): why for i, why in withheld.items()}

    def _withheld(self, known: Attributes, n: int, user: int) -> Mapping[int, str]:
        """By row: pins that were taken down meanwhile, those that nothing describes yet, and the user's own."""
        own = np.zeros(n, np.bool_) if self.own else known.owners[:n] == user
        reasons = ((own, OWN), (~known.described[:n], UNDESCRIBED), (known.taken_down[:n], TAKEN_DOWN))
        return {i: why for rows, why in reasons for i in np.flatnonzero(rows).tolist()}

    async def _names(
        self, known: Attributes, owners: list[int], interests: list[list[int]]
    ) -> Mapping[tuple[int, int], str]:
        """Of the owners of the boards, and of the interests of the pins; those of other shards are asked for."""
        wanted = {(USER, owner) for owner in owners if owner}
        wanted.update((INTEREST, interest) for of in interests for interest in of)
        if not (missing := wanted - known.names.keys()):
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


async def worded(
    wording: Wording, page: Page, sources: Sequence[Source], user: int, xray: Xray
) -> tuple[pb.FeedReply, Mapping[int, str]]:
    """A reply with the items of a page: with titles and reasons, or bare when rockstore does not answer within its share
    of time; and which pins were left out, and why. Its items are made in their place: a message that is put into another
    is copied.
    """
    reply = pb.FeedReply()
    add_bare(reply.items, page, sources)
    begin = partial(wording.word, reply.items, page, sources, user)
    withheld = await answered(attempt(wording, "hydrator", begin, SHARES.wording, xray))
    if xray.untitled():
        entitle = partial(wording.entitle, xray.untitled())
        await answered(attempt(wording, "hydrator", entitle, SHARES.wording, xray))
    return reply, withheld or {}


def _spell(items: Any, known: Attributes, owners: list[int]) -> None:
    """Give the items their external ids, as far as this answer has them."""
    n, externals = len(owners), known.externals
    for i, item in enumerate(items):
        item.pin_id, item.board_id = externals[i], externals[n + i]
        item.owner_id = externals[3 * n + i] or known.named_externals.get((USER, item.owner), "")


def _lists(runs: Ragged, n: int) -> list[list[int]]:
    """The first n runs."""
    ends, values = runs.ends[:n].tolist(), runs.values.tolist()
    return [values[a:b] for a, b in pairwise([0, *ends])]


def add_bare(items: Any, page: Page, sources: Sequence[Source]) -> None:
    """Add the page's items as ids alone, for when there are no words to be had."""
    rows = page.rows
    columns = (rows.pin, rows.board, rows.owner, rows.source, page.scores, rows.at_ms)
    names = [source.name for source in sources]
    for pin, board, owner, source, score, at_ms in zip(*(column.tolist() for column in columns), strict=True):
        item = items.add()
        item.pin, item.board, item.owner, item.score, item.at_ms = pin, board, owner, score, at_ms
        if page.fell_back:
            item.source, item.reason = page.fallback, FROM_BEFORE.get(page.fallback, "")
        else:
            item.source = names[source]
