"""The contents of requests: query parameters and events. The descriptions stand in refusals and in /openapi.json."""

from typing import Annotated

from msgspec import Meta, Struct

from services.core.events import MAX_INTERESTS, MAX_TEXT, Action, Surface
from web.wire import After, AfterId, Id

#: The actions that events from outside may have. SERVED is feedgen's own to write, datasets are those of `feedmesh features`.
_OWN = (Action.SERVED, Action.PUT_FEATURES, Action.SWITCH_DATASET, Action.NAME_ID)
ACTIONS = {action.name.lower(): action for action in Action if action not in _OWN}
SURFACES = {surface.name.lower(): surface for surface in Surface}
MAX_EVENTS = 10_000
MAX_LIMIT = 100
MAX_WRITER = 200  # characters

Limit = Annotated[int, Meta(ge=1, le=MAX_LIMIT, description=f"how many, 1 to {MAX_LIMIT}")]
Token = Annotated[
    str,
    Meta(description='tokens of writes that the answer must show, as POST /v1/events answered; several joined by ","'),
]


class FeedQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """Of GET /v1/feeds/{feed}."""

    user: Annotated[Id, Meta(description="the reader of the feed; an unknown user has an empty history, not an error")]
    limit: Limit = 25
    cursor: Annotated[
        str, Meta(max_length=32_000, description="as answered with the page before; none: first page")
    ] = ""
    explain: Annotated[bool, Meta(description="true: answer the request's X-ray too")] = False
    token: Token = ""


class UsersQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """Of GET /v1/users."""

    limit: Limit = 20
    after: Annotated[AfterId, Meta(description="users with greater ids: `next` of the page before")] = After(0)
    q: Annotated[
        str, Meta(max_length=200, description="part of a name, in any case, with or without accents, or an exact id")
    ] = ""


class ReadQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """Of GET /v1/users/{user} and GET /v1/pins/{pin}."""

    token: Token = ""


class PromotionQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """Of POST /v1/models/{name}/{version}/promotion."""

    force: Annotated[bool, Meta(description="true: also where training found it worse than a simple baseline")] = False


class NoQuery(Struct, forbid_unknown_fields=True):
    """Of what takes no parameters."""


class Event(Struct, forbid_unknown_fields=True, kw_only=True):
    """One action of a user. It needs the ids that services/core/events.py says; null is the same as not stated."""

    action: Annotated[str, Meta(description="what was done", extra_json_schema={"enum": list(ACTIONS)})]
    user: Id | None = None
    pin: Id | None = None
    board: Id | None = None
    target: Annotated[Id | None, Meta(description="the user or interest followed, joined, left or named")] = None
    surface: Annotated[str, Meta(description="where it happened", extra_json_schema={"enum": list(SURFACES)})] = (
        "unknown"
    )
    at_ms: Annotated[
        Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None, Meta(description="Unix milliseconds; none: now")
    ] = None
    id: Annotated[
        Id | None, Meta(description="idempotency key, accepted once a day; state it where a request may be repeated")
    ] = None
    writer: Annotated[
        str | int | None,
        Meta(
            description="the writer that counts the ids, such as a device or a job: any name or number; none: the user"
        ),
    ] = None
    title: Annotated[
        str | None, Meta(description=f'of a pin or board, or a name; at most {MAX_TEXT} bytes; "" empties it')
    ] = None
    link: Annotated[str | None, Meta(description=f'of a pin; at most {MAX_TEXT} bytes; "" empties it')] = None
    quality: Annotated[
        float | None, Meta(description="of the pin, 0 to 1; a save takes the pin's own if none is stated")
    ] = None
    interests: Annotated[list[Id] | None, Meta(description=f"of the pin; at most {MAX_INTERESTS}")] = None


class EventList(Struct, forbid_unknown_fields=True):
    """The body of POST /v1/events; a bare event or a bare list of events is taken too."""

    events: Annotated[list[Event], Meta(min_length=1, max_length=MAX_EVENTS, description=f"1 to {MAX_EVENTS} events")]
