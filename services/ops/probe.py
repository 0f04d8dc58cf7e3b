"""Asks all processes of a mesh for their health, in parallel, for `feedmesh status`, the health page and the drills."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from protos import status_pb2 as pb
from protos import status_pb2_grpc as rpc
from services.core.errors import MeshError
from services.rpc.channel import call, open_async
from services.rpc.membership import Address, Following, Members
from services.rpc.mesh import Mesh

TIMEOUT_S = 1.5


@dataclass(frozen=True, slots=True)
class Health:
    """Of one process: its answer, or why there is none."""

    of: Address
    status: pb.StatusReply | None
    why: str

    @property
    def ready(self) -> bool:
        """Whether it answers and is ready."""
        return self.status is not None and self.status.ready


class Probe:
    """Channels to the status service of every process, wherever the mesh has it now. Make it on the event loop that uses it."""

    def __init__(self, mesh: Mesh, asked: Callable[[Address], bool] = lambda of: True) -> None:
        """`asked`: whether a process is asked; all are, those of layouts that no client asks too."""
        self._wanted, self._following = asked, Following(mesh.membership)
        self._credentials = mesh.credentials
        self._version = self._credentials.version if self._credentials else 0
        self._asked: list[tuple[Address, grpc.aio.Channel]] = []
        self._open(self._following.members)

    def _open(self, members: Members) -> list[grpc.aio.Channel]:
        """Ask these from now on; the channels that are of no more use: all of them when there are other certificates."""
        before = {(of.address, of.service): channel for of, channel in self._asked}
        version = self._credentials.version if self._credentials else 0
        kept = before if version == self._version else {}
        self._version, self._asked = version, []
        for of in members.processes:
            if self._wanted(of):
                found = kept.pop((of.address, of.service), None)
                self._asked.append((of, found or open_async(of.address, of.service, self._credentials)))
        return list(before.values())

    async def ask(self, prometheus: bool = False) -> list[Health]:
        """The health of every process, in the order of the mesh."""
        news, credentials = self._following.news(), self._credentials
        if news is not None or (credentials and credentials.version != self._version):
            for left in self._open(self._following.members):
                await left.close(TIMEOUT_S)
        return list(await asyncio.gather(*(self._ask(of, channel, prometheus) for of, channel in self._asked)))

    async def _ask(self, of: Address, channel: grpc.aio.Channel, prometheus: bool) -> Health:
        stub: Any = rpc.StatusStub(channel)
        try:
            status: pb.StatusReply = await call(
                stub.Get, pb.StatusRequest(prometheus=prometheus), TIMEOUT_S, of.service
            )
        except MeshError as error:
            return Health(of, None, str(error))
        return Health(of, status, status.why)

    async def close(self) -> None:
        """Close the channels."""
        self._following.close()
        await asyncio.gather(*(channel.close() for _, channel in self._asked))


async def asked_once(mesh: Mesh) -> list[Health]:
    """How every process of a mesh is now."""
    probe = Probe(mesh)
    try:
        return await probe.ask()
    finally:
        await probe.close()
