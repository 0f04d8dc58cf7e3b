"""GET /v1/feeds/{feed}: one page of a feed, as feedgen made it."""

import msgspec
from msgspec import UNSET
from starlette.requests import Request

from feedgen.client import FeedgenClient
from protos import feedgen_pb2 as pb
from services.core import tokens
from services.core.context import page_id, serving
from services.core.errors import NotFound
from services.core.words import shown
from web.answers import FeedItem, FeedPage, Named, Titled
from web.ids import NUMBERS, Ids
from web.questions import FeedQuery
from web.spelling import spell
from web.wire import asked

FEEDS = ("following", "interest", "picked", "home")


class Feeds:
    """Translates between HTTP and feedgen."""

    def __init__(self, feedgen: FeedgenClient, timeout: float, ids: Ids = NUMBERS) -> None:
        self._feedgen, self._timeout, self._ids = feedgen, timeout, ids

    async def get(self, request: Request) -> FeedPage:
        """A page."""
        feed = request.path_params["feed"]
        if feed not in FEEDS:
            raise NotFound(f"feed = {shown(feed)}: the feeds are {', '.join(FEEDS)}")
        query = asked(request, FeedQuery, self._ids.read)
        token = tokens.of_text(query.token) if query.token else b""
        with serving(self._timeout, token, trace_id=page_id()):
            reply = await self._feedgen.feed(query.user, feed, query.limit, query.cursor, query.explain, self._timeout)
            if self._ids.is_text:
                await spell(reply, self._ids)
        return page(reply, self._ids.is_text)


def page(reply: pb.FeedReply, text_ids: bool = False) -> FeedPage:
    """The answer as JSON has it. text_ids: its items have their external ids."""
    return FeedPage(
        items=[_item(item, text_ids) for item in reply.items],
        cursor=reply.cursor or None,
        degraded=reply.degraded[:],
        model=reply.model,
        request_id=reply.request_id,
        took_ms=round(reply.took_ms, 3),
        xray=msgspec.Raw(reply.xray) if reply.xray else UNSET,
    )


def _item(item: pb.Item, text_ids: bool) -> FeedItem:
    pin: str | int = item.pin
    board: str | int = item.board
    owner: str | int = item.owner
    if text_ids:
        pin, board, owner = item.pin_id, item.board_id, item.owner_id
    return FeedItem(
        pin=str(pin),
        title=item.title,
        link=item.link,
        board=Titled(str(board), item.board_title) if board else None,
        owner=Named(str(owner), item.owner_name) if owner else None,
        source=item.source,
        reason=item.reason,
        score=round(item.score, 6),
        at_ms=item.at_ms,
        interests=item.interests[:],  # in half the time of list()
    )
