"""Afterwards: tells the log what was served, for the fallback now and for training later."""

import asyncio
import contextvars
import hashlib

import numpy as np

from feedgen.page import Page
from feedgen.query import Query
from roadrunner.client import RoadrunnerClient
from services.columns import Ragged
from services.errors import InvalidArgument
from services.events import Action, Batch, events

LINGER_S = 0.1
MOST = 200  # pages of one publish


class Served:
    """Publishes one SERVED event a pin, with its score, the model's fingerprint and what the model saw of it; its id
    follows from the request's, so a retry is no second serving. Pages of one moment are published together: what an
    append to the log costs, the front door, its views and the disk, it costs for all of them.
    """

    name = "served"

    def __init__(self, roadrunner: RoadrunnerClient, timeout: float, linger_s: float = LINGER_S) -> None:
        """linger_s: how long the first page of a batch waits for others."""
        self._roadrunner, self._timeout, self._linger_s = roadrunner, timeout, linger_s
        self._waiting: list[tuple[Batch, asyncio.Future[None]]] = []
        self._publishing: set[asyncio.Task[None]] = set()

    async def tell(self, query: Query, page: Page) -> None:
        """A page was served. Returns once that is on disk; raises the errors of the front door."""
        if not len(page.rows):
            return
        if not self._waiting:  # in a context of its own: the request that came first is over by then
            task = asyncio.get_running_loop().create_task(self._publish(), context=contextvars.Context())
            self._publishing.add(task)
            task.add_done_callback(self._publishing.discard)
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((_events(query, page), told))
        await told

    async def _publish(self) -> None:
        await asyncio.sleep(self._linger_s)
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), MOST):
            await self._publish_some(waiting[start : start + MOST])

    async def _publish_some(self, pages: list[tuple[Batch, asyncio.Future[None]]]) -> None:
        error: Exception | None = None
        try:
            await self._roadrunner.publish(Batch.concat([batch for batch, _ in pages]), self._timeout)
        except InvalidArgument as refused:
            if len(pages) > 1:  # one of them is wrong: the others are not
                for one in pages:
                    await self._publish_some([one])
                return
            error = refused
        except Exception as failed:  # whatever it is, who waits is told
            error = failed
        for _, told in pages:
            if told.done():
                continue
            if error is None:
                told.set_result(None)
            else:
                told.set_exception(error)


def _events(query: Query, page: Page) -> Batch:
    n = len(page.rows)
    first = int.from_bytes(hashlib.blake2b(query.request_id.encode(), digest_size=8).digest(), "little") | 1
    return events(
        n,
        user=query.user,
        action=Action.SERVED,
        pin=page.rows.pin,
        board=page.rows.board,
        at_ms=query.now_ms,
        surface=query.surface,
        id=(np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) ^ np.uint64(first),
        position=len(query.shown) + np.arange(n),
        score=page.scores,
        model=page.ranking.fingerprint,
        features=_features(page),
    )


def _features(page: Page) -> Ragged | None:
    if not page.ranking.features:
        return None
    seen = page.rows.column("features")
    n, width = seen.shape
    return Ragged(np.arange(1, n + 1, dtype=np.uint32) * np.uint32(width), seen.ravel())
