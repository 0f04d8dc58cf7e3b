"""Reads bodies within their limits: of one, of all that are held, and of time.

A body that says it is too large is not begun, one that turns out too large is not finished. While it arrives, its
request takes no place among those under way: slow senders keep no others out.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from services.core.errors import InvalidArgument
from web.admission import outside
from web.decoding import Decoding, coding_of
from web.errors import BodiesFull, SlowBody, TooLarge


class Bodies:
    """Reads bodies of at most `most` bytes each, and at most `in_sum` bytes of all that are held."""

    def __init__(self, most: int, in_sum: int) -> None:
        self._most, self._in_sum = most, max(most, in_sum)
        self.held = 0  # bytes, decoded

    @asynccontextmanager
    async def read(self, request: Request, timeout: float) -> AsyncIterator[bytes]:
        """The body, decoded, within `timeout` seconds. It counts as held until the block ends.

        Raises TooLarge, BodiesFull, SlowBody, UnsupportedBody, InvalidArgument.
        """
        decoding = Decoding(coding_of(request.headers.getlist("content-encoding")), self._most)
        stated = request.headers.get("content-length", "")
        if stated.isdigit() and int(stated) > self._most:
            raise self._too_large()
        held = 0
        try:
            parts = []
            try:
                with outside(request.scope):
                    async with asyncio.timeout(timeout):
                        async for sent in request.stream():
                            parts.append(decoding.of(sent))
                            held += len(parts[-1])
                            self._hold(len(parts[-1]), held)
            except TimeoutError:
                raise SlowBody(f"the body did not arrive within {timeout:.3g} s") from None
            except ClientDisconnect:
                raise InvalidArgument("the caller left before its body was complete") from None
            decoding.finish()
            whole = b"".join(parts)
            parts.clear()
            yield whole
        finally:
            self.held -= held

    def _hold(self, size: int, of_one: int) -> None:
        self.held += size
        if of_one > self._most:
            raise self._too_large()
        if self.held > self._in_sum:
            raise BodiesFull(
                f"all bodies under way are over {self._in_sum} bytes ([web] max_bodies_mb); retry after a moment"
            )

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is over {self._most} bytes ([web] max_body_mb); send the events in several requests")
