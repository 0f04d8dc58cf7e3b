"""The policy of every HTTP request: counted under its route, shed when too many are under way, never a stack trace."""

import logging
import time

import grpc
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.core.errors import Exhausted, described
from services.core.metrics import Metrics
from web.admission import ADMISSION, HttpRequestLimiter
from web.errors import COUNTED_AS, failure, of_mesh
from web.guard import SAFE_METHODS

logger = logging.getLogger(__name__)
Code = grpc.StatusCode
NEVER_SHED = ("/healthz", "/metrics")  # asked when things go wrong
UNKNOWN = "(no such route)"  # one name for all of them: callers choose paths and methods, and names are kept


class Gate:
    """Counts and sheds requests, and answers errors that no other layer caught."""

    def __init__(self, app: ASGIApp, metrics: Metrics, max_requests: int) -> None:
        self._app, self._metrics, self._limiter = app, metrics, HttpRequestLimiter(max_requests)

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

        limiter = scope[ADMISSION] = self._limiter
        limiter.running += 1
        try:
            if scope["path"] not in NEVER_SHED:
                limiter.check()
            await self._app(scope, receive, noting)
        except Exhausted as error:
            await of_mesh(scope, error)(scope, receive, noting)
        except Exception as error:
            message = described(error, f"{scope['method']} {scope['path']} failed")
            scope[COUNTED_AS] = Code.INTERNAL
            if http:
                raise  # an answer is under way: only breaking the connection can show the error
            await failure(Code.INTERNAL, message, 500)(scope, receive, noting)
        finally:
            limiter.running -= 1
            self._metrics.observe(name_of(scope), time.perf_counter() - begun, _status(scope, http))


def name_of(scope: Scope) -> str:
    """Method and route of a request, such as "GET /v1/feeds/{feed}"."""
    route, method = scope.get("route"), scope["method"]
    allowed = getattr(route, "methods", None) or SAFE_METHODS
    return f"{method} {route.path}" if route is not None and method in allowed else UNKNOWN


def _status(scope: Scope, http: int) -> grpc.StatusCode:
    """The status of a failure is in the scope; all other answers are as meant, such as a health report with 503."""
    stated: grpc.StatusCode | None = scope.get(COUNTED_AS)
    return stated or (Code.OK if http else Code.CANCELLED)
