"""The application: the operations, their description, the pages, and the policy around all of them."""

from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from services.core.metrics import Metrics
from web import pages
from web.compression import Compression
from web.errors import Failures
from web.gate import Gate
from web.guard import Guard, Judged
from web.openapi import describe
from web.operations import Operation, routes
from web.origins import Origins
from web.spelling import with_text_ids
from web.wire import answer


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of every request."""

    metrics: Metrics
    max_requests: int
    origins: Origins = field(default_factory=lambda: Origins((), ()))
    prefix: str = ""  # of paths, such as /feeds; "": none


def application(
    operations: list[Operation], policy: Policy, static: Path | None = None, text_ids: bool = False
) -> ASGIApp:
    """The ASGI application. `static`: another folder of pages. `text_ids`: ids are text.

    Assembled by hand: Starlette's own adds layers that repeat the work of these at every request.
    """
    described = with_text_ids(describe(operations)) if text_ids else describe(operations)

    async def openapi(request: Request) -> Response:
        return answer(described)

    router = Router(
        [
            *routes(operations, text_ids),
            Route("/openapi.json", openapi),
            *(pages.routes(static) if static else pages.routes()),
        ],
        redirect_slashes=False,  # a path is right or unknown
    )
    inner = Judged(Compression(Failures(router)))
    return Guard(Gate(inner, policy.metrics, policy.max_requests), policy.origins, policy.prefix)
