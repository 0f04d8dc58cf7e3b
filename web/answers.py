"""What the edge answers. Ids are strings of digits; the descriptions stand in /openapi.json."""

from typing import Annotated

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

IdText = Annotated[str, Meta(pattern="^[0-9]{1,20}$", description="an unsigned 64-bit id, in digits")]
Degraded = Annotated[list[str], Meta(description="what was lost on the way to this answer; empty: nothing")]


class Named(Struct):
    """A user or an interest; the name is empty where none was ever stated."""

    id: IdText
    name: str


class Titled(Struct):
    """A board; the title is empty where none was ever stated."""

    id: IdText
    title: str


class FeedItem(Struct):
    """One pin of a feed, and why it is there."""

    pin: IdText
    title: str
    link: str
    board: Titled | None
    owner: Named | None
    source: Annotated[str, Meta(description="the stage that found it")]
    reason: Annotated[str, Meta(description="why it is here, in one line for the reader")]
    score: float
    at_ms: Annotated[int, Meta(description="when it was saved there, Unix milliseconds")]
    interests: list[str]


class FeedPage(Struct):
    """One page of a feed."""

    items: list[FeedItem]
    cursor: Annotated[str | None, Meta(description="pass it on for the next page; null: nothing more to come")]
    degraded: Degraded
    model: Annotated[str, Meta(description="what ranked it")]
    request_id: str
    took_ms: float
    xray: Annotated[Raw | UnsetType, Meta(description="an object; only with explain=true")] = UNSET


class Written(Struct):
    """Of a takedown."""

    token: Annotated[str, Meta(description="pass it to a read that must show this write")]


class Accepted(Struct):
    """Of events: on disk, and shown by every read that carries the token."""

    accepted: int
    duplicates: Annotated[int, Meta(description="ids that had been accepted within a day before")]
    token: Annotated[str, Meta(description="pass it to a read that must show these writes")]


class UserRow(Struct):
    """One user of a list."""

    user: IdText
    name: str
    followers: Annotated[int | UnsetType, Meta(description="absent while apiary is away")] = UNSET


class UserPage(Struct):
    """Users by ascending id."""

    users: list[UserRow]
    next: Annotated[str | None, Meta(description="pass it as after=; null: nobody is left")]
    degraded: Degraded


class Follows(Struct):
    """What a user follows, newest first, at most 100 of each."""

    users: list[Named]
    boards: list[Titled]
    interests: list[Named]


class Counts(Struct):
    """How many there are of each list, counted up to 10,000."""

    users: int
    followed_boards: int
    interests: int
    boards: int


class User(Struct):
    """One user. Somebody nobody ever named, who never did anything, has empty lists and no name."""

    user: IdText
    name: str
    followers: int
    follows: Follows
    boards: Annotated[list[Titled], Meta(description="their own, newest first, at most 100")]
    counts: Counts
    degraded: Degraded


class Pin(Struct):
    """One pin."""

    pin: IdText
    title: str
    link: str
    interests: list[Named]
    quality: Annotated[float | None, Meta(description="0 to 1; null where never stated")]
    created_ms: int
    taken_down: bool


class ModelVersion(Struct):
    """One version of a model."""

    name: str
    version: int
    fingerprint: Annotated[
        str, Meta(pattern="^[0-9]{1,20}$", description="of its files; what served pages are logged with")
    ]
    promoted: Annotated[bool, Meta(description="feeds are ranked by it")]
    loaded: Annotated[bool, Meta(description="every shard of scorpion has it in memory")]
    problem: Annotated[str, Meta(description="why it was refused; empty: it was not")]
    trees: int
    leaves: Annotated[int, Meta(description="of its largest tree")]
    features: list[str]
    trained_ms: int
    load_ms: float
    metrics: Annotated[dict[str, float], Meta(description="as measured when it was trained; empty where not at hand")]
    report: Annotated[str | None, Meta(description="path of its training report; null: it has none")]


class ModelList(Struct):
    """Every version of every model in the registry."""

    models: list[ModelVersion]
    rollback: Annotated[
        str | None, Meta(description="name@version that `feedmesh model rollback` would promote; null: none")
    ]


class MethodHealth(Struct):
    """One method over the last minute; calls and errors since the process started."""

    method: str
    qps: float
    p50_ms: float
    p99_ms: float
    errors: int
    calls: int


class ProcessHealth(Struct):
    """One process: sums over its methods, and the percentiles of the method called most in the last minute."""

    service: str
    shard: int
    address: str
    ready: bool
    why: str
    pid: int | None
    uptime_s: float
    rss_bytes: int
    peak_rss_bytes: int
    behind: Annotated[int, Meta(description="events of the log that this view has not applied")]
    qps: float
    p50_ms: float
    p99_ms: float
    errors: int
    calls: int
    methods: list[MethodHealth]
    gauges: dict[str, float]


class ViewHealth(Struct):
    """How long the audit's own events took to be readable in a view."""

    view: str
    last_ms: float
    p50_ms: float
    p99_ms: float
    samples: int
    lost: int


class HealthReport(Struct):
    """Every process, and how fresh the views are."""

    ready: bool
    processes: list[ProcessHealth]
    freshness: list[ViewHealth]


class Problem(Struct):
    """What was wrong."""

    status: Annotated[str, Meta(description="the name of a gRPC status, such as INVALID_ARGUMENT")]
    message: Annotated[str, Meta(description="what was wrong, and what is allowed or can be done")]


class Failure(Struct):
    """Every answer that is no success."""

    error: Problem
