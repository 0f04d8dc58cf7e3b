"""How others ask how fresh the views are."""

from dataclasses import dataclass

from protos import prober_pb2 as pb
from services.rpc.mesh import Mesh
from services.rpc.routing import ReplicaSet

NAME = "prober"
ONLY = 0  # its one shard


@dataclass(frozen=True, slots=True)
class ViewFreshness:
    """How long probes took to be readable in a view: milliseconds; `lost` were not within 10 s."""

    view: str
    last_ms: float
    p50_ms: float
    p99_ms: float
    samples: int
    lost: int


class ProberClient:
    """For asyncio."""

    def __init__(self, mesh: Mesh) -> None:
        self._replicas = ReplicaSet(mesh, NAME)

    async def freshness(self, timeout: float) -> list[ViewFreshness]:
        """The figures that the probes measured, by view."""
        reply = await self._replicas.call(ONLY, "Freshness", pb.FreshnessRequest(), timeout)
        return [ViewFreshness(v.view, v.last_ms, v.p50_ms, v.p99_ms, v.samples, v.lost) for v in reply.views]

    async def close(self) -> None:
        """Close the channel."""
        await self._replicas.close()
