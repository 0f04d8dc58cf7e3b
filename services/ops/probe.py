"""Asks every process of a mesh how it is, at once: what `feedmesh status`, the health page and the drills show."""

import asyncio
from dataclasses import dataclass
from typing import Any

from protos import status_pb2 as pb
from protos import status_pb2_grpc as rpc
from services.core.errors import MeshError
from services.rpc.channel import call, open_async
from services.rpc.mesh import Address, Mesh

TIMEOUT_S = 1.5


@dataclass(frozen=True, slots=True)
class Health:
    """Of one process: what it said, or why it said nothing."""

    of: Address
    status: pb.StatusReply | None
    why: str

    @property
    def ready(self) -> bool:
        """Whether it answers and is ready."""
        return self.status is not None and self.status.ready


class Probe:
    """Channels to the status service of every process. Make it on the event loop that uses it."""

    def __init__(self, mesh: Mesh, skip: tuple[str, ...] = ()) -> None:
        """`skip`: services without gRPC, or that ask themselves."""
        self._channels = [(p, open_async(p.address)) for p in mesh.processes if p.service not in skip]
        self._stubs: list[tuple[Address, Any]] = [(p, rpc.StatusStub(channel)) for p, channel in self._channels]

    async def ask(self, prometheus: bool = False) -> list[Health]:
        """The health of every process, in the order of the mesh."""
        return list(await asyncio.gather(*(self._ask(of, stub, prometheus) for of, stub in self._stubs)))

    async def _ask(self, of: Address, stub: Any, prometheus: bool) -> Health:
        request = pb.StatusRequest(prometheus=prometheus)
        try:
            status: pb.StatusReply = await call(stub.Get, request, TIMEOUT_S, of.service)
        except MeshError as error:
            return Health(of, None, str(error))
        return Health(of, status, status.why)

    async def close(self) -> None:
        """Close the channels."""
        await asyncio.gather(*(channel.close() for _, channel in self._channels))
