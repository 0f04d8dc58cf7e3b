"""The application: the operations, their description, the pages, and the law around all of them."""

from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from services.metrics import Metrics
from web import pages
from web.compression import Compression
from web.errors import Failures
from web.gate import Gate, Safety
from web.openapi import describe
from web.operations import Operation
from web.wire import answer


@dataclass(frozen=True, slots=True)
class Law:
    """What holds for every request."""

    metrics: Metrics
    max_requests: int


def application(operations: list[Operation], law: Law, static: Path | None = None) -> ASGIApp:
    """The ASGI application. `static`: another folder of pages.

    Put together by hand: Starlette's own adds layers that do again, at every request, what these do.
    """
    described = describe(operations)

    async def openapi(request: Request) -> Response:
        return answer(described)

    router = Router(
        [
            *(operation.route() for operation in operations),
            Route("/openapi.json", openapi),
            *(pages.routes(static) if static else pages.routes()),
        ],
        redirect_slashes=False,  # a path is right or unknown
    )
    return Safety(Gate(Compression(Failures(router)), law.metrics, law.max_requests))
