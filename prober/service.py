"""RPCs of prober."""

from typing import Any

from prober.prober import Prober
from protos import prober_pb2 as pb
from protos import prober_pb2_grpc as rpc


class ProberService(rpc.ProberServicer):
    """Translates between the wire and what was measured."""

    def __init__(self, prober: Prober) -> None:
        self._prober = prober

    async def Freshness(self, request: pb.FreshnessRequest, context_: Any) -> pb.FreshnessReply:
        """The figures that the probes measured, by view."""
        return pb.FreshnessReply(
            views=[
                pb.ViewFreshness(
                    view=name, last_ms=f.last_ms, p50_ms=f.p50_ms, p99_ms=f.p99_ms, samples=f.samples, lost=f.lost
                )
                for name, f in sorted(self._prober.freshness().items())
            ]
        )
