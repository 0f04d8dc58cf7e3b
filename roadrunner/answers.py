"""Results that come on another thread, as callers on asyncio wait for them: the loop is woken once for many."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Generic, TypeVar

from services.core.errors import DeadlineExceeded, MeshError

T = TypeVar("T")
Answer = Callable[[T | MeshError], object]
Gone = Callable[[], bool]  # whether the caller has given up


class Answers(Generic[T]):
    """Callers that wait, of one event loop."""

    def __init__(self) -> None:
        self._answered: deque[tuple[asyncio.Future[T], T | MeshError]] = deque()

    async def wait(self, submit: Callable[[Answer[T], Gone], object], timeout: float, late: str) -> T:
        """What `submit` has its first argument called with, from any thread. Raises DeadlineExceeded saying `late`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        submit(partial(self._answer, loop, future), future.done)
        timer = loop.call_later(timeout, _settle, future, DeadlineExceeded(late))
        try:
            return await future
        finally:
            timer.cancel()

    def _answer(self, loop: asyncio.AbstractEventLoop, future: "asyncio.Future[T]", result: T | MeshError) -> None:
        self._answered.append((future, result))
        if len(self._answered) == 1:  # else it is awake, and takes this one too
            with suppress(RuntimeError):  # it is closed: no caller waits any more
                loop.call_soon_threadsafe(self._settle_all)

    def _settle_all(self) -> None:
        while self._answered:
            _settle(*self._answered.popleft())


def _settle(future: "asyncio.Future[T]", result: T | MeshError) -> None:
    if future.done():
        return
    if isinstance(result, MeshError):
        future.set_exception(result)
    else:
        future.set_result(result)
