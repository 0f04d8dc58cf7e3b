"""How the edge asks for a feed. When feedgen itself is away the last good feed is served from here, so that a feed is as
available as the small store behind it.
"""

import time
import uuid

import numpy as np

from feedgen.cursor import Cursors, secret_of
from feedgen.fallback import LastGood
from feedgen.pipeline import FALLBACK, fall_back
from feedgen.query import NAMES, Query
from feedgen.wording import Wording, worded
from feedgen.xray import Xray
from protos import feedgen_pb2 as pb
from protos import feedgen_pb2_grpc as rpc
from rockstore.client import RockstoreClient
from services import context
from services.clock import wall_clock
from services.errors import DeadlineExceeded, Exhausted, Unavailable
from services.mesh import Mesh
from services.routing import Shards
from smartfeed.client import SmartfeedClient

NAME = "feedgen"
AWAY = (Unavailable, DeadlineExceeded, Exhausted)
FEEDGEN_SHARE = 0.7  # of the caller's time; the rest is for the last good feed


class FeedgenClient:
    """For asyncio."""

    def __init__(self, mesh: Mesh) -> None:
        self._shards = Shards(mesh, NAME, rpc.FeedgenStub)
        self._smartfeed, self._rockstore = SmartfeedClient(mesh), RockstoreClient(mesh)
        self._cursors = Cursors(secret_of(mesh.data))

    async def feed(self, user: int, feed: str, limit: int, cursor: str, explain: bool, timeout: float) -> pb.FeedReply:
        """One page within `timeout` seconds. Raises InvalidArgument."""
        request = pb.FeedRequest(user=user, feed=feed, limit=limit, cursor=cursor, explain=explain)
        try:
            method = self._shards.owner(user).Feed
            reply: pb.FeedReply = await self._shards.call(method, request, timeout * FEEDGEN_SHARE)
        except AWAY:
            with context.serving(timeout * (1 - FEEDGEN_SHARE)):
                return await self._last_good(request, timeout * (1 - FEEDGEN_SHARE))
        return reply

    async def _last_good(self, request: pb.FeedRequest, timeout: float) -> pb.FeedReply:
        started, surface = time.perf_counter(), NAMES[request.feed]
        query = Query(
            user=request.user,
            surface=surface,
            limit=request.limit,
            now_ms=wall_clock(),
            request_id=uuid.uuid4().hex,
            shown=self._cursors.read(request.cursor, request.user, surface),
        )
        xray = Xray(explain=False)
        page = await fall_back(LastGood(self._smartfeed, timeout), query, xray)
        reply = await worded(Wording(self._rockstore, timeout), page, (), xray)
        reply.cursor = self._cursors.make(request.user, surface, np.concatenate([query.shown, page.rows.pin]))
        reply.degraded.extend([NAME, *xray.degraded(), FALLBACK])
        reply.model, reply.request_id = page.ranking.model, query.request_id
        reply.took_ms = (time.perf_counter() - started) * 1000
        return reply

    async def close(self) -> None:
        """Close the channels."""
        await self._shards.close()
        await self._smartfeed.close()
        await self._rockstore.close()
