"""How others publish events. The log is read through `services/log/`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from protos import roadrunner_pb2 as pb
from protos import roadrunner_pb2_grpc
from services.core.events import Batch
from services.rpc import mesh as meshes
from services.rpc.channel import mesh_errors, open_sync, terms
from services.rpc.mesh import Mesh
from services.rpc.routing import ReplicaSet

NAME = "roadrunner"
ONLY = 0  # its one shard


@dataclass(frozen=True, slots=True)
class Published:
    """Events accepted, events that had been accepted before, and the token that makes a read see them."""

    accepted: int
    duplicates: int
    token: bytes


def _published(reply: pb.PublishReply) -> Published:
    return Published(reply.accepted, reply.duplicates, reply.token)


class RoadrunnerClient:
    """For asyncio."""

    def __init__(self, mesh: Mesh) -> None:
        self._replicas = ReplicaSet(mesh, NAME)

    async def publish(self, batch: Batch, timeout: float) -> Published:
        """Publish within `timeout` seconds; returns once it is on disk. Raises the errors of the ingest API."""
        request = pb.PublishRequest(batch=batch.to_proto())
        return _published(await self._replicas.call(ONLY, "Publish", request, timeout))

    async def probe(self, turn: int, at_ms: int, timeout: float) -> None:
        """Append the freshness probe of a turn; returns once it is on disk."""
        await self._replicas.call(ONLY, "Probe", pb.ProbeRequest(turn=turn, at_ms=at_ms), timeout)

    async def close(self) -> None:
        """Close the channel."""
        await self._replicas.close()


class Publisher:
    """For threads: bulk loads and commands."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub: Any = roadrunner_pb2_grpc.RoadrunnerStub(channel)

    def publish(self, batch: Batch, timeout: float) -> Published:
        """Publish within `timeout` seconds; returns once it is on disk. Raises the errors of the ingest API."""
        with mesh_errors(NAME):
            return _published(self._stub.Publish(pb.PublishRequest(batch=batch.to_proto()), **terms(timeout)))


@contextmanager
def open_publisher(data: Path) -> Iterator[Publisher]:
    """A publisher to the mesh that runs on a data folder. Raises NotFound when none does."""
    mesh = meshes.load(meshes.mesh_file(data))
    with open_sync(mesh.of(NAME)[0].address) as channel:
        yield Publisher(channel)
