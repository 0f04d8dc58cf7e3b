"""Afterwards: logs the served pins, for the fallback now and for training later."""

import asyncio
import contextvars
import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from feedgen.page import Page
from feedgen.query import Query
from roadrunner.client import RoadrunnerClient
from services.core.columns import Array, Ragged
from services.core.errors import InvalidArgument
from services.core.events import LOST_BY, Action, Batch, events

LINGER_S = 0.1
MOST = 200  # pages of one publish


class ServedPage(NamedTuple):
    """A page that was served; `written` is done once its events are on disk."""

    query: Query
    page: Page
    written: "asyncio.Future[None]"


class Served:
    """Publishes one SERVED event a pin, with its score, the model's fingerprint, its input of the pin, and how it came
    to be placed; its id follows from the request's, so a retry is no second serving. Pages of one moment are published
    as one batch, so that they share the cost of an append to the log: of the ingest API, its views and the disk.
    """

    name = "served"

    def __init__(self, roadrunner: RoadrunnerClient, timeout: float, linger_s: float = LINGER_S) -> None:
        """linger_s: how long the first page of a batch waits for others."""
        self._roadrunner, self._timeout, self._linger_s = roadrunner, timeout, linger_s
        self._waiting: list[ServedPage] = []
        self._publishing: set[asyncio.Task[None]] = set()

    async def report(self, query: Query, page: Page) -> None:
        """A page was served. Returns once that is on disk; raises the errors of the ingest API."""
        if not len(page.rows):
            return
        if not self._waiting:  # in a context of its own: the request that came first is over by then
            task = asyncio.get_running_loop().create_task(self._publish(), context=contextvars.Context())
            self._publishing.add(task)
            task.add_done_callback(self._publishing.discard)
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(ServedPage(query, page, written))
        await written

    async def _publish(self) -> None:
        await asyncio.sleep(self._linger_s)
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), MOST):
            await self._publish_some(waiting[start : start + MOST])

    async def _publish_some(self, pages: "list[ServedPage]") -> None:
        error: Exception | None = None
        try:
            await self._roadrunner.publish(_events(pages), self._timeout)
        except InvalidArgument as refused:
            if len(pages) > 1:  # one of them is wrong: the others are not
                for one in pages:
                    await self._publish_some([one])
                return
            error = refused
        except Exception as failed:  # whatever it is, every waiting page gets it
            error = failed
        for one in pages:
            if one.written.done():
                continue
            if error is None:
                one.written.set_result(None)
            else:
                one.written.set_exception(error)


def _events(pages: Sequence[ServedPage]) -> Batch:
    """Of all their pins, in order: each column is made once, however many pages there are."""
    rows, queries = [len(one.page.rows) for one in pages], [one.query for one in pages]
    places = np.concatenate([np.arange(n, dtype=np.uint64) for n in rows])

    def of_each(values: Iterable[float], dtype: str) -> Array:
        return np.array(list(values), dtype).repeat(rows)

    return events(
        len(places),
        user=of_each((query.user for query in queries), "u8"),
        action=Action.SERVED,
        pin=np.concatenate([one.page.rows.pin for one in pages]),
        board=np.concatenate([one.page.rows.board for one in pages]),
        at_ms=of_each((query.now_ms for query in queries), "i8"),
        surface=of_each((query.surface for query in queries), "u1"),
        id=(places * np.uint64(0x9E3779B97F4A7C15)) ^ of_each((_first_id(query) for query in queries), "u8"),
        position=of_each((query.shown.count for query in queries), "u8") + places,
        score=np.concatenate([one.page.scores for one in pages]),
        model=of_each((one.page.ranking.fingerprint for one in pages), "u8"),
        features=Ragged.concat([_features(one.page) for one in pages]),
        probability=of_each((one.page.probability for one in pages), "f4"),
        candidates=of_each((one.page.candidates for one in pages), "u4"),
        **_losers(pages),
    )


def _losers(pages: Sequence[ServedPage]) -> dict[str, Ragged]:
    """`lost` and `lost_by`, in the row of the first pin of each page that has a sample; nothing when none has."""
    if all(one.page.losers is None for one in pages):
        return {}
    counts, pins, by = [], [], []
    for one in pages:
        found = one.page.losers.noted() if one.page.losers is not None else None
        counts += [len(found[0]) if found else 0] + [0] * (len(one.page.rows) - 1)
        if found:
            pins.append(found[0])
            by.append(found[1].ravel())
    ends = np.cumsum(counts, dtype=np.uint32)
    return {
        "lost": Ragged(ends, np.concatenate(pins)),
        "lost_by": Ragged(ends * np.uint32(LOST_BY), np.concatenate(by)),
    }


def _first_id(query: Query) -> int:
    return int.from_bytes(hashlib.blake2b(query.request_id.encode(), digest_size=8).digest(), "little") | 1


def _features(page: Page) -> Ragged:
    if not page.ranking.features:
        return Ragged.empty(len(page.rows), "<f4")
    seen = page.rows.column("features")
    n, width = seen.shape
    return Ragged(np.arange(1, n + 1, dtype=np.uint32) * np.uint32(width), seen.ravel())
