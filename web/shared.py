"""One question at a time: callers who ask while it is under way, or soon after, get the same answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """The answer of `ask`, at most `keep_s` seconds old when it is given. For one event loop."""

    def __init__(self, ask: Callable[[], Awaitable[T]], keep_s: float) -> None:
        self._ask, self._keep_s = ask, keep_s
        self._asking: asyncio.Task[T] | None = None
        self._asked = 0.0

    async def get(self) -> T:
        """The answer. A caller who gives up does not take it from the others."""
        asking = self._asking
        if asking is None or (asking.done() and (self._stale() or asking.cancelled() or asking.exception())):
            asking = self._asking = asyncio.create_task(self._answer())
        return await asyncio.shield(asking)

    async def _answer(self) -> T:
        answer = await self._ask()
        self._asked = time.monotonic()
        return answer

    def _stale(self) -> bool:
        return time.monotonic() - self._asked > self._keep_s
