"""The law for every HTTP request: counted under its route, shed when too many are under way, never a stack trace."""

import logging
import time

import grpc
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.metrics import Metrics
from web.errors import COUNTED_AS, failure

logger = logging.getLogger(__name__)
Code = grpc.StatusCode
NEVER_SHED = ("/healthz", "/metrics")  # asked when things go wrong
UNKNOWN = "(no such route)"  # one name for all of them: callers choose paths and methods, and names are kept
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
HEADERS = {
    "content-security-policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_RAW = [(name.encode(), value.encode()) for name, value in HEADERS.items()]  # as ASGI has them


class Gate:
    """Counts, sheds, and answers what nobody else caught."""

    def __init__(self, app: ASGIApp, metrics: Metrics, max_requests: int) -> None:
        self._app, self._metrics, self._max_requests = app, metrics, max_requests
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        begun, http = time.perf_counter(), 0

        async def noting(message: Message) -> None:
            nonlocal http
            if message["type"] == "http.response.start":
                http = message["status"]
            await send(message)

        self._running += 1
        try:
            if self._running > self._max_requests and scope["path"] not in NEVER_SHED:
                await self._shed(scope, receive, noting)
            else:
                await self._app(scope, receive, noting)
        except Exception:
            logger.exception("%s %s failed", scope["method"], scope["path"])
            scope[COUNTED_AS] = Code.INTERNAL
            if http:
                raise  # an answer is under way: only breaking the connection can tell
            await failure(Code.INTERNAL, "failed on the server; its log says why", 500)(scope, receive, noting)
        finally:
            self._running -= 1
            self._metrics.observe(name_of(scope), time.perf_counter() - begun, _status(scope, http))

    async def _shed(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[COUNTED_AS] = Code.RESOURCE_EXHAUSTED
        message = f"{self._max_requests} requests are under way already; retry after a moment"
        await failure(Code.RESOURCE_EXHAUSTED, message, 429)(scope, receive, send)


def name_of(scope: Scope) -> str:
    """Method and route of a request, such as "GET /v1/feeds/{feed}"."""
    route, method = scope.get("route"), scope["method"]
    allowed = getattr(route, "methods", None) or SAFE_METHODS
    return f"{method} {route.path}" if route is not None and method in allowed else UNKNOWN


def _status(scope: Scope, http: int) -> grpc.StatusCode:
    """What failed says so in the scope; the rest was answered as meant, such as a health report with 503."""
    stated: grpc.StatusCode | None = scope.get(COUNTED_AS)
    return stated or (Code.OK if http else Code.CANCELLED)


class Safety:
    """Headers that keep pages to themselves; and no other site's page writes through its reader's browser."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                stated = {name for name, _ in message["headers"]}  # a report's own policy is narrower
                message["headers"] = [*message["headers"], *(header for header in _RAW if header[0] not in stated)]
            await send(message)

        if scope["method"] not in SAFE_METHODS:
            site = Headers(scope=scope).get("sec-fetch-site", "none")
            if site not in ("none", "same-origin"):
                refused = failure(Code.PERMISSION_DENIED, f"a page of another site may not write here ({site})", 403)
                return await refused(scope, receive, safely)
        await self._app(scope, receive, safely)
