"""Compression beside Starlette's own, whatever is answered; and queries beside the library's reading of them."""

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp

from web.compression import GZIP_FROM, GZIP_LEVEL, Compression
from web.wire import parameters

LARGE = b"feed " * GZIP_FROM
ANSWERS: dict[str, Callable[[], Response]] = {
    "small": lambda: Response(LARGE[: GZIP_FROM - 1], media_type="application/json"),
    "just large enough": lambda: Response(LARGE[:GZIP_FROM], media_type="application/json"),
    "large": lambda: Response(LARGE, 404, {"retry-after": "1"}, "application/json"),
    "part": lambda: Response(LARGE, 206, media_type="text/html"),
    "picture": lambda: Response(LARGE, media_type="image/png"),
    "nothing": lambda: Response(status_code=304),
    "streamed": lambda: StreamingResponse(iter([LARGE, LARGE]), media_type="text/html"),
    "streamed little": lambda: StreamingResponse(iter([b"a"]), media_type="text/html"),
}


def answered(app: ASGIApp, headers: list[tuple[bytes, bytes]]) -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.sleep(60)

    asyncio.run(app({"type": "http", "method": "GET", "headers": headers}, receive, send))  # type: ignore[arg-type]
    return sent


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("takes", [None, b"identity", b"br, gzip"])
def test_answers_are_starlettes(kind: str, takes: bytes | None) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await ANSWERS[kind]()(scope, receive, send)

    headers = [(b"host", b"here")] + ([(b"accept-encoding", takes)] if takes else [])
    assert answered(Compression(app), headers) == answered(GZipMiddleware(app, GZIP_FROM, GZIP_LEVEL), headers)


@given(st.lists(st.sampled_from(["user", "limit", "=", "&", "42", "%20", "%", "+", "é", ";", "a b"])).map("".join))
def test_parameters_are_the_librarys(query: str) -> None:
    assert parameters(query.encode()) == parse_qsl(query, keep_blank_values=True)
