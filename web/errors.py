"""Errors of the mesh as HTTP. A status keeps its name in the body, so that callers of either door act alike."""

import grpc
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.errors import MeshError
from web.answers import Failure, Problem
from web.wire import answer

Code = grpc.StatusCode
HTTP = {
    Code.INVALID_ARGUMENT: 400,
    Code.OUT_OF_RANGE: 400,
    Code.NOT_FOUND: 404,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.INTERNAL: 500,
    Code.UNIMPLEMENTED: 501,  # by a process of another version: every feed there is a name for is built
    Code.UNAVAILABLE: 503,
    Code.FAILED_PRECONDITION: 503,  # not caught up, no model: nothing the caller stated, and it passes
    Code.DEADLINE_EXCEEDED: 504,
}
#: What else HTTP refuses by itself, and the status under which it is counted and named.
OWN = {403: Code.PERMISSION_DENIED, 404: Code.NOT_FOUND, 405: Code.INVALID_ARGUMENT, 413: Code.INVALID_ARGUMENT}
RETRY_AFTER_S = {429: 1, 503: 1}
COUNTED_AS = "feedmesh.status"  # in the scope: the status behind an answer, for the metrics


class TooLarge(MeshError):
    """The body is over the limit.

    The answer goes out at once, and the server drops what still comes, unread. Closing instead would reset the
    connection, and a caller who is still sending would lose the answer.
    """

    status = Code.INVALID_ARGUMENT


class Failures:
    """Answers what a route raises, and what Starlette raises where no route is meant."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        scope["app"] = self  # Starlette's router raises where it sees an application, and else answers by itself
        try:
            await self._app(scope, receive, send)
        except MeshError as error:
            await of_mesh(scope, error)(scope, receive, send)
        except HTTPException as error:
            await of_router(scope, error)(scope, receive, send)


def failure(status: Code, message: str, http: int) -> Response:
    """An error as every error looks."""
    headers = {"retry-after": str(RETRY_AFTER_S[http])} if http in RETRY_AFTER_S else {}
    return answer(Failure(Problem(status.name, message)), http, headers)


def of_mesh(scope: Scope, error: MeshError) -> Response:
    """A MeshError that a route raised."""
    scope[COUNTED_AS] = error.status
    http = 413 if isinstance(error, TooLarge) else HTTP.get(error.status, 500)
    return failure(error.status, str(error), http)


def of_router(scope: Scope, error: HTTPException) -> Response:
    """What Starlette raises: no such path, or not with this method."""
    code = error.status_code
    status = OWN.get(code, Code.INTERNAL if code >= 500 else Code.INVALID_ARGUMENT)
    scope[COUNTED_AS] = status
    message = f"{scope['method']} {Request(scope).url.path[:200]}: {error.detail}; /docs has every route"
    answered = failure(status, message, code)
    answered.headers.update(error.headers or {})  # Allow, of a 405
    return answered
