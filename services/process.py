"""A process of the mesh: its arguments, its logging, serving until SIGTERM, and draining then.

A process that its supervisor started holds a pipe from it on standard input: when that closes, however the supervisor
died, the process drains too, so nothing is left running.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil
import uvloop

from protos import status_pb2_grpc
from services import mesh as meshes
from services import server as servers
from services.errors import MeshError
from services.follower import Follower
from services.memory import GIVE_BACK_EVERY_S, give_back, settle_memory
from services.mesh import Mesh
from services.metrics import Metrics
from services.server import AddServicer, AsyncGate, Gate
from services.settings import ServiceSettings, ShardSettings, ThreadedSettings
from services.shard import Shard
from services.status import Status
from services.unix_server import AsyncUnixServer, ThreadedUnixServer
from services.unix_socket import socket_path

logger = logging.getLogger(__name__)
READY_POLL_S = 0.1
S = TypeVar("S", bound=ServiceSettings)


@dataclass(frozen=True, slots=True)
class Process:
    """One process: which service and shard of which mesh it is."""

    service: str
    shard: int
    shards: int
    address: str
    mesh: Mesh
    metrics: Metrics

    @property
    def partitions(self) -> range:
        """The partitions it owns."""
        return self.mesh.partitions_of(self.shard, self.shards)

    @property
    def folder(self) -> Path:
        """Where it keeps its state; another number of shards is another layout, and re-reads the log."""
        return self.mesh.data / self.service / f"{self.shard}of{self.shards}"

    def settings(self, struct: type[S]) -> S:
        """Its section of the settings."""
        return self.mesh.section(self.service, struct)

    def no_room(self) -> str:
        """Why there is not enough room on its disk; empty when there is."""
        free, least = psutil.disk_usage(str(self.folder)).free >> 20, self.mesh.common.min_free_mb
        return f"disk nearly full: {free} MB free at {self.folder}, {least} MB are kept free" if free < least else ""


def open_shard(process: Process, form: str, families: Iterable[str], settings: ShardSettings) -> Shard:
    """The shard of a stateful process: of the layout's format and the deployment's number of partitions."""
    form = f"{form}, {process.mesh.common.partitions} partitions"
    return Shard(process.folder, form, families, settings.cache_mb, settings.memtable_mb)


def open_process(service: str) -> Process:
    """Read the command line of a service's door."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {service}",
        description=f"One process of Feedmesh's {service}. `feedmesh up` starts the whole mesh.",
        epilog=f"example: python -m {service} --mesh data/run/mesh.json --shard 0",
    )
    parser.add_argument(
        "--mesh", type=Path, required=True, help="the file that describes the mesh (see services/mesh.py)"
    )
    parser.add_argument("--shard", type=int, default=0, help="which shard of the service this process is")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    mesh = meshes.load(arguments.mesh)
    mine = next((p for p in mesh.of(service) if p.shard == arguments.shard), None)
    if mine is None:
        parser.error(f"--shard {arguments.shard}: {service} has shards 0 to {len(mesh.of(service)) - 1}")
    return Process(service, mine.shard, mine.shards, mine.address, mesh, Metrics(service, mine.shard))


def run_door(main: Callable[[], None]) -> None:
    """Run a door; an error of the mesh ends it with its message, not with a traceback."""
    try:
        main()
    except MeshError as error:
        sys.exit(f"error: {error}")


class Stop:
    """Set by SIGTERM, SIGINT, or the end of the supervisor."""

    def __init__(self) -> None:
        self.event = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.event.set())
        if os.environ.get("FEEDMESH_SUPERVISED"):
            threading.Thread(target=self._watch_supervisor, daemon=True).start()

    def _watch_supervisor(self) -> None:
        while os.read(0, 1024):
            pass
        self.event.set()


