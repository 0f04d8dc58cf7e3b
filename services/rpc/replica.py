"""One process of a service as its callers see it: by gRPC or its Unix socket, or a servicer of this very process."""

import asyncio
import inspect
from pathlib import Path
from typing import Any, Protocol

import grpc
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass

from protos.status_pb2 import StatusReply, StatusRequest
from services.core.errors import Unimplemented
from services.rpc.batching import BatchingChannel, Method, Peer
from services.rpc.channel import call, open_async
from services.rpc.credentials import Credentials
from services.rpc.local import LocalMesh
from services.rpc.membership import Address
from services.rpc.mesh import Mesh
from services.rpc.stream_client import StreamClient
from services.rpc.unix_client import UnixClient
from services.rpc.unix_socket import socket_path

STATUS, PROBE_S = "/feedmesh.Status/Get", 1.0


class Replica(Protocol):
    """A process that answers."""

    async def call(self, method: str, request: Any, timeout: float) -> Any:
        """One unary call within `timeout` seconds. Raises the MeshError of its status, naming the service."""
        ...

    async def is_ready(self) -> bool:
        """Whether it answers within PROBE_S that it is ready."""
        ...

    async def retire(self) -> None:
        """Close when the calls under way have ended."""
        ...

    async def close(self) -> None:
        """Close now."""
        ...


class ByPeer:
    """A channel to a process, and what takes messages to it if there is such a peer, with the calls under way."""

    def __init__(self, service: str, channel: grpc.aio.Channel, peer: Peer | None) -> None:
        self._service, self._channel, self.peer = service, channel, peer
        self._batching, self._methods = BatchingChannel(channel, peer), dict[str, Method]()
        self._status = channel.unary_unary(STATUS, StatusRequest.SerializeToString, StatusReply.FromString)
        self._under_way, self._idle = 0, asyncio.Event()

    async def call(self, method: str, request: Any, timeout: float) -> Any:
        """As Replica says."""
        found = self._methods.get(method) or self._add(method)
        self._under_way += 1
        try:
            return await call(found, request, timeout, self._service)
        finally:
            self._ended()

    async def is_ready(self) -> bool:
        """As Replica says."""
        self._under_way += 1
        try:
            status: StatusReply = await self._status(StatusRequest(), timeout=PROBE_S, wait_for_ready=False)
        except grpc.RpcError:
            return False
        finally:
            self._ended()
        return status.ready

    def _ended(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()

    def _add(self, name: str) -> Method:
        """A method of the service, as its .proto has it; the client that calls it has loaded that."""
        service = f"feedmesh.{self._service.capitalize()}"
        found = Default().FindServiceByName(service).methods_by_name.get(name)
        if found is None:
            raise Unimplemented(f"{service} has no method {name}")
        write, read = GetMessageClass(found.input_type).SerializeToString, GetMessageClass(found.output_type).FromString
        made = self._batching.unary_unary(f"/{service}/{name}", write, read, _registered_method=True)
        return self._methods.setdefault(name, made)

    async def retire(self) -> None:
        """As Replica says."""
        while self._under_way:
            self._idle.clear()
            await self._idle.wait()
        await self.close()

    async def close(self) -> None:
        """As Replica says."""
        if self.peer is not None:
            self.peer.close()
        await self._channel.close()


class RemoteReplica:
    """Another process. Make it on the event loop that uses it.

    A channel keeps the certificate that it was opened with, so it is opened anew when there is another one: calls under way
    end on the one before.
    """

    def __init__(
        self,
        service: str,
        address: str,
        socket: Path | None,
        streams: bool = False,
        credentials: Credentials | None = None,
    ) -> None:
        """socket: the process' Unix socket, where it has one (services/rpc/unix_socket.py); streams: whether it is asked by
        messages on streams where it has none; credentials: of the caller, None: there is no TLS.
        """
        self._to, self._socket, self._streams = (service, address), socket, streams
        self._credentials = credentials if credentials is not None and credentials.applies(address) else None
        self._left = dict[asyncio.Task[None], ByPeer]()  # that calls under way end on
        self._open()

    def _open(self) -> None:
        service, address = self._to
        self._version = self._credentials.version if self._credentials is not None else 0
        channel = open_async(address, service, self._credentials)
        peer: Peer | None = None
        if self._socket:
            peer = UnixClient(self._socket)
        elif self._streams:
            peer = StreamClient(channel)
        self._current = ByPeer(service, channel, peer)

    def _connection(self) -> ByPeer:
        """With the certificate of now."""
        if self._credentials is not None and self._credentials.version != self._version:
            left = asyncio.ensure_future(self._current.retire())
            self._left[left] = self._current
            left.add_done_callback(self._left.pop)
            self._open()
        return self._current

    @property
    def peer(self) -> Peer | None:
        """What its messages go through."""
        return self._current.peer

    async def call(self, method: str, request: Any, timeout: float) -> Any:
        """As Replica says."""
        return await self._connection().call(method, request, timeout)

    async def is_ready(self) -> bool:
        """As Replica says."""
        return await self._connection().is_ready()

    async def retire(self) -> None:
        """As Replica says."""
        await asyncio.gather(self._current.retire(), *self._left)

    async def close(self) -> None:
        """As Replica says."""
        for left in list(self._left):
            left.cancel()
        await asyncio.gather(*(one.close() for one in (*self._left.values(), self._current)))


class LocalReplica:
    """A servicer of this process."""

    def __init__(self, servicer: Any) -> None:
        self._servicer = servicer

    async def call(self, method: str, request: Any, timeout: float) -> Any:
        """As Replica says; a servicer takes the time that it takes."""
        answered = getattr(self._servicer, method)(request, None)
        return await answered if inspect.isawaitable(answered) else answered

    async def is_ready(self) -> bool:
        """As Replica says."""
        return True

    async def retire(self) -> None:
        """As Replica says."""

    async def close(self) -> None:
        """As Replica says."""


def open_replica(mesh: Mesh, process: Address) -> Replica:
    """A process of a mesh."""
    if isinstance(mesh, LocalMesh):
        return LocalReplica(mesh.servicers[process.service])
    socket = socket_path(mesh, process.address)
    return RemoteReplica(process.service, process.address, socket, mesh.common.streams, mesh.credentials)
