"""The first judge of a request: is it meant for this edge, and if a page of another site sends it, may that page do so.

Browsers send `Sec-Fetch-*` to trustworthy origins alone (https, loopback), so on any other address nothing depends on
them. `Origin` comes with every write of every browser, and pages can't forge it or `Host`.
"""

from collections.abc import Iterable

import grpc
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from web.errors import COUNTED_AS, failure
from web.origins import Origins

Code = grpc.StatusCode
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
MAX_AGE_S = 600
ANSWER = "feedmesh.answer"  # in the scope: the guard's answer in place of the application's
JSON = "application/json"
HEADERS = {
    "content-security-policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_RAW = [(name.encode(), value.encode()) for name, value in HEADERS.items()]  # as ASGI has them
_VARY = (b"vary", b"Origin")
_EXPOSED = (b"access-control-expose-headers", b"Retry-After, Allow, Accept-Encoding")
PREFLIGHT = {
    "access-control-allow-methods": "GET, HEAD, POST, DELETE",
    "access-control-allow-headers": "Content-Type, Content-Encoding",
    "access-control-max-age": str(MAX_AGE_S),
    "vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
}


class Judged:
    """Inside of what counts requests: answers those that the guard refused."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await (scope.get(ANSWER) or self._app)(scope, receive, send)


class Guard:
    """Judges Host and Origin, answers preflights, takes the prefix off paths, and adds the headers of every answer."""

    def __init__(self, app: ASGIApp, origins: Origins, prefix: str = "") -> None:
        self._app, self._origins, self._prefix = app, origins, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = _first(scope["headers"])
        stated = headers.get(b"origin", "")
        elsewhere = bool(stated) and not self._origins.is_own(stated, headers.get(b"host", ""))
        allowed = elsewhere and self._origins.is_allowed(stated)
        added = [*_RAW, *self._cors(stated, allowed)]

        async def safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                named = {name for name, _ in message["headers"]}  # a report's own policy is narrower
                message["headers"] = [*message["headers"], *(h for h in added if h[0] == b"vary" or h[0] not in named)]
            await send(message)

        answered = self._refusal(scope, headers, elsewhere and not allowed) or self._preflight(scope, headers, allowed)
        if answered is None:
            self._unprefix(scope)
        scope[ANSWER] = answered
        await self._app(scope, receive, safely)

    def _cors(self, stated: str, allowed: bool) -> list[tuple[bytes, bytes]]:
        """No credentials: the edge knows none. A page of an allowed origin reads the same as any client."""
        vary = [_VARY] if self._origins.reads_elsewhere else []
        return [*vary, (b"access-control-allow-origin", stated.encode("latin-1")), _EXPOSED] if allowed else vary

    def _refusal(self, scope: Scope, headers: dict[bytes, str], elsewhere: bool) -> Response | None:
        hosts = sum(name == b"host" for name, _ in scope["headers"])
        if hosts > 1 or (not hosts and scope["http_version"] == "1.1"):
            return _refused(scope, Code.INVALID_ARGUMENT, f"{hosts} Host headers are not allowed: one", 400)
        host = headers.get(b"host", "")
        if hosts and not self._origins.is_host(host, scope["scheme"]):
            message = f"Host = {host[:80]!r} is not a name of this server: add it to [web] allowed_hosts if it is"
            return _refused(scope, Code.PERMISSION_DENIED, message, 421)
        if scope["method"] in SAFE_METHODS:
            return None
        return self._refused_write(scope, headers, elsewhere)

    def _refused_write(self, scope: Scope, headers: dict[bytes, str], elsewhere: bool) -> Response | None:
        stated, site = headers.get(b"origin", ""), headers.get(b"sec-fetch-site", "none")
        if elsewhere or (not stated and site not in ("none", "same-origin")):
            message = (
                f"a page of another site may not write here: Origin = {stated[:80]!r}, Host = "
                f"{headers.get(b'host', '')[:80]!r}; [web] allowed_origins names those that may"
            )
            return _refused(scope, Code.PERMISSION_DENIED, message, 403)
        if not (stated or b"sec-fetch-site" in headers) or not _has_body(headers):
            return None
        media = headers.get(b"content-type", "").partition(";")[0].strip().lower()
        own = not stated or self._origins.is_own(stated, headers.get(b"host", ""))
        if media == JSON or (media == "text/plain" and own):  # the latter: navigator.sendBeacon of a string
            return None
        return _refused(scope, Code.INVALID_ARGUMENT, f"content-type = {media[:80]!r} is not allowed: {JSON}", 415)

    def _preflight(self, scope: Scope, headers: dict[bytes, str], allowed: bool) -> Response | None:
        if scope["method"] != "OPTIONS" or b"access-control-request-method" not in headers:
            return None
        if not allowed:
            message = f"Origin = {headers.get(b'origin', '')[:80]!r} is not allowed: [web] allowed_origins names those that are"
            return _refused(scope, Code.PERMISSION_DENIED, message, 403)
        private = {"access-control-allow-private-network": "true"}
        more = private if b"access-control-request-private-network" in headers else {}
        return Response(status_code=204, headers=PREFLIGHT | more)

    def _unprefix(self, scope: Scope) -> None:
        """Also where a proxy took it off before: then there is none to take."""
        if self._prefix and f"{scope['path']}/".startswith(f"{self._prefix}/"):
            scope["path"] = scope["path"][len(self._prefix) :] or "/"
            scope["raw_path"] = scope["path"].encode("utf-8", "surrogatepass")


def _first(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, str]:
    found: dict[bytes, str] = {}
    for name, value in headers:
        found.setdefault(name, value.decode("latin-1"))
    return found


def _has_body(headers: dict[bytes, str]) -> bool:
    return headers.get(b"content-length", "0").strip() != "0" or b"transfer-encoding" in headers


def _refused(scope: Scope, status: grpc.StatusCode, message: str, http: int) -> Response:
    scope[COUNTED_AS] = status
    return failure(status, message, http)
