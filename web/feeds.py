"""GET /v1/feeds/{feed}: one page of a feed, as feedgen made it."""

import msgspec
from msgspec import UNSET
from starlette.requests import Request

from feedgen.client import FeedgenClient
from protos import feedgen_pb2 as pb
from services import tokens
from services.context import serving
from services.errors import NotFound
from web.answers import FeedItem, FeedPage, Named, Titled
from web.questions import FeedQuery
from web.wire import asked, shown

FEEDS = ("following", "interest", "picked", "home")


class Feeds:
    """Translates between HTTP and feedgen."""

    def __init__(self, feedgen: FeedgenClient, timeout: float) -> None:
        self._feedgen, self._timeout = feedgen, timeout

    async def get(self, request: Request) -> FeedPage:
        """A page."""
        feed = request.path_params["feed"]
        if feed not in FEEDS:
            raise NotFound(f"feed = {shown(feed)}: the feeds are {', '.join(FEEDS)}")
        query = asked(request, FeedQuery)
        with serving(self._timeout, tokens.of_text(query.token) if query.token else b""):
            reply = await self._feedgen.feed(query.user, feed, query.limit, query.cursor, query.explain, self._timeout)
        return page(reply)


def page(reply: pb.FeedReply) -> FeedPage:
    """The answer as JSON has it."""
    return FeedPage(
        items=[_item(item) for item in reply.items],
        cursor=reply.cursor or None,
        degraded=reply.degraded[:],
        model=reply.model,
        request_id=reply.request_id,
        took_ms=round(reply.took_ms, 3),
        xray=msgspec.Raw(reply.xray) if reply.xray else UNSET,
    )


def _item(item: pb.Item) -> FeedItem:
    board, owner = item.board, item.owner
    return FeedItem(
        pin=str(item.pin),
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
