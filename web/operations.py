"""The API as a table: the application serves it, and /openapi.json describes it, so neither can know more than the other."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from web import examples
from web.answers import Accepted, FeedPage, HealthReport, ModelList, Pin, Promotion, User, UserPage, Written
from web.events import Events
from web.feeds import FEEDS, Feeds
from web.health import Watch
from web.models import Models
from web.pins import PinReader
from web.promotion import Promotions
from web.questions import MAX_EVENTS, EventList, FeedQuery, NoQuery, PromotionQuery, ReadQuery, UsersQuery
from web.users import Users
from web.wire import DIGITS, answer

Code = grpc.StatusCode
READS = (Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)
ID = {"type": "string", "pattern": DIGITS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path."""

    name: str  # of the function that a generated client has for it
    method: str
    path: str
    handle: Callable[[Request], Awaitable[Struct | Response]]
    summary: str
    more: str = ""
    answer: type[Struct] | None  # None: text of the kind `media`
    media: str = "text/plain"
    status: int = 200
    example: Any = None
    query: type[Struct] = NoQuery
    in_path: dict[str, Any]  # schema of each parameter in the path
    body: type[Struct] | None = None
    body_example: Any = None
    errors: tuple[grpc.StatusCode, ...] = READS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        answered = await self.handle(Request(scope, receive, send))
        response = answered if isinstance(answered, Response) else answer(answered, self.status)
        await response(scope, receive, send)


class Methods:
    """The operations of one path, by method; HEAD as GET."""

    def __init__(self, operations: list[Operation]) -> None:
        self._by_method = {operation.method: operation for operation in operations}
        if "GET" in self._by_method:
            self._by_method["HEAD"] = self._by_method["GET"]
        self.names = list(self._by_method)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await self._by_method[scope["method"]](scope, receive, send)


def routes(operations: list[Operation], text_ids: bool = False) -> list[Route]:
    """One route a path, so that a refusal names all methods of it. text_ids: an id in a path may have slashes."""
    by_path: dict[str, list[Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, []).append(operation)
    together = {path: Methods(of) for path, of in by_path.items()}
    made = []
    for path, methods in together.items():
        ids = [name for name, schema in by_path[path][0].in_path.items() if text_ids and schema is ID]
        route = Route(_with_slashes(path, ids), methods, methods=methods.names)
        route.path = path  # by which metrics name it
        made.append(route)
    return made


def _with_slashes(pattern: str, names: list[str]) -> str:
    for name in names:
        pattern = pattern.replace(f"{{{name}}}", f"{{{name}:path}}")
    return pattern


def operations(
    feeds: Feeds, events: Events, users: Users, pins: PinReader, models: Models, promotions: Promotions, watch: Watch
) -> list[Operation]:
    """Every operation."""
    return [
        *_of_feeds(feeds, events),
        *_of_objects(users, pins, events),
        *_of_models(models, promotions),
        *_of_the_mesh(watch),
    ]


def _of_feeds(feeds: Feeds, events: Events) -> list[Operation]:
    return [
        Operation(
            name="getFeed",
            method="GET",
            path="/v1/feeds/{feed}",
            handle=feeds.get,
            summary="One page of a user's feed",
            more="Nothing is shown twice. A lost service is named in `degraded`; the feed comes all the same.",
            in_path={"feed": {"type": "string", "enum": list(FEEDS)}},
            query=FeedQuery,
            answer=FeedPage,
            example=examples.FEED,
            errors=(*READS, Code.NOT_FOUND),
        ),
        Operation(
            name="postEvents",
            method="POST",
            path="/v1/events",
            handle=events.post,
            summary="Write what users did",
            more=f"1 to {MAX_EVENTS} events: all are accepted, or none and the first bad one is named. On disk when "
            "answered. A bare event and a bare list of events are taken too. A body over the limit is answered with 413.",
            in_path={},
            body=EventList,
            body_example=examples.EVENTS,
            answer=Accepted,
            status=202,
            example=examples.ACCEPTED,
        ),
    ]


def _of_objects(users: Users, pins: PinReader, events: Events) -> list[Operation]:
    return [
        Operation(
            name="listUsers",
            method="GET",
            path="/v1/users",
            handle=users.page,
            summary="Users, by ascending id",
            more="A search (`q`) looks at 20,000 names an answer at most, so it may find fewer than `limit` and still "
            "name a `next`.",
            in_path={},
            query=UsersQuery,
            answer=UserPage,
            example=examples.USERS,
        ),
        Operation(
            name="getUser",
            method="GET",
            path="/v1/users/{user}",
            handle=users.get,
            summary="One user, with follows and own boards",
            more="An unknown user has empty lists; that is not an error.",
            in_path={"user": ID},
            query=ReadQuery,
            answer=User,
            example=examples.USER,
        ),
        Operation(
            name="getPin",
            method="GET",
            path="/v1/pins/{pin}",
            handle=pins.get,
            summary="One pin",
            in_path={"pin": ID},
            query=ReadQuery,
            answer=Pin,
            example=examples.PIN,
            errors=(*READS, Code.NOT_FOUND),
        ),
        Operation(
            name="takeDownPin",
            method="DELETE",
            path="/v1/pins/{pin}",
            handle=events.take_down,
            summary="Take a pin down, everywhere and for good",
            more="Also a pin that no event ever described: it may be on boards.",
            in_path={"pin": ID},
            answer=Written,
            status=202,
            example=examples.WRITTEN,
        ),
    ]


def _of_models(models: Models, promotions: Promotions) -> list[Operation]:
    version = {"name": {"type": "string"}, "version": {"type": "integer", "minimum": 1}}
    return [
        Operation(
            name="listModels",
            method="GET",
            path="/v1/models",
            handle=models.get,
            summary="The models: which is promoted, which were refused and why, and how each did in training",
            in_path={},
            answer=ModelList,
            example=examples.MODELS,
        ),
        Operation(
            name="getModelReport",
            method="GET",
            path="/models/{name}/{version}/report",
            handle=models.report,
            summary="The training report of one version of a model",
            in_path=version,
            answer=None,
            media="text/html",
            errors=(Code.INVALID_ARGUMENT, Code.NOT_FOUND),
        ),
        Operation(
            name="promoteModel",
            method="POST",
            path="/v1/models/{name}/{version}/promotion",
            handle=promotions.promote,
            summary="Rank the feeds with a version from now on",
            more="No request is dropped. A version that can't rank, or is worse than a simple baseline, is refused with the "
            "reason; `force` overrules the latter.",
            in_path=version,
            query=PromotionQuery,
            answer=Promotion,
            example=examples.PROMOTION,
            errors=(*READS, Code.NOT_FOUND, Code.ABORTED),
        ),
        Operation(
            name="rollBackModel",
            method="POST",
            path="/v1/models/rollback",
            handle=promotions.rollback,
            summary="Rank the feeds with the version before again",
            in_path={},
            answer=Promotion,
            example=examples.PROMOTION,
            errors=(*READS, Code.NOT_FOUND, Code.ABORTED),
        ),
    ]


def _of_the_mesh(watch: Watch) -> list[Operation]:
    return [
        Operation(
            name="getHealth",
            method="GET",
            path="/healthz",
            handle=watch.healthz,
            summary="Whether every process is ready: 200, or 503 with the same report",
            in_path={},
            answer=HealthReport,
            example=examples.HEALTH,
            errors=(),
        ),
        Operation(
            name="getMetrics",
            method="GET",
            path="/metrics",
            handle=watch.metrics,
            summary="The metrics of every process, in Prometheus' text format",
            in_path={},
            answer=None,
            errors=(),
        ),
    ]
