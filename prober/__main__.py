"""The entry point of prober: the clients of every view, the probes, and the RPC over what they measure."""

import asyncio

from prober.prober import Prober
from prober.service import ProberService
from prober.settings import Settings
from prober.views import questions
from protos.prober_pb2_grpc import add_ProberServicer_to_server
from roadrunner.client import RoadrunnerClient
from services.ops.process import open_process, run_entry_point, serve_on_asyncio
from services.rpc.server import AddServicer

PUBLISH_TIMEOUT_S = 1.0


def main() -> None:
    """Wire and serve."""
    process = open_process("prober")
    settings = process.settings(Settings)
    probing: list[asyncio.Task[None]] = []

    def wire() -> list[AddServicer]:
        roadrunner = RoadrunnerClient(process.mesh)

        async def publish(turn: int, at_ms: int) -> None:
            await roadrunner.probe(turn, at_ms, PUBLISH_TIMEOUT_S)

        prober = Prober(settings.every_s, publish, questions(process.mesh))
        probing.append(asyncio.create_task(prober.run()))
        service = ProberService(prober)
        return [lambda server: add_ProberServicer_to_server(service, server)]

    def drain() -> None:
        for task in probing:
            task.cancel()

    serve_on_asyncio(process, settings, wire, drain=drain)


if __name__ == "__main__":
    run_entry_point(main)
