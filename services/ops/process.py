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
from functools import partial
from pathlib import Path
from typing import TypeVar

import psutil
import uvloop

from protos import status_pb2_grpc
from services.blob.opening import open_blobs
from services.blob.protocol import Blobs
from services.core import context
from services.core.clock import Clock, wall_clock
from services.core.errors import MeshError
from services.core.metrics import Metrics
from services.core.settings import ServiceSettings, ShardSettings, ThreadedSettings
from services.log.protocol import Reader
from services.log.reading import open_reader
from services.ops.filling import fill
from services.ops.memory import GIVE_BACK_EVERY_S, give_back, settle_memory
from services.ops.status import SUPERVISED, Status
from services.ops.wiring import AsyncParts, Follows, Parts, Runtime
from services.rpc import mesh as meshes
from services.rpc import server as servers
from services.rpc.admission import AdmissionLimiter
from services.rpc.caller import Caller
from services.rpc.dispatch import Dispatcher, ignored
from services.rpc.mesh import Address, Mesh, listening, probed_at
from services.rpc.server import AddServicer
from services.rpc.stream_server import Streams
from services.rpc.unix_server import AsyncUnixServer, ThreadedUnixServer
from services.rpc.unix_socket import socket_path
from services.state.follower import Follower, Lag
from services.state.manifest import Snapshots
from services.state.options import Tuning
from services.state.restore import Wanted
from services.state.scrub import Scrubber, Values
from services.state.shard import Shard, open_or_rebuild, set_aside, with_offsets
from services.state.snapshot import Taker
from services.state.snapshotter import Snapshotter
from services.state.stored import remedy

logger = logging.getLogger(__name__)
READY_POLL_S = 0.1
_opened: list[Shard] = []  # by this process
S = TypeVar("S", bound=ServiceSettings)
T = TypeVar("T", bound=ThreadedSettings)


@dataclass(frozen=True, slots=True)
class Process:
    """One process: which service, shard and replica of which mesh it is."""

    service: str
    shard: int
    shards: int
    address: str
    mesh: Mesh
    metrics: Metrics
    held: tuple[str, ...] = ()  # those of its addresses whose ports are held for it
    replica: int = 0
    zone: str = ""

    @property
    def of(self) -> Address:
        """It as the mesh describes it."""
        return Address(
            service=self.service,
            shard=self.shard,
            shards=self.shards,
            address=self.address,
            replica=self.replica,
            zone=self.zone,
        )

    @property
    def partitions(self) -> range:
        """The partitions it owns."""
        return self.mesh.partitions_of(self.shard, self.shards)

    @property
    def folder(self) -> Path:
        """Where it keeps its state; another number of shards is another layout, and re-reads the log."""
        return self.mesh.data / self.service / self.of.folder

    @property
    def clock(self) -> Clock:
        """The time of this machine."""
        return wall_clock

    @property
    def blobs(self) -> Blobs:
        """The mesh's."""
        return open_blobs(self.mesh)

    def settings(self, struct: type[S]) -> S:
        """Its section of the settings."""
        return self.mesh.section(self.service, struct)

    def open_shard(self, form: str, families: Iterable[str], settings: ShardSettings) -> Shard:
        """The state of a view, in this format: its folder, or a snapshot where that is empty. A damaged one is set aside."""
        folder, form = self.folder, f"{form}, {self.mesh.common.partitions} partitions"
        self.metrics.gauge("damaged_folders", lambda: float(len(set_aside(folder))))
        wanted = Wanted(self.service, form, tuple(families), self.shard, self.shards, self.partitions)
        filled = partial(fill, self.mesh, wanted)
        kept = settings.cache_mb, settings.memtable_mb, filled, Tuning(settings.compaction_threads)
        shard = open_or_rebuild(folder, form, wanted.families, *kept)
        _opened.append(shard)
        return shard

    def open_reader(self) -> Reader:
        """A reader of the mesh's log."""
        return open_reader(self.mesh)

    @property
    def disk(self) -> str:
        """A folder on the disk where it keeps its state."""
        return str(self.folder if self.folder.exists() else self.mesh.data)

    def no_space(self) -> str:
        """Why its disk has too little space; empty when it has enough."""
        free, least = psutil.disk_usage(self.disk).free >> 20, self.mesh.common.min_free_mb
        return f"disk nearly full: {free} MB free at {self.folder}, {least} MB are kept free" if free < least else ""


