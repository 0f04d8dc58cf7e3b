"""Errors of the mesh as HTTP. A status keeps its name in the body, so that callers of HTTP and of gRPC act alike."""

import grpc
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.core.errors import MeshError, without_paths
from web.problems import problem, status_of

Code = grpc.StatusCode
HTTP = {
    Code.INVALID_ARGUMENT: 400,
    Code.OUT_OF_RANGE: 400,
    Code.NOT_FOUND: 404,
    Code.ABORTED: 409,  # another changed it meanwhile
    Code.RESOURCE_EXHAUSTED: 429,
    Code.INTERNAL: 500,
    Code.UNIMPLEMENTED: 501,  # by a process of another version: every feed there is a name for is built
    Code.UNAVAILABLE: 503,
    Code.FAILED_PRECONDITION: 503,  # not caught up, no model: nothing the caller stated, and it passes
    Code.DEADLINE_EXCEEDED: 504,
}
COUNTED_AS = "feedmesh.status"  # in the scope: the status behind an answer, for the metrics


class TooLarge(MeshError):
    """The body is over the limit.

    The answer goes out immediately, and the server drops the rest, unread. Closing instead would reset the
    connection, and a caller who is still sending would lose the answer.
    """

    status, http = Code.INVALID_ARGUMENT, 413


class UnsupportedBody(MeshError):
    """The body's media type or coding is not one that is read here."""

    status, http = Code.INVALID_ARGUMENT, 415


class SlowBody(MeshError):
    """The body did not arrive in time. The connection ends with the answer: the rest of the body would hold it."""

    status, http = Code.DEADLINE_EXCEEDED, 408


class BodiesFull(MeshError):
    """All held bodies are over the limit in sum; it passes."""

    status, http = Code.RESOURCE_EXHAUSTED, 503


#: Headers of the answer beside those of every problem.
HEADERS = {SlowBody: {"connection": "close"}, UnsupportedBody: {"accept-encoding": "gzip, deflate"}}


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
    headers, body = problem(http, message, status)
    response = Response(body, http)
    for name, value in headers:
        response.headers[name.decode()] = value.decode()
    return response


def of_mesh(scope: Scope, error: MeshError) -> Response:
    """A MeshError that a route raised."""
    scope[COUNTED_AS] = error.status
    http: int = getattr(error, "http", 0) or HTTP.get(error.status, 500)
    said = str(error) if http < 429 else without_paths(str(error))  # of the caller's own mistakes: as they wrote it
    answered = failure(error.status, said, http)
    answered.headers.update(HEADERS.get(type(error), {}))
    return answered


def of_router(scope: Scope, error: HTTPException) -> Response:
    """An error of Starlette: no such path, or not with this method. OPTIONS of a path that exists answers its methods."""
    code = error.status_code
    headers = dict(error.headers or {})
    if code == 405:
        stated = {name.strip() for name in headers.pop("Allow", "GET, HEAD").split(",")}
        headers["allow"] = ", ".join(sorted(stated | {"OPTIONS"}))
    if scope["method"] == "OPTIONS" and (code == 405 or scope["path"] == "*"):
        return Response(status_code=204, headers={"allow": headers.get("allow", "DELETE, GET, HEAD, OPTIONS, POST")})
    status = status_of(code)
    scope[COUNTED_AS] = status
    message = f"{scope['method']} {Request(scope).url.path[:200]}: {error.detail}; /docs has every route"
    answered = failure(status, message, code)
    answered.headers.update(headers)
    return answered
