"""How others publish events. The log is read through `services/log/`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from protos import roadrunner_pb2 as pb
from services.core.events import Batch
from services.rpc import mesh as meshes
from services.rpc.bridge import Bridge
from services.rpc.mesh import Mesh
from services.rpc.routing import ReplicaSet

NAME = "roadrunner"
ONLY = 0  # its one shard
SPARE_S = 1.0  # for the error of a call whose time is over
CLOSE_S = 10.0


@dataclass(frozen=True, slots=True)
class PublishAnswer:
    """Events accepted, events that had been accepted before, and the token that makes a read see them.

    duplicates: None where the log is on Kafka: then `accepted` counts them too, and they are dropped later.
    """

    accepted: int
    duplicates: int | None
    token: bytes


def _published(reply: pb.PublishReply) -> PublishAnswer:
    return PublishAnswer(reply.accepted, reply.duplicates if reply.HasField("duplicates") else None, reply.token)


class RoadrunnerClient:
    """For asyncio."""

    def __init__(self, mesh: Mesh) -> None:
        self._replicas = ReplicaSet(mesh, NAME)

    async def publish(self, batch: Batch, timeout: float) -> PublishAnswer:
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
    """For threads: bulk loads and commands. Thread-safe."""

    def __init__(self, mesh: Mesh) -> None:
        """Raises NotFound when the mesh has no ingest API."""
        self._bridge = Bridge()
        try:
            self._client = self._bridge.make(lambda: RoadrunnerClient(mesh))
        except BaseException:
            self._bridge.close()
            raise

    def publish(self, batch: Batch, timeout: float) -> PublishAnswer:
        """Publish within `timeout` seconds; returns once it is on disk. Raises the errors of the ingest API."""
        return self._bridge.run(self._client.publish(batch, timeout), timeout + SPARE_S)

    def close(self) -> None:
        """Close the channel."""
        self._bridge.run(self._client.close(), CLOSE_S)
        self._bridge.close()


@contextmanager
def open_publisher(data: Path) -> Iterator[Publisher]:
    """A publisher to the mesh that runs on a data folder. Raises NotFound when none does."""
    publisher = Publisher(meshes.load(meshes.mesh_file(data)))
    try:
        yield publisher
    finally:
        publisher.close()