def open_process(service: str) -> Process:
    """Read the command line of an entry point."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {service}",
        description=f"One process of Feedmesh's {service}. `feedmesh up` starts the whole mesh.",
        epilog=f"example: python -m {service} --mesh data/run/mesh.json --shard 0",
    )
    parser.add_argument(
        "--mesh", type=Path, required=True, help="the file that describes the mesh (see services/rpc/mesh.py)"
    )
    parser.add_argument("--shard", type=int, default=0, help="which shard of the service this process is")
    parser.add_argument("--shards", type=int, help="of which layout [default: the one that clients ask]")
    parser.add_argument("--replica", type=int, default=0, help="which replica of the shard")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    mesh = meshes.load(arguments.mesh)
    mine = _described(parser, mesh, service, arguments)
    metrics = Metrics(service, mine.shard, mine.replica)
    context.originate(mine.zone)
    mesh.call_as(Caller(mine.zone, metrics, service=service))
    if (credentials := mesh.credentials) is not None:
        credentials.must_name(service)
        metrics.gauge("tls_certificate_expires_seconds", credentials.expires_in)
    return Process(service, mine.shard, mine.shards, mine.address, mesh, metrics, mine.held, mine.replica, mine.zone)


def _described(parser: argparse.ArgumentParser, mesh: Mesh, service: str, arguments: argparse.Namespace) -> Address:
    """The process that a command line names; one that is not part of the mesh ends this one."""
    shard, shards = arguments.shard, arguments.shards or mesh.of(service)[0].shards
    there = [of for of in mesh.processes if of.service == service]
    replicas = {of.replica: of for of in there if (of.shard, of.shards) == (shard, shards)}
    if not replicas:
        has = ", ".join(dict.fromkeys(f"{of.shard} of {of.shards}" for of in there))
        parser.error(f"--shard {shard} --shards {shards}: {service} has the shards {has}")
    if arguments.replica not in replicas:
        has = ", ".join(map(str, replicas))
        parser.error(f"--replica {arguments.replica}: shard {shard} of {service} has the replicas {has}")
    return replicas[arguments.replica]


def run_entry_point(main: Callable[[], None]) -> None:
    """Run an entry point; an error of the mesh ends it with its message, not with a traceback."""
    try:
        main()
    except MeshError as error:
        for shard in _opened:  # the next start sets a damaged one aside
            shard.noticed(error)
        sys.exit(f"error: {error}")


class Stop:
    """Set by SIGTERM, SIGINT, or the end of the supervisor."""

    def __init__(self) -> None:
        self.event = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.event.set())
        if os.environ.get(SUPERVISED):
            threading.Thread(target=self._watch_supervisor, daemon=True).start()

    def _watch_supervisor(self) -> None:
        while os.read(0, 1024):
            pass
        self.event.set()


def either(*whys: Callable[[], str]) -> Callable[[], str]:
    """The first of several reasons that is not empty."""
    return lambda: next(filter(None, (why() for why in whys)), "")


def run_service(service: str, struct: type[T], build: Callable[[T, Runtime], Parts]) -> None:
    """The whole of an entry point whose service serves from threads: build it and serve until a signal stops it."""

    def main() -> None:
        process = open_process(service)
        settings = process.settings(struct)
        _serve(process, settings, build(settings, process))

    run_entry_point(main)


def _serve(process: Process, settings: ThreadedSettings, parts: Parts) -> None:
    """Serve from threads until a signal stops it; then refuse new requests, finish those under way, and close.

    A process whose state can't be written until it is opened again ends by itself once the disk has space, and its supervisor
    starts it anew. Until then it answers reads. Damage that a scrub finds makes the process not ready.
    """
    stop = Stop()
    follower = _follower(parts.main, process.clock) if parts.main else None
    caches = [_follower(cache, process.clock) for cache in parts.caches]
    scrubber, snapshotter = _scrubber(process, parts), _snapshotter(process, settings, parts)
    why = either(*(part for part in (follower and follower.why_not_ready, scrubber and scrubber.problem) if part))
    lag = follower.lag if follower else Lag
    status = _status(process, why, lag)
    add: list[AddServicer] = [
        partial(parts.add, parts.servicer),
        partial(status_pb2_grpc.add_StatusServicer_to_server, status),
    ]
    wait, noticed = (follower.wait, follower.noticed) if follower else (None, ignored)
    dispatcher = Dispatcher(process.metrics, AdmissionLimiter(settings.max_requests), wait, noticed)
    streams = Streams(dispatcher, settings.threads)
    held = process.address in process.held
    server = servers.threaded(dispatcher, add, settings.threads, held, streams)
    health = servers.add_health(server, [f"feedmesh.{process.service.capitalize()}", "feedmesh.Status"])
    for part in (*caches, *parts.background):
        part.start()
    servers.bind(server, listening(process.mesh, process.address), process.mesh.credentials)
    probed = servers.health_alone(health, at)[0] if (at := probed_at(process.mesh)) else None
    settle_memory()
    server.start()
    if probed:
        probed.start()
    path = socket_path(process.mesh, process.address)
    unix = ThreadedUnixServer(path, dispatcher, settings.threads) if path else None
    if follower:
        follower.start()
    for reads in (scrubber, snapshotter):
        if reads:
            reads.start(process.metrics)
    _report_ready(process, health, why, follower.dead if follower else lambda: False, _look, stop.event)
    health.enter_graceful_shutdown()
    for reads in (scrubber, snapshotter):
        if reads:
            reads.stop()
    streams.stop()
    stopped = server.stop(process.mesh.common.drain_s)
    if unix:
        unix.stop(process.mesh.common.drain_s)
    stopped.wait()
    if probed:
        probed.stop(None)
    for part in (*([follower] if follower else []), *caches, *parts.background):
        part.stop()
    for close in parts.close:
        close()
    logger.info("drained")


def _status(process: Process, why: Callable[[], str], lag: Callable[[], Lag] = Lag) -> Status:
    """What it reports of itself; and which layouts its clients ask, for as long as it runs."""
    members = process.mesh.membership
    members.watch(lambda _: None)  # or it is not looked at before a client watches
    at = (process.replica, process.zone)
    return Status(process.service, process.shard, process.metrics, why, lag, *at, lambda: members.current().layouts())


def _follower(follows: Follows, clock: Clock) -> Follower:
    return Follower(follows.log, follows.view, follows.topics, follows.partitions, clock)


def _scrubber(process: Process, parts: Parts) -> Scrubber | None:
    """The scrub that reads the state again and again for damage."""
    if parts.main is None or parts.check is None or not isinstance(parts.main.view.shard, Shard):
        return None
    looks, every_h = with_offsets(process.service, parts.check), process.mesh.common.check_every_h
    families = ("offsets", *parts.families)
    return Scrubber(parts.main.view.shard, families, lambda: Values(looks), remedy(process.service), every_h)


def _snapshotter(process: Process, settings: ThreadedSettings, parts: Parts) -> Snapshotter | None:
    """What takes snapshots of the state; None where none are to be taken."""
    if parts.main is None or not isinstance(parts.main.view.shard, Shard) or not isinstance(settings, ShardSettings):
        return None
    if not settings.snapshot_every_s:
        return None
    shard, to = parts.main.view.shard, Snapshots(process.blobs, process.service, process.shard, process.shards)
    taker = Taker(shard, to, parts.main.partitions, parts.main.topics, process.clock)
    every_s, keep = settings.snapshot_every_s, settings.snapshots_kept
    return Snapshotter(shard, to, taker, every_s, keep, process.address, process.clock, process.no_space)


def _look() -> None:
    for shard in _opened:
        shard.look()


def _report_ready(
    process: Process,
    health: servers.Health,
    why: Callable[[], str],
    dead: Callable[[], bool],
    look: Callable[[], None],
    stop: threading.Event,
) -> None:
    """Until a signal stops it, or it is dead with space to start again: look whether the state is still there,
    report to the probes and the log whether it is ready, and give memory back that is free.
    """
    ready, gave_back = None, time.monotonic()
    while not stop.wait(READY_POLL_S if not ready else 1.0):
        if time.monotonic() - gave_back > GIVE_BACK_EVERY_S:
            give_back()
            gave_back = time.monotonic()
        look()
        reason = why()
        if (not reason) != ready:
            ready = not reason
            servers.set_health(health, ready)
            logger.info("%s at %s: %s", process.of.name, process.address, reason or "ready")
        if dead() and not process.no_space():
            logger.error("a write failed or the folder is damaged, and the disk has space: ending to start again")
            return


def run_async_service(service: str, struct: type[S], build: Callable[[S, Runtime], AsyncParts]) -> None:
    """The whole of an entry point whose service serves from asyncio: build it and serve, on uvloop, until a signal stops it."""

    def main() -> None:
        process = open_process(service)
        settings = process.settings(struct)
        uvloop.run(_serve_on_asyncio(process, settings, build))

    run_entry_point(main)


async def _serve_on_asyncio(process: Process, settings: S, build: Callable[[S, Runtime], AsyncParts]) -> None:
    """Serve until a signal stops it, under the call policy. Damage that a scrub finds makes the process not ready."""
    parts, loop = build(settings, process), asyncio.get_running_loop()
    stop, scrubber = Stop(), parts.scrubber
    why = either(parts.why_not_ready, scrubber.problem) if scrubber else parts.why_not_ready
    status = _status(process, why)
    add: list[AddServicer] = [
        partial(parts.add, parts.servicer),
        partial(status_pb2_grpc.add_StatusServicer_to_server, status),
    ]
    for start in parts.start:
        start()
    if scrubber:
        scrubber.start(process.metrics)
    limiter = AdmissionLimiter(settings.max_requests)
    dispatcher = Dispatcher(process.metrics, limiter, noticed=parts.noticed or ignored, at_once=True)
    streams = Streams(dispatcher)
    server = servers.on_asyncio(dispatcher, add, process.address in process.held, streams)
    health = servers.add_health(server, [f"feedmesh.{process.service.capitalize()}", "feedmesh.Status"])
    servers.bind(server, listening(process.mesh, process.address), process.mesh.credentials)
    probed = servers.health_alone(health, at)[0] if (at := probed_at(process.mesh)) else None
    settle_memory()
    await server.start()
    if probed:
        await probed.start()
    path = socket_path(process.mesh, process.address)
    unix = AsyncUnixServer(path, dispatcher) if path else None
    if unix:
        await unix.start()
    await loop.run_in_executor(None, _report_ready, process, health, why, parts.dead, parts.look, stop.event)
    health.enter_graceful_shutdown()
    for drain in parts.drain:
        drain()
    streams.stop()
    stopping = [server.stop(process.mesh.common.drain_s)]
    if unix:
        stopping.append(unix.stop(process.mesh.common.drain_s))
    await asyncio.gather(*stopping)
    if probed:
        await probed.stop(None)
    if scrubber:
        scrubber.stop()
    for close in parts.close:
        close()
    logger.info("drained")
