"""For threads that ask other services: an event loop on a thread of its own, on which their asyncio clients live."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from services.core.errors import DeadlineExceeded

T = TypeVar("T")


class Bridge:
    """The loop. Work run on it keeps the caller's request: its deadline and its token."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bridge", daemon=True)
        self._thread.start()

    def make(self, build: Callable[[], T]) -> T:
        """The result of `build`, called on the loop: clients are made where they are used."""

        async def call() -> T:
            return build()

        return self.run(call(), 30.0)

    def run(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        """The outcome of a coroutine within `timeout` seconds. Raises DeadlineExceeded, or what it raises."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise DeadlineExceeded(f"no answer within {timeout * 1000:.0f} ms") from None

    def close(self) -> None:
        """Stop the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
