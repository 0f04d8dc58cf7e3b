"""RPCs of smartfeed."""

from typing import Any

from protos import smartfeed_pb2 as pb
from protos import smartfeed_pb2_grpc as rpc
from services.core.columns import pack
from services.core.errors import InvalidArgument
from smartfeed.layout import FEEDS
from smartfeed.store import SmartfeedStore

REMOVED_SENT = 512  # pins that the user removed, the last ones: by them a reader leaves out what it has itself
_ALLOWED = ", ".join(f"{feed.value} {feed.name.lower()}" for feed in FEEDS)


class Smartfeed(rpc.SmartfeedServicer):
    """Translates between the wire and the store."""

    def __init__(self, store: SmartfeedStore) -> None:
        self._store = store

    def LastServed(self, request: pb.LastServedRequest, context: Any) -> pb.LastServedReply:
        """The list last served; an unknown user has an empty one."""
        if request.feed not in FEEDS:
            raise InvalidArgument(f"feed = {request.feed}: allowed are {_ALLOWED}")
        last = self._store.last_served(request.user, request.feed)
        shown = self._store.shown(request.user, request.feed) if request.shown else last.pins[:0]
        return pb.LastServedReply(
            pins=pack(last.pins, "<u8"),
            boards=pack(last.boards, "<u8"),
            at_ms=last.at_ms,
            removed=pack(self._store.removed(request.user)[-REMOVED_SENT:], "<u8"),
            shown=pack(shown, "<u8"),
        )
