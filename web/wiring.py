"""Wires the operations to the clients of a mesh, on the running event loop."""

import asyncio
from typing import TYPE_CHECKING

from apiary.client import ApiaryClient
from feedgen.client import FeedgenClient
from roadrunner.client import RoadrunnerClient
from rockstore.client import RockstoreClient
from scorpion.client import ScorpionClient
from services.clock import wall_clock
from services.mesh import Address, Mesh
from services.probe import Probe
from services.process import Process
from services.status import Status
from web.events import Events
from web.feeds import Feeds
from web.health import Watch
from web.models import Models
from web.operations import Operation, operations
from web.pins import Pins
from web.users import Users

if TYPE_CHECKING:
    from web.__main__ import Settings  # the door itself runs under another name


class Clients:
    """Of every service that the edge asks. Make it on the event loop that uses it."""

    def __init__(self, mesh: Mesh) -> None:
        self.feedgen, self.door = FeedgenClient(mesh), RoadrunnerClient(mesh)
        self.graph, self.objects = ApiaryClient(mesh), RockstoreClient(mesh)
        self.scorpion, self.registry = ScorpionClient(mesh), mesh.data / "models"
        self.probe = Probe(mesh, skip=("web",))

    async def close(self) -> None:
        """Close all channels."""
        clients = (self.feedgen, self.door, self.graph, self.objects, self.scorpion, self.probe)
        await asyncio.gather(*(client.close() for client in clients))


def status_of(process: Process) -> Status:
    """What this process tells of itself: it holds no view, so it is never behind, and ready once it serves."""
    return Status(process.service, process.shard, process.metrics, lambda: "", lambda: 0)


def operations_of(clients: Clients, settings: "Settings", status: Status, address: Address) -> list[Operation]:
    """The API over these clients."""
    events = Events(
        clients.door,
        clients.objects,
        wall_clock,
        settings.max_body_mb << 20,
        settings.event_timeout_s,
        settings.quality_timeout_s,
    )
    return operations(
        Feeds(clients.feedgen, settings.feed_timeout_s),
        events,
        Users(clients.graph, clients.objects, settings.read_timeout_s),
        Pins(clients.objects, settings.read_timeout_s),
        Models(clients.scorpion, clients.registry, settings.read_timeout_s),
        Watch(clients.probe, status, address, clients.door),
    )
