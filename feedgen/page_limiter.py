"""Admission control of pages: a limited number of slots to make them in, and a limited queue, first come first served.

Pages in the making share the cores, so each takes longer the more there are. Without a bound, requests that come faster than
pages can be made slow each other down until the time of every stage is over before it has begun, and none gets a page
(docs/decisions/0034-admission-of-pages.md). A request that finds all slots and the queue taken is refused immediately, while
there is time for the fallback page.

Waiting requests begin as a group, once few pages are in the making: they ask the same services for the same things at the
same time, and what a service needs for one of them is in its caches for the others.

A page stops counting against the limit after a while, even if it is not made: after so long it waits for a slow
service, not for the cores, and must not keep others from these.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.core.errors import Exhausted
from services.core.metrics import Metrics

FEW = 3  # fewer pages in the making, and others begin


class PageLimiter:
    """For one event loop. at_once: pages that count against the limit, each for slot_s seconds at most; waiting: requests
    that wait, at most.
    """

    def __init__(self, at_once: int, slot_s: float, waiting: int, metrics: Metrics) -> None:
        self._at_once, self._slot_s, self._most_waiting = at_once, slot_s, waiting
        self._few = min(FEW, at_once) if waiting else at_once
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._taken = self._making = self._refused = 0
        metrics.gauge("pages_in_the_making", lambda: self._making)
        metrics.gauge("pages_waiting", lambda: len(self._waiting))
        metrics.gauge("pages_refused", lambda: self._refused)

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Within it a page may be made. Raises Exhausted when the queue is full."""
        await self._wait()
        slot = Slot(self._end)
        ending = asyncio.get_running_loop().call_later(self._slot_s, slot.end)
        self._making += 1
        try:
            yield
        finally:
            self._making -= 1
            ending.cancel()
            slot.end()

    async def _wait(self) -> None:
        if self._taken < self._few:
            self._taken += 1
            return
        if len(self._waiting) >= self._most_waiting:
            self._refused += 1
            raise Exhausted(
                f"{self._taken} pages are in the making and {self._most_waiting} requests wait for a slot, "
                "which is all that this process takes; try again in a moment"
            )
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():  # the slot had just come
                self._end()
            elif place in self._waiting:
                self._waiting.remove(place)
            raise

    def _end(self) -> None:
        """One slot is free; if few are taken, waiting requests get theirs."""
        self._taken -= 1
        if self._taken >= self._few:
            return
        while self._waiting and self._taken < self._at_once:
            place = self._waiting.popleft()
            if not place.cancelled():  # nor about to leave
                place.set_result(None)
                self._taken += 1


@dataclass(slots=True)
class Slot:
    """A slot that was taken, and is given back once."""

    ended: Callable[[], None]
    over: bool = False

    def end(self) -> None:
        """Give it back."""
        if not self.over:
            self.over = True
            self.ended()
