"""The application: the operations, their description, the pages, and the law around all of them."""

from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.errors import MeshError
from services.metrics import Metrics
from web import pages
from web.errors import of_mesh, of_router
from web.gate import Gate, Safety
from web.openapi import describe
from web.operations import Operation
from web.wire import answer

GZIP_FROM = 1024  # bytes
GZIP_LEVEL = 1  # a feed page of 10 KB in 0.1 ms; higher levels cost several times that for a tenth of the size


@dataclass(frozen=True, slots=True)
class Law:
    """What holds for every request."""

    metrics: Metrics
    max_requests: int


def application(operations: list[Operation], law: Law, static: Path | None = None) -> Starlette:
    """The ASGI application. `static`: another folder of pages."""
    described = describe(operations)

    async def openapi(request: Request) -> Response:
        return answer(described)

    app = Starlette(
        routes=[
            *(operation.route() for operation in operations),
            Route("/openapi.json", openapi),
            *(pages.routes(static) if static else pages.routes()),
        ],
        middleware=[
            Middleware(Safety),
            Middleware(Gate, law.metrics, law.max_requests),
            Middleware(GZipMiddleware, minimum_size=GZIP_FROM, compresslevel=GZIP_LEVEL),
        ],
        exception_handlers={MeshError: of_mesh, HTTPException: of_router},
    )
    app.router.redirect_slashes = False  # a path is right or unknown
    return app
