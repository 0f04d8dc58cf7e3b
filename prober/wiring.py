"""How prober is built: the clients of every view, the probes, and the RPC over what they measure."""

from prober.prober import Prober
from prober.service import ProberService
from prober.settings import Settings
from prober.views import questions
from protos.prober_pb2_grpc import add_ProberServicer_to_server
from roadrunner.client import RoadrunnerClient
from services.ops.wiring import AsyncParts, Runtime

PUBLISH_TIMEOUT_S = 1.0


def build(settings: Settings, runtime: Runtime) -> AsyncParts:
    """Prober. To be called on the event loop that serves it."""
    roadrunner = RoadrunnerClient(runtime.mesh)

    async def publish(turn: int, at_ms: int) -> None:
        await roadrunner.probe(turn, at_ms, PUBLISH_TIMEOUT_S)

    prober = Prober(settings.every_s, publish, questions(runtime.mesh))
    return AsyncParts(ProberService(prober), add_ProberServicer_to_server, start=(prober.start,), drain=(prober.stop,))
