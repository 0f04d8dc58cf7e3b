"""The answers of the edge. Ids are strings of digits; the descriptions stand in /openapi.json."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

IdText = Annotated[str, Meta(pattern="^[1-9][0-9]{0,19}$", description="an unsigned 64-bit id, in digits")]
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


class Accepted(Struct, kw_only=True):
    """Of events: durable, and shown by every read that carries the token."""

    accepted: int
    duplicates: Annotated[
        int | UnsetType,
        Meta(
            description="ids that had been accepted within a day before; absent where the log is on Kafka: dropped later"
        ),
    ] = UNSET
    token: Annotated[str, Meta(description="pass it to a read that must show these writes")]


class UserRow(Struct):
    """One user of a list."""

    user: IdText
    name: str
    followers: Annotated[int | UnsetType, Meta(description="absent while apiary is away")] = UNSET


class UserPage(Struct):
    """Users by ascending id."""

    users: list[UserRow]
    next: Annotated[str | None, Meta(description="pass it as after=; null: no user is left")]
    degraded: Degraded


class Follows(Struct):
    """The users, boards and interests that a user follows, newest first, at most 100 of each."""

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
    """One user. A user whom no event ever named, and who never did anything, has empty lists and no name."""

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


class Figure(Struct):
    """A mean over requests with its 95 % interval."""

    value: Annotated[float | None, Meta(description="null where there was nothing to take it of")] = None
    low: float | None = None
    high: float | None = None
    requests: Annotated[int, Meta(description="how many it is of")] = 0


Verdict = Annotated[
    Literal["better", "worse", "undecided"],
    Meta(description="whether the interval of the difference lies above 0, below it, or over it"),
]
NeededRequests = Annotated[int, Meta(description="about how many would detect such a difference; 0: not known")]


class ModelComparison(Struct):
    """How a model did beside the one that served when it was trained, on the same requests and candidates."""

    model: Annotated[str, Meta(description="name@version of that one")]
    difference: Annotated[Figure, Meta(description="the model's less that one's; null where they were not compared")]
    users: Annotated[int, Meta(description="whose requests those are")]
    verdict: Verdict
    needed_requests: NeededRequests
    note: Annotated[str, Meta(description="why they were not compared, or what to know of it; empty: nothing")] = ""


class ModelEvaluation(Struct):
    """How a model did on a later period than it learned from, beside orders that need no model, on the same requests and
    candidates.
    """

    metric: Annotated[str, Meta(description="the metric that decides, such as ndcg@10")]
    requests: Annotated[int, Meta(description="those that distinguish methods")]
    users: Annotated[int, Meta(description="whose requests they are")]
    methods: Annotated[
        dict[str, dict[str, Figure]],
        Meta(description="by method (`model`, `popularity`, `recency`, `light`, `item-knn`) and metric"),
    ]
    best_baseline: str
    difference: Annotated[Figure, Meta(description="the model's less the best baseline's, request by request")]
    verdict: Verdict
    needed_requests: NeededRequests
    words: Annotated[str, Meta(description="the same as a sentence")] = ""
    from_ms: Annotated[int, Meta(description="when that period begins; 0: not known")] = 0
    serving: Annotated[
        ModelComparison | None, Meta(description="beside the model that served then; null: none did")
    ] = None


class LearningProgress(Struct):
    """How far the mesh is with a model that it makes by itself."""

    state: Annotated[
        Literal["off", "waiting", "running", "served", "declined", "failed"],
        Meta(
            description="waiting: there is too little to learn from; served: its model was promoted; declined: its model "
            "is kept, and is not better than a baseline or than the model that serves"
        ),
    ] = "off"
    stage: Annotated[str, Meta(description="what is done now, while it runs")] = ""
    fraction: Annotated[float, Meta(description="of the stage, 0 to 1")] = 0.0
    since_ms: Annotated[int, Meta(description="when this, or the last one, began; 0: never")] = 0
    ended_ms: Annotated[int, Meta(description="when the last one ended; 0: never")] = 0
    message: Annotated[str, Meta(description="the missing data, the outcome, or the cause of a failure")] = ""
    model: Annotated[str, Meta(description="name@version of what came of it")] = ""


class ModelVersion(Struct):
    """One version of a model."""

    name: str
    version: int
    fingerprint: Annotated[
        str, Meta(pattern="^[0-9a-f]{16}$", description="of its files, in hexadecimal; served pages are logged with it")
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
    evaluation: Annotated[
        ModelEvaluation | None, Meta(description="how it did beside baselines; null where that is not known")
    ] = None


class Promotion(Struct):
    """The model that ranks the feeds from now on."""

    model: Annotated[str, Meta(description="name@version")]


class ModelList(Struct):
    """Every version of every model in the registry."""

    models: list[ModelVersion]
    rollback: Annotated[
        str | None, Meta(description="name@version that `feedmesh model rollback` would promote; null: none")
    ]
    learning: LearningProgress


class MethodHealth(Struct):
    """One method over the last minute; calls and errors since the process started."""

    method: str
    qps: float
    p50_ms: float
    p99_ms: float
    errors: int
    calls: int


class ProcessExit(Struct):
    """How a process ended, as its supervisor saw it."""

    at_ms: int
    why: Annotated[str, Meta(description="its exit code, the signal that killed it, or that it gave no answer")]
    log: Annotated[str, Meta(description="the last line of its log that says what failed, or else the last one")]


class ProcessHealth(Struct):
    """One process: sums over its methods, and the percentiles of the method called most in the last minute."""

    service: str
    shard: int
    replica: Annotated[int, Meta(description="which of the processes of its shard")]
    zone: str
    address: str
    ready: bool
    why: str
    pid: int | None
    uptime_s: float
    rss_bytes: int
    peak_rss_bytes: int
    behind: Annotated[int, Meta(description="events of the log that this view has not applied")]
    behind_records: Annotated[int, Meta(description="records of the log that hold them, at most")]
    behind_s: Annotated[float, Meta(description="the age of the oldest of them in seconds")]
    qps: float
    p50_ms: float
    p99_ms: float
    errors: int
    calls: int
    methods: list[MethodHealth]
    gauges: dict[str, float]
    restarts: Annotated[int, Meta(description="how often the supervisor started it again")]
    exits: Annotated[list[ProcessExit], Meta(description="its latest exits, the newest first, at most 5")]
    effect: Annotated[str, Meta(description="what readers miss while it is not ready; empty while it is")]


class ViewHealth(Struct):
    """How long probes took to be readable in a view."""

    view: str
    last_ms: float
    p50_ms: float
    p99_ms: float
    samples: int
    lost: int


class HealthReport(Struct):
    """Every process, and how fresh the views are."""

    ready: bool
    processes: Annotated[list[ProcessHealth], Meta(description="those that are not ready first")]
    freshness: list[ViewHealth]
    loading: Annotated[str, Meta(description="what the mesh does before there is anything to show; empty: nothing")]


class Problem(Struct):
    """One thing that was wrong."""

    status: Annotated[str, Meta(description="the name of a gRPC status, such as INVALID_ARGUMENT")]
    message: Annotated[str, Meta(description="what was wrong, and what is allowed or can be done")]


class Failure(Struct, kw_only=True):
    """Every answer that is no success: application/problem+json, as RFC 9457 has it, and `error` beside it."""

    type: Annotated[str, Meta(description="about:blank: what `title` and `status` say is all there is to it")]
    title: Annotated[str, Meta(description="the HTTP status in words")]
    status: Annotated[int, Meta(description="the HTTP status")]
    detail: Annotated[str, Meta(description="what was wrong, and what is allowed or can be done")]
    instance: Annotated[
        str | UnsetType, Meta(description="the request, under whose id the log of the server says more")
    ] = UNSET
    error: Problem
