"""Which process owns a key: partition by hash, shard by partition, channel by shard. One open channel a process."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import grpc
import numpy as np

from services.core.columns import U64, Array
from services.core.topics import partition_of, partition_of_one
from services.rpc.channel import call, open_async
from services.rpc.local import LocalMesh, LocalStub
from services.rpc.mesh import Mesh
from services.rpc.together import Joining
from services.rpc.unix_client import UnixClient
from services.rpc.unix_socket import socket_path

T = TypeVar("T")


class ReplicaSet:
    """The shards of one service, for asyncio. Make it on the event loop that uses it.

    Callers name a shard and a method. Which process answers, and by which channel, is decided here alone.
    """

    def __init__(self, mesh: Mesh, service: str, stub: Callable[[grpc.aio.Channel], Any]) -> None:
        """stub: the service's, as generated."""
        self.service = service
        self._partitions = mesh.common.partitions
        self._channels: list[grpc.aio.Channel] = []
        self._unix: list[UnixClient | None] = []
        if isinstance(mesh, LocalMesh):
            self._stubs: list[Any] = [LocalStub(mesh.servicers[service])]
            return
        addresses = mesh.of(service)
        paths = [socket_path(mesh, process.address) for process in addresses]
        self._unix = [UnixClient(path) if path else None for path in paths]
        self._channels = [open_async(process.address) for process in addresses]
        self._stubs = [
            stub(cast(grpc.aio.Channel, Joining(channel, unix)))
            for channel, unix in zip(self._channels, self._unix, strict=True)
        ]
        self._shard_of = np.zeros(self._partitions, np.int64)
        for process in addresses:
            self._shard_of[list(mesh.partitions_of(process.shard, process.shards))] = process.shard

    def shard_of(self, key: int) -> int:
        """The shard that owns a key."""
        return 0 if len(self._stubs) == 1 else int(self._shard_of[partition_of_one(key, self._partitions)])

    def shards_of(self, keys: U64) -> list[tuple[int, Array]]:
        """The shards that own these keys, and the rows (int64[m]) of the keys that each owns."""
        if len(self._stubs) == 1:
            return [(0, np.arange(len(keys)))]
        shard = self._shard_of[partition_of(keys, self._partitions)]
        return [(of, np.flatnonzero(shard == of)) for of in np.unique(shard).tolist()]

    async def call(self, shard: int, method: str, request: Any, timeout: float) -> Any:
        """One unary call of a shard, within `timeout` seconds. Raises the MeshError of its status, naming the service."""
        return await call(getattr(self._stubs[shard], method), request, timeout, self.service)

    async def each(self, keys: U64, ask: Callable[[int, U64, Array], Awaitable[T]]) -> list[tuple[Array, T]]:
        """Ask every owner of `keys` at once for its own: [(rows, answer)]."""
        owners = self.shards_of(keys)
        if len(owners) == 1:
            shard, rows = owners[0]
            return [(rows, await ask(shard, keys, rows))]
        answers = await asyncio.gather(*(ask(shard, keys[rows], rows) for shard, rows in owners))
        return [(rows, answer) for (_, rows), answer in zip(owners, answers, strict=True)]

    async def all(self, method: str, request: Any, timeout: float) -> list[Any]:
        """Ask every shard the same at once."""
        shards = range(len(self._stubs))
        return list(await asyncio.gather(*(self.call(shard, method, request, timeout) for shard in shards)))

    async def close(self) -> None:
        """Close the channels."""
        for unix in self._unix:
            if unix is not None:
                unix.close()
        await asyncio.gather(*(channel.close() for channel in self._channels))