def serve(
    process: Process,
    settings: ThreadedSettings,
    servicers: list[AddServicer],
    follower: Follower | None = None,
    why_not_ready: Callable[[], str] = lambda: "",
    dead: Callable[[], bool] = lambda: False,
    drain: Callable[[], None] = lambda: None,
    close: Callable[[], None] = lambda: None,
) -> None:
    """Serve from threads until told to stop; then refuse new requests, `drain`, finish those under way, and `close`.

    `dead`: whether the state can't be written until it is opened again; then it ends by itself once the disk has room,
    and its supervisor starts it anew. Until then it answers reads. A follower knows this and `why_not_ready` itself.
    """
    stop = Stop()
    dead = follower.dead if follower else dead
    why = follower.why_not_ready if follower else why_not_ready
    behind = follower.behind if follower else (lambda: 0)
    status = Status(process.service, process.shard, process.metrics, why, behind)
    add = [*servicers, lambda server: status_pb2_grpc.add_StatusServicer_to_server(status, server)]
    wait = follower.wait if follower else None
    gate = Gate(process.metrics, wait)
    server = servers.threaded(gate, add, settings.threads, settings.max_requests)
    health = servers.add_health(server, [f"feedmesh.{process.service.capitalize()}", "feedmesh.Status"])
    servers.bind(server, process.address)
    settle_memory()
    server.start()
    path = socket_path(process.mesh, process.address)
    unix = ThreadedUnixServer(path, gate.answers, settings.threads, settings.max_requests) if path else None
    if follower:
        follower.start()
    _report_ready(process, health, why, dead, stop.event)
    health.enter_graceful_shutdown()
    drain()
    stopped = server.stop(process.mesh.common.drain_s)
    if unix:
        unix.stop(process.mesh.common.drain_s)
    stopped.wait()
    if follower:
        follower.stop()
    close()
    logger.info("drained")


def _report_ready(
    process: Process, health: servers.Health, why: Callable[[], str], dead: Callable[[], bool], stop: threading.Event
) -> None:
    """Until told to stop, or dead with room to start again: tell the probes and the log whether it is ready, and give
    memory back that is free.
    """
    ready, gave_back = None, time.monotonic()
    while not stop.wait(READY_POLL_S if not ready else 1.0):
        if time.monotonic() - gave_back > GIVE_BACK_EVERY_S:
            give_back()
            gave_back = time.monotonic()
        reason = why()
        if (not reason) != ready:
            ready = not reason
            servers.set_health(health, ready)
            logger.info("%s %d at %s is %s", process.service, process.shard, process.address, reason or "ready")
        if dead() and not process.no_room():
            logger.error("no more writes are taken since one failed, and the disk has room: ending to start again")
            return


def serve_on_asyncio(
    process: Process,
    settings: ServiceSettings,
    wire: Callable[[], list[AddServicer]],
    why_not_ready: Callable[[], str] = lambda: "",
    dead: Callable[[], bool] = lambda: False,
    drain: Callable[[], None] = lambda: None,
    close: Callable[[], None] = lambda: None,
) -> None:
    """Serve on uvloop until told to stop, under the same law as `serve`.

    `wire` is called on the loop and makes the servicers with their clients.
    """

    async def main() -> None:
        stop, loop = Stop(), asyncio.get_running_loop()
        status = Status(process.service, process.shard, process.metrics, why_not_ready, lambda: 0)
        add = [*wire(), lambda server: status_pb2_grpc.add_StatusServicer_to_server(status, server)]
        gate = AsyncGate(process.metrics)
        server = servers.on_asyncio(gate, add, settings.max_requests)
        health = servers.add_health(server, [f"feedmesh.{process.service.capitalize()}", "feedmesh.Status"])
        servers.bind(server, process.address)
        settle_memory()
        await server.start()
        path = socket_path(process.mesh, process.address)
        unix = AsyncUnixServer(path, gate.answers, settings.max_requests) if path else None
        if unix:
            await unix.start()
        await loop.run_in_executor(None, _report_ready, process, health, why_not_ready, dead, stop.event)
        health.enter_graceful_shutdown()
        drain()
        stopping = [server.stop(process.mesh.common.drain_s)]
        if unix:
            stopping.append(unix.stop(process.mesh.common.drain_s))
        await asyncio.gather(*stopping)
        close()
        logger.info("drained")

    uvloop.run(main())
