"""RPC of feedgen: one page of one feed."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from feedgen import pipeline as pipelines
from feedgen.attempt import SHARES, answered, attempt
from feedgen.cursor import Cursors
from feedgen.hydrators.titles import PageTitles
from feedgen.items import add_items
from feedgen.losers import Losers
from feedgen.names import FALLBACK
from feedgen.page import Page
from feedgen.page_limiter import PageLimiter
from feedgen.pipeline import Pipeline
from feedgen.query import Query
from feedgen.sessions import Sessions
from feedgen.xray import Xray
from protos import feedgen_pb2 as pb
from protos import feedgen_pb2_grpc as rpc
from services.core import context
from services.core.clock import wall_clock
from services.core.errors import InvalidArgument, MeshError
from services.core.events import RESERVED_FROM
from services.core.metrics import Metrics

logger = logging.getLogger(__name__)
MAX_LIMIT = 100
MAX_AFTERWARDS = 1_000  # pages not yet logged; more are not logged, and counted
AUDIT_EVERY = 100  # of so many requests, one counts its filter's false positives


@dataclass(frozen=True, slots=True)
class Losing:
    """Of how many pages the log gets a sample of the candidates that lost, and of how many candidates of each stage."""

    pages: float = 0.0
    most: int = 20

    def now(self) -> bool:
        """Whether this page is one."""
        return self.pages > 0 and random.random() < self.pages


class Feedgen(rpc.FeedgenServicer):
    """Runs pipelines."""

    def __init__(
        self,
        feeds: Mapping[str, Pipeline],
        titles: PageTitles,
        cursors: Cursors,
        limiter: PageLimiter,
        metrics: Metrics,
        deadline_s: float,
        sessions: Sessions,
        losers: Losing = Losing(),
    ) -> None:
        """titles: for the X-ray of a page that is explained; losers: of which pages the log gets a sample of the candidates
        that lost.
        """
        self._losing, self._metrics, self._sessions = losers, metrics, sessions
        self._feeds, self._titles, self._cursors, self._limiter = feeds, titles, cursors, limiter
        self._deadline_s = deadline_s
        self._afterwards: set[asyncio.Task[None]] = set()
        self._requests = self._fallbacks = self._degraded = self._unlogged = 0
        self._rejected = self._false_positives = 0
        metrics.gauge("fallbacks", lambda: self._fallbacks)
        metrics.gauge("degraded_pages", lambda: self._degraded)
        metrics.gauge("pages_to_be_logged", lambda: len(self._afterwards))
        metrics.gauge("pages_not_logged", lambda: self._unlogged)
        metrics.gauge("filter_rejections_audited", lambda: self._rejected)
        metrics.gauge("filter_false_positives_audited", lambda: self._false_positives)

    @property
    def feeds(self) -> Mapping[str, Pipeline]:
        """The pipelines by feed name."""
        return self._feeds

    async def Feed(self, request: pb.FeedRequest, context_: Any) -> pb.FeedReply:
        """A page, whatever is lost on the way."""
        started = time.perf_counter()
        pipeline = self._pipeline(request)
        query = self._query(request, pipeline)
        with context.serving(self._deadline_s):
            async with self._limiter.taken():
                page, xray = await self._page(pipeline, query)
                if len(page.rows) < query.limit and not page.fell_back and query.shown.is_rough:
                    exact = await self._sessions.exactly(query)
                    if exact is not None:  # again, with the pins that were only taken for shown ones
                        query.shown = exact
                        page, xray = await self._page(pipeline, query)
            reply = _reply(pipeline, page)
            if request.explain:
                reply.xray = await self._explained(query, xray)
        self._count(page, xray)
        if not (page.fell_back or request.explain):  # neither is a new list that a reader was given
            self._later(pipelines.report(pipeline, query, page))
        reply.cursor, reply.model, reply.request_id = self._next(query, page), page.ranking.model, query.request_id
        reply.degraded.extend([*xray.degraded(), *([FALLBACK] if page.fell_back else [])])
        reply.took_ms = (time.perf_counter() - started) * 1000
        return reply

    async def _page(self, pipeline: Pipeline, query: Query) -> tuple[Page, Xray]:
        xray = Xray(query.explain)
        page = await pipelines.run(pipeline, query, xray)
        for loss in xray.losses:
            self._metrics.count("stage_losses", stage=loss.stage, cause=loss.cause)
        feed = pipeline.surface.name.lower()
        for span in xray.spans:
            self._metrics.measure("feed_phase_seconds", span.took_ms / 1000, feed=feed, phase=span.phase)
        return page, xray

    async def _explained(self, query: Query, xray: Xray) -> bytes:
        if rows := xray.untitled():
            begin = partial(self._titles.titles.name, rows)
            await answered(attempt(self._titles, "hydrator", begin, SHARES.hydrators, xray))
        xray.asked(query)
        return xray.encoded()

    def _pipeline(self, request: pb.FeedRequest) -> Pipeline:
        if request.feed not in self._feeds:
            raise InvalidArgument(f"feed = {request.feed!r}: feeds are {', '.join(self._feeds)}")
        if not 1 <= request.user < RESERVED_FROM:
            raise InvalidArgument(f"user = {request.user}: allowed are 1 to {RESERVED_FROM - 1}")
        if not 1 <= request.limit <= MAX_LIMIT:
            raise InvalidArgument(f"limit = {request.limit}: allowed are 1 to {MAX_LIMIT}")
        return self._feeds[request.feed]

    def _query(self, request: pb.FeedRequest, pipeline: Pipeline) -> Query:
        self._requests += 1
        return Query(
            user=request.user,
            surface=pipeline.surface,
            limit=request.limit,
            now_ms=wall_clock(),
            request_id=context.page_id(),
            explain=request.explain,
            shown=self._cursors.read(request.cursor, request.user, pipeline.surface),
            audit_filter=self._requests % AUDIT_EVERY == 0,
            losers=Losers(self._losing.most) if self._losing.now() else None,
        )

    def _next(self, query: Query, page: Page) -> str:
        """Empty once a page could not be filled: there is nothing more to come. A fallback can always be gone on from."""
        if len(page.rows) < query.limit and not page.fell_back:
            return ""
        return self._cursors.make(query.user, query.surface, query.shown.adding(page.rows.pin))

    def _count(self, page: Page, xray: Xray) -> None:
        self._fallbacks += page.fell_back
        self._degraded += bool(xray.degraded())
        self._rejected += int(xray.query.get("filter_rejected", 0))
        self._false_positives += page.false_positives

    def _later(self, reports: list[Awaitable[None]]) -> None:
        for work in reports:
            if len(self._afterwards) >= MAX_AFTERWARDS:
                self._unlogged += 1
                work.close()  # type: ignore[attr-defined]
                continue
            task = asyncio.ensure_future(self._report(work))
            self._afterwards.add(task)
            task.add_done_callback(self._afterwards.discard)

    async def _report(self, work: Awaitable[None]) -> None:
        try:
            await work
        except MeshError as error:
            self._unlogged += 1
            logger.warning("a page was not logged: %s", error)


def _reply(pipeline: Pipeline, page: Page) -> pb.FeedReply:
    """A reply with the items of a page."""
    reply, rows = pb.FeedReply(), page.rows
    names = [source.name for source in pipeline.all_sources]
    sources = [page.fallback] * len(rows) if page.fell_back else [names[source] for source in rows.source.tolist()]
    add_items(reply.items, rows.pin, rows.board, rows.owner, rows.at_ms, page.scores, sources, rows.more)
    return reply
