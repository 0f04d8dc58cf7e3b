"""Answers as gzip for who takes it, as Starlette makes them. All others get them as they are, and caches are told so."""

from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

GZIP_FROM = 1024  # bytes
GZIP_LEVEL = 1  # a feed page of 10 KB in 0.1 ms; higher levels cost several times that for a tenth of the size
_VARY = (b"vary", b"Accept-Encoding")  # of what is large enough; nobody here states another
_NEVER = b"image/png"  # of what is served here, the one kind that Starlette leaves as it is


class Compression:
    """Starlette's middleware goes through much at every request; this one only asks whether it is needed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._gzip = app, GZipMiddleware(app, GZIP_FROM, GZIP_LEVEL)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or _takes_gzip(scope):
            return await self._gzip(scope, receive, send)
        start: Message | None = None

        async def varying(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message  # until its body comes, and tells how large it is
                return
            if start is not None:
                begun, start = start, None
                if (message.get("more_body") or len(message.get("body", b"")) >= GZIP_FROM) and _has_two_forms(begun):
                    begun["headers"] = [*begun["headers"], _VARY]
                await send(begun)
            await send(message)

        await self._app(scope, receive, varying)


def _takes_gzip(scope: Scope) -> bool:
    return any(name == b"accept-encoding" and b"gzip" in value for name, value in scope["headers"])


def _has_two_forms(start: Message) -> bool:
    return start["status"] != 206 and (b"content-type", _NEVER) not in start["headers"]
