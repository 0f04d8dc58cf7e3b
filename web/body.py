"""Reads a body within its limit: one that says it is larger is not begun, one that turns out larger is not finished."""

import asyncio

from starlette.requests import ClientDisconnect, Request

from services.errors import DeadlineExceeded, InvalidArgument
from web.errors import TooLarge


async def read_body(request: Request, most: int, timeout: float) -> bytes:
    """The body, at most `most` bytes, within `timeout` seconds. Raises TooLarge, DeadlineExceeded, InvalidArgument."""
    stated = request.headers.get("content-length", "")
    if stated.isdigit() and int(stated) > most:
        raise TooLarge(_over(most))
    parts, size = [], 0
    try:
        async with asyncio.timeout(timeout):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise TooLarge(_over(most))
                parts.append(part)
    except TimeoutError:
        raise DeadlineExceeded(f"the body did not arrive within {timeout} s") from None
    except ClientDisconnect:
        raise InvalidArgument("the caller left before its body was complete") from None
    return b"".join(parts)


def _over(most: int) -> str:
    return f"the body is over {most} bytes ([web] max_body_mb); send the events in several requests"
