"""The port for probes that know no TLS: the same health, and nothing else."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos import roadrunner_pb2_grpc as rpc
from services.core.metrics import Metrics
from services.rpc import server as servers
from services.rpc.admission import AdmissionLimiter
from services.rpc.channel import open_async
from services.rpc.dispatch import Dispatcher
from services.rpc.server import ALIVE
from tests.services.certificates import credentials_of, store_of
from tests.services.unix_servers import AsyncServicer, Servicer

STATES = health_pb2.HealthCheckResponse


async def check(channel: grpc.aio.Channel, service: str = "") -> Any:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)).status


async def finished(answer: Any) -> None:
    """Of a server on asyncio it is to be awaited."""
    if answer is not None and asyncio.iscoroutine(answer):
        await answer


@pytest.mark.parametrize("aio", [False, True])
def test_it_answers_as_the_port_under_tls_does_and_serves_nothing_else(tmp_path: Path, aio: bool) -> None:
    store = store_of(tmp_path / "certs")
    own, asker = credentials_of(store, "roadrunner"), credentials_of(store, "operator")

    async def run() -> None:
        dispatcher = Dispatcher(Metrics("roadrunner", 0), AdmissionLimiter(10))
        made = AsyncServicer(lambda: None) if aio else Servicer(lambda: None)  # type: ignore[abstract]
        add = [lambda s: rpc.add_RoadrunnerServicer_to_server(made, s)]
        server: Any = servers.on_asyncio(dispatcher, add) if aio else servers.threaded(dispatcher, add, 2)
        health = servers.add_health(server, ["feedmesh.Roadrunner"])
        secured = f"127.0.0.1:{servers.bind(server, '127.0.0.1:0', own)}"
        probed, port = servers.health_alone(health, "127.0.0.1:0")
        for one in (server, probed):
            await finished(one.start())
        try:
            async with open_async(f"127.0.0.1:{port}") as plain, open_async(secured, "roadrunner", asker) as channel:
                assert [await check(plain), await check(plain, ALIVE)] == [STATES.NOT_SERVING, STATES.SERVING]
                servers.set_health(health, True)
                for _ in range(500):  # on asyncio it is set a moment later
                    if await check(channel) == STATES.SERVING:
                        break
                assert await check(plain) == STATES.SERVING
                call: Any = plain.unary_unary("/feedmesh.Roadrunner/Ends")
                with pytest.raises(grpc.aio.AioRpcError) as refusal:
                    await call(b"", timeout=5)
                assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED
            async with open_async(secured) as plain:
                with pytest.raises(grpc.aio.AioRpcError):
                    await check(plain)
        finally:
            for one in (probed, server):
                stopped = one.stop(None)
                if aio:
                    await stopped
                else:
                    await asyncio.to_thread(stopped.wait)

    asyncio.run(run())
