"""Real gRPC servers that stand for the replicas of a shard, and do what a test says."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from protos import roadrunner_pb2 as pb
from protos import roadrunner_pb2_grpc as rpc
from protos import status_pb2_grpc
from services.core.metrics import Metrics
from services.core.settings import MeshSettings
from services.ops.status import Status
from services.rpc import mesh as meshes
from services.rpc import server as servers
from services.rpc.admission import AdmissionLimiter
from services.rpc.caller import Caller
from services.rpc.dispatch import Dispatcher, WaitForToken
from services.rpc.membership import Address, MemoryMembership
from services.rpc.mesh import Mesh
from services.rpc.stream_server import Streams


class Servicer(rpc.RoadrunnerServicer):
    """Answers `Ends`, which may be repeated, and `Probe`, which may not."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self._answer = answer

    def Ends(self, request: pb.EndsRequest, context: Any) -> pb.EndsReply:
        self._answer()
        return pb.EndsReply()

    def Probe(self, request: pb.ProbeRequest, context: Any) -> pb.PublishReply:
        self._answer()
        return pb.PublishReply()


class Server:
    """One replica. It can be stopped, and started again at the same address."""

    def __init__(self, answer: Callable[[], Any] = lambda: None, wait: WaitForToken | None = None) -> None:
        self._answer, self._wait = answer, wait
        self.calls, self.why = 0, ""
        self.address = "127.0.0.1:0"
        self._server: Any = None
        self.start()

    def start(self) -> None:
        metrics = Metrics("roadrunner", 0)
        status = Status("roadrunner", 0, metrics, lambda: self.why)
        add: list[Callable[[Any], None]] = [
            lambda s: rpc.add_RoadrunnerServicer_to_server(Servicer(self._count), s),  # type: ignore[abstract]
            lambda s: status_pb2_grpc.add_StatusServicer_to_server(status, s),
        ]
        dispatcher = Dispatcher(metrics, AdmissionLimiter(100), self._wait)
        self._streams = Streams(dispatcher, 16)
        self._server = servers.threaded(dispatcher, add, 16, streams=self._streams)
        self.address = f"127.0.0.1:{servers.bind(self._server, self.address)}"
        self._server.start()

    def _count(self) -> None:
        self.calls += 1
        self._answer()

    def stop(self) -> None:
        if self._server is not None:
            self._streams.stop()
            self._server.stop(None).wait()
            self._server = None


@contextmanager
def serving(*made: Server) -> Iterator[None]:
    try:
        yield
    finally:
        for server in made:
            server.stop()


def replicas(*addresses: str, zones: tuple[str, ...] = ("local",)) -> list[Address]:
    return [
        Address(service="roadrunner", shard=0, shards=1, address=at, replica=i, zone=zones[i % len(zones)])
        for i, at in enumerate(addresses)
    ]


def mesh_of(processes: list[Address], caller: Caller | None = None) -> tuple[Mesh, MemoryMembership]:
    """A mesh that was described so, whose processes are asked by gRPC, and how that changes."""
    mesh = meshes.resolve({"mesh": MeshSettings(partitions=4, unix_sockets=False)}, [])
    membership = MemoryMembership(processes)
    mesh.follow(membership)
    if caller:
        mesh.call_as(caller)
    return mesh, membership
