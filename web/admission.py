"""Admission control: how many requests run in parallel. One that still receives its body does not run."""

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from services.core.errors import Exhausted

ADMISSION = "feedmesh.admission"  # in the scope


class HttpRequestLimiter:
    """Counts HTTP requests that run, at most `most`; `web.body` bounds their bytes. For one event loop, so without a lock."""

    def __init__(self, most: int) -> None:
        self.most, self.running = most, 0

    def check(self) -> None:
        """Raises Exhausted when more run than may."""
        if self.running > self.most:
            raise Exhausted(f"{self.most} requests are under way already; retry after a moment")


@contextmanager
def outside(scope: MutableMapping[str, Any]) -> Iterator[None]:
    """The request waits for its caller and takes no place. Raises Exhausted when none is left afterwards."""
    limiter: HttpRequestLimiter = scope[ADMISSION]
    limiter.running -= 1
    try:
        yield
    finally:
        limiter.running += 1
    limiter.check()
