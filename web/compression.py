"""Answers as gzip for clients that accept it, as Starlette makes them. All others get them as they are; caches know."""

import grpc
from starlette.middleware.gzip import GZipResponder
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from web.errors import failure
from web.negotiation import coding_for

GZIP_FROM = 1024  # bytes
GZIP_LEVEL = 1  # a feed page of 10 KB in 0.1 ms; higher levels cost several times that for a tenth of the size
_VARY = (b"vary", b"Accept-Encoding")  # of answers that are large enough; no code here states another
_NEVER = b"image/png"  # of what is served here, the one kind that Starlette leaves as it is
NOT_ACCEPTABLE = "accept-encoding refuses both gzip and identity, and there is nothing else"


class Compression:
    """Starlette's middleware goes through much at every request; this one only asks whether it is needed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        coding = coding_for(scope)
        if (
            coding and scope.get("http_version") == "1.0"
        ):  # an answer that is packed as it is sent has chunks, which 1.0 does not know
            coding = "identity"
        if coding in ("gzip", "gzip only"):
            least = GZIP_FROM if coding == "gzip" else 1
            return await GZipResponder(self._app, least, GZIP_LEVEL)(scope, receive, send)
        if coding is None:
            return await failure(grpc.StatusCode.INVALID_ARGUMENT, NOT_ACCEPTABLE, 406)(scope, receive, send)
        start: Message | None = None

        async def varying(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message  # until its body comes, and shows how large it is
                return
            if start is not None:
                begun, start = start, None
                if (message.get("more_body") or len(message.get("body", b"")) >= GZIP_FROM) and _has_two_forms(begun):
                    begun["headers"] = [*begun["headers"], _VARY]
                await send(begun)
            await send(message)

        await self._app(scope, receive, varying)


def _has_two_forms(start: Message) -> bool:
    return start["status"] != 206 and (b"content-type", _NEVER) not in start["headers"]
