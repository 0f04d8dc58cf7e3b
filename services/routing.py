"""Which process owns a key: partition by hash, shard by partition, channel by shard. One open channel a process."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar, cast

import grpc
import numpy as np

from services.channel import call, open_async
from services.columns import U64, Array
from services.local import LocalMesh, LocalStub
from services.mesh import Mesh
from services.together import Joining
from services.topics import partition_of, partition_of_one
from services.unix_client import UnixClient
from services.unix_socket import socket_path

Stub = TypeVar("Stub")
T = TypeVar("T")


class Shards(Generic[Stub]):
    """The shards of one service, for asyncio. Make it on the event loop that uses it."""

    def __init__(self, mesh: Mesh, service: str, stub: Callable[[grpc.aio.Channel], Stub]) -> None:
        self.service = service
        self._partitions = mesh.common.partitions
        self._channels: list[grpc.aio.Channel] = []
        self._unix: list[UnixClient | None] = []
        if isinstance(mesh, LocalMesh):
            self.stubs = [cast(Stub, LocalStub(mesh.servicers[service]))]
            return
        addresses = mesh.of(service)
        paths = [socket_path(mesh, process.address) for process in addresses]
        self._unix = [UnixClient(path) if path else None for path in paths]
        self._channels = [open_async(process.address) for process in addresses]
        self.stubs = [
            stub(cast(grpc.aio.Channel, Joining(channel, unix)))
            for channel, unix in zip(self._channels, self._unix, strict=True)
        ]
        self._shard_of = np.zeros(self._partitions, np.int64)
        for process in addresses:
            self._shard_of[list(mesh.partitions_of(process.shard, process.shards))] = process.shard

    def owner(self, key: int) -> Stub:
        """The shard of one key."""
        if len(self.stubs) == 1:
            return self.stubs[0]
        return self.stubs[int(self._shard_of[partition_of_one(key, self._partitions)])]

    def owners(self, keys: U64) -> list[tuple[Stub, Array]]:
        """The shards of these keys, and the rows (int64[m]) of the keys that each owns."""
        if len(self.stubs) == 1:
            return [(self.stubs[0], np.arange(len(keys)))]
        shard = self._shard_of[partition_of(keys, self._partitions)]
        return [(self.stubs[i], np.flatnonzero(shard == i)) for i in np.unique(shard).tolist()]

    async def each(self, keys: U64, ask: Callable[[Stub, U64, Array], Awaitable[T]]) -> list[tuple[Array, T]]:
        """Ask every owner of `keys` at once for its own: [(rows, answer)]."""
        owners = self.owners(keys)
        if len(owners) == 1:
            stub, rows = owners[0]
            return [(rows, await ask(stub, keys, rows))]
        answers = await asyncio.gather(*(ask(stub, keys[rows], rows) for stub, rows in owners))
        return [(rows, answer) for (_, rows), answer in zip(owners, answers, strict=True)]

    async def all(self, method: Callable[[Stub], Any], request: Any, timeout: float) -> list[Any]:
        """Ask every shard the same at once."""
        return list(await asyncio.gather(*(self.call(method(stub), request, timeout) for stub in self.stubs)))

    async def call(self, method: Any, request: Any, timeout: float) -> Any:
        """One unary call; errors name the service."""
        return await call(method, request, timeout, self.service)

    async def close(self) -> None:
        """Close the channels."""
        for unix in self._unix:
            if unix is not None:
                unix.close()
        await asyncio.gather(*(channel.close() for channel in self._channels))
