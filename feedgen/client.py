"""How the edge asks for a feed. When feedgen itself is away the fallback page is served from here, so that a feed is as
available as the small store behind it.
"""

import asyncio
import contextvars
import logging
import time
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from counters.client import CountersClient
from feedgen.attempt import Traces
from feedgen.cursor import Cursors, secret_of
from feedgen.items import add_items
from feedgen.last_resort.page import NO_IDS, LastResort
from feedgen.last_resort.popular import Popular, PopularList
from feedgen.last_resort.ttl import TtlValue
from feedgen.names import FALLBACK, SURFACES
from feedgen.shown import Shown
from feedgen.titles import Titles
from protos import feedgen_pb2 as pb
from rockstore.client import RockstoreClient
from services.core import context
from services.core.clock import wall_clock
from services.core.errors import InvalidArgument, MeshError, Unimplemented
from services.core.events import Surface
from services.rpc.mesh import Mesh
from services.rpc.routing import ReplicaSet
from smartfeed.client import SmartfeedClient

logger = logging.getLogger(__name__)
NAME = "feedgen"
THE_CALLERS = (InvalidArgument, Unimplemented)  # whatever else feedgen answers, a feed request gets a page
POPULAR, POPULAR_TTL_MS = 300, 60_000  # pins of the last resort, and how long they are good for
FEEDGEN_SHARE = 0.7  # of the caller's time; the rest is for the fallback page


class Unanswered(NamedTuple):
    """A request that feedgen did not answer, for the last resort."""

    user: int
    surface: Surface
    limit: int
    now_ms: int
    shown: Shown


class FeedgenClient:
    """For asyncio."""

    def __init__(self, mesh: Mesh) -> None:
        self._replicas = ReplicaSet(mesh, NAME)
        self._smartfeed, self._rockstore, self._counters = (
            SmartfeedClient(mesh),
            RockstoreClient(mesh),
            CountersClient(mesh),
        )
        self._popular = TtlValue[Popular](POPULAR_TTL_MS)
        self._asking: set[asyncio.Task[None]] = set()
        self._cursors = Cursors(secret_of(mesh))

    async def feed(self, user: int, feed: str, limit: int, cursor: str, explain: bool, timeout: float) -> pb.FeedReply:
        """One page within `timeout` seconds. Raises InvalidArgument."""
        request = pb.FeedRequest(user=user, feed=feed, limit=limit, cursor=cursor, explain=explain)
        try:
            shard, share = self._replicas.shard_of(user), timeout * FEEDGEN_SHARE
            reply: pb.FeedReply = await self._replicas.call(shard, "Feed", request, share)
        except THE_CALLERS:
            raise
        except MeshError as error:
            logger.warning("feedgen made no page: %s", error)
            with context.serving(timeout * (1 - FEEDGEN_SHARE)):
                return await self._last_good(request, timeout * (1 - FEEDGEN_SHARE))
        self._remember_popular(timeout)
        return reply

    def _remember_popular(self, timeout: float) -> None:
        """While all is well, now and then: the popular pins, for when it is not. No reader waits for it."""
        if not self._popular.is_due(wall_clock()):
            return
        task = asyncio.get_running_loop().create_task(self._ask_popular(timeout), context=contextvars.Context())
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _ask_popular(self, timeout: float) -> None:
        with suppress(MeshError):
            await self._popular_list(timeout).ask(wall_clock())

    def _popular_list(self, timeout: float) -> PopularList:
        return PopularList(self._counters, self._rockstore, POPULAR, self._popular, timeout)

    async def _last_good(self, request: pb.FeedRequest, timeout: float) -> pb.FeedReply:
        started, surface = time.perf_counter(), SURFACES[request.feed]
        shown = self._cursors.read(request.cursor, request.user, surface)
        asked, traces = Unanswered(request.user, surface, request.limit, wall_clock(), shown), Traces()
        titles = Titles(self._rockstore, timeout)
        resort = LastResort(self._smartfeed, self._popular_list(timeout), titles, timeout)
        page = await resort.page(asked, NO_IDS, traces)
        n = len(page.pins)
        owners, at_ms, scores = np.zeros(n, np.uint64), np.zeros(n, np.int64), np.zeros(n, np.float32)
        reply = pb.FeedReply(request_id=context.page_id())
        add_items(reply.items, page.pins, page.boards, owners, at_ms, scores, [page.stage] * n, page.columns)
        reply.cursor = self._cursors.make(request.user, surface, shown.adding(page.pins))
        reply.degraded.extend([NAME, *traces.degraded(), FALLBACK])
        reply.took_ms = (time.perf_counter() - started) * 1000
        return reply

    async def close(self) -> None:
        """Close the channels."""
        for task in self._asking:
            task.cancel()
        await self._replicas.close()
        await self._smartfeed.close()
        await self._rockstore.close()
        await self._counters.close()
