"""How web is built: the operations over the clients of a mesh, as one application."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp

from apiary.client import ApiaryClient
from feedgen.client import FeedgenClient
from prober.client import ProberClient
from roadrunner.client import RoadrunnerClient
from rockstore.client import RockstoreClient
from scorpion.client import ScorpionClient
from services.core.clock import Clock
from services.core.metrics import Metrics
from services.ops.probe import Probe
from services.ops.status import Status
from services.ops.wiring import Runtime
from services.rpc.mesh import Address, Mesh
from web.app import Policy, application
from web.body import Bodies
from web.connections import Limits
from web.events import Events
from web.feeds import Feeds
from web.health import Watch
from web.ids import NUMBERS, Ids, Texts
from web.models import Models
from web.operations import Operation, operations
from web.origins import Origins
from web.pins import PinReader
from web.promotion import Promotions
from web.settings import Settings
from web.users import Users

BODY_SPARE_S = (
    5.0  # operations answer slow bodies in their own time; only a body that none reads comes to the connection's
)


class Clients:
    """Of every service that the edge asks. Make it on the event loop that uses it."""

    def __init__(self, mesh: Mesh, own: Address) -> None:
        """own: this process, which asks itself for its health without a call."""
        self.feedgen, self.roadrunner = FeedgenClient(mesh), RoadrunnerClient(mesh)
        self.graph, self.objects = ApiaryClient(mesh), RockstoreClient(mesh)
        self.scorpion, self.data = ScorpionClient(mesh), mesh.data
        self.text_ids = mesh.text_ids
        self.prober = ProberClient(mesh)
        self.probe = Probe(mesh, lambda of: of.asked and of.name != own.name)

    async def close(self) -> None:
        """Close all channels."""
        clients = (self.feedgen, self.roadrunner, self.graph, self.objects, self.scorpion, self.prober, self.probe)
        await asyncio.gather(*(client.close() for client in clients))


@dataclass(frozen=True, slots=True)
class Edge:
    """The application of some operations, built and not served; the limits of its connections; the status of its
    process; `http`: where it is to listen.
    """

    operations: Sequence[Operation]
    app: ASGIApp
    limits: Limits
    status: Status
    http: str
    close: Callable[[], Awaitable[None]]


def build(settings: Settings, runtime: Runtime) -> Edge:
    """The edge of a mesh. To be called on the event loop that serves it. Raises InvalidArgument."""
    mesh = runtime.mesh
    own = next(of for of in mesh.of(runtime.service) if (of.shard, of.replica) == (runtime.shard, runtime.replica))
    clients = Clients(mesh, own)
    # It holds no view, so it is never behind, and ready once it serves.
    status = Status(runtime.service, runtime.shard, runtime.metrics, lambda: "", replica=own.replica, zone=own.zone)
    policy = policy_of(settings, runtime.metrics, mesh.common.host)
    ids = ids_of(clients, settings, runtime.clock)
    api = operations_of(clients, settings, status, own, ids, runtime.clock)
    app = application(api, policy, text_ids=mesh.text_ids)
    return Edge(api, app, limits_of(settings), status, own.http, clients.close)


def policy_of(settings: Settings, metrics: Metrics, host: str) -> Policy:
    """The policy of every request, by the settings. `host`: the address that the mesh listens on. Raises InvalidArgument."""
    prefix = settings.path_prefix.strip("/")
    own = "" if host in ("0.0.0.0", "::", "") else host  # every address: no name
    origins = Origins(settings.allowed_hosts, settings.allowed_origins, own)
    return Policy(metrics, settings.max_requests, origins, f"/{prefix}" if prefix else "")


def limits_of(settings: Settings) -> Limits:
    """The limits of every connection, by the settings."""
    return Limits(
        head_timeout=settings.head_timeout_s,
        body_timeout=settings.event_timeout_s + BODY_SPARE_S,
        connections=settings.max_connections,
    )


def ids_of(clients: Clients, settings: Settings, clock: Clock) -> Ids:
    """How this deployment writes ids."""
    if clients.text_ids:
        return Texts(clients.objects, clock, settings.read_timeout_s, settings.ids_mb)
    return NUMBERS


def operations_of(
    clients: Clients, settings: Settings, status: Status, address: Address, ids: Ids, clock: Clock
) -> list[Operation]:
    """The API over these clients."""
    events = Events(
        clients.roadrunner,
        clock,
        Bodies(settings.max_body_mb << 20, settings.max_bodies_mb << 20),
        settings.event_timeout_s,
        ids,
    )
    return operations(
        Feeds(clients.feedgen, settings.feed_timeout_s, ids),
        events,
        Users(clients.graph, clients.objects, settings.read_timeout_s, ids),
        PinReader(clients.objects, settings.read_timeout_s, ids),
        Models(clients.scorpion, clients.data, settings.read_timeout_s),
        Promotions(clients.scorpion, clients.objects, clients.data, settings.promotion_timeout_s),
        Watch(clients.probe, status, address, clients.prober, clients.data),
    )
