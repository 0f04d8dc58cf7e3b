"""Serves HTTP by uvicorn and, beside it on the same loop, gRPC health and status, until a signal stops it."""

import asyncio
import logging
import math
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

from starlette.types import ASGIApp
from uvicorn import Config, Server

from protos import status_pb2_grpc
from services.core.errors import Unavailable
from services.core.settings import ServiceSettings
from services.ops.memory import settle_memory
from services.ops.process import Process, Stop
from services.ops.status import Status
from services.rpc import server as servers
from services.rpc.admission import AdmissionLimiter
from services.rpc.dispatch import Dispatcher
from services.rpc.mesh import listening, probed_at
from web.connections import EdgeProtocol, Limits

logger = logging.getLogger(__name__)
BACKLOG = 1024
KEEP_ALIVE_S = 75  # longer than proxies keep an idle connection (nginx: 60 s), or a POST may meet its end


class HttpServer(Server):
    """uvicorn that reports when it listens, and leaves signals to the process."""

    def __init__(self, config: Config, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and report it."""
        await super().startup(sockets)
        self._listening()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def listen(address: str, held: bool = False) -> socket.socket:
    """A socket bound to host:port, `held` for it or not (services/ops/ports.py). Raises Unavailable when it is in use."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if held:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, int(port)))
    except OSError as error:
        listener.close()
        raise Unavailable(f"cannot listen on {address}: {error.strerror}; choose another [web] http_port") from None
    return listener


def http_server(
    app: ASGIApp, limits: Limits, drain_s: float, listening: Callable[[], None] = lambda: None
) -> HttpServer:
    """uvicorn for an application, not started; it finishes requests within `drain_s` seconds at the end."""
    config = Config(
        app,
        http=cast(Any, partial(EdgeProtocol, limits=limits)),  # only ever called
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # no code here needs the caller's address
        # A large body pauses reading and its request resumes it: asyncio then reads in that request's context, and without
        # this all later requests of the connection would have its deadline.
        reset_contextvars=True,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(drain_s),
    )
    return HttpServer(config, listening)


async def serve(
    process: Process, settings: ServiceSettings, status: Status, served: tuple[ASGIApp, Limits], address: str
) -> None:
    """Serve an application within its limits at `address`, and gRPC at the process's own, until the process ends."""
    stop, loop, drain_s = Stop(), asyncio.get_running_loop(), process.mesh.common.drain_s
    grpc_server = servers.on_asyncio(
        Dispatcher(process.metrics, AdmissionLimiter(settings.max_requests), at_once=True),
        [lambda server: status_pb2_grpc.add_StatusServicer_to_server(status, server)],
        held=process.address in process.held,
    )
    health = servers.add_health(grpc_server, ["feedmesh.Status"])
    servers.bind(grpc_server, listening(process.mesh, process.address), process.mesh.credentials)
    probed = servers.health_alone(health, at)[0] if (at := probed_at(process.mesh)) else None
    listener = listen(listening(process.mesh, address), held=address in process.held)

    def ready() -> None:
        servers.set_health(health, True)
        logger.info("web at http://%s:%d is ready", *listener.getsockname()[:2])

    http = http_server(*served, drain_s, ready)
    settle_memory()
    await grpc_server.start()
    if probed:
        await probed.start()
    serving = asyncio.create_task(http.serve(sockets=[listener]))
    serving.add_done_callback(lambda _: stop.event.set())  # whatever ended it, the process does not stay without it
    await loop.run_in_executor(None, stop.event.wait)
    health.enter_graceful_shutdown()
    http.should_exit = True
    await serving
    await grpc_server.stop(drain_s)
    if probed:
        await probed.stop(None)
    logger.info("drained")
