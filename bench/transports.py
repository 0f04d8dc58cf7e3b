"""The price of a call between processes by each transport: CPU of both sides, the time of a call, and the choice of a replica.

    python -m bench.transports
    python -m bench.transports "stream TLS" "framed TLS"       # these alone

A client on asyncio asks a server on threads, in bursts of four at 150 bursts a second, 0.8 KB for 4.2; both processes
share the machine's cores. CPU is the kernel's count for both processes, less that of the same seconds without calls. The choice
is timed over replicas that answer without a transport.
"""

import asyncio
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import uvloop

from bench.framed import FramedClient, FramedServer
from cli.authority import CA, Store, Validity, authority, issued
from protos import roadrunner_pb2 as pb
from protos import roadrunner_pb2_grpc as rpc
from services.core.metrics import Metrics
from services.ops.memory import settle_memory
from services.rpc import server as servers
from services.rpc.admission import AdmissionLimiter
from services.rpc.caller import Caller
from services.rpc.channel import open_async
from services.rpc.choosing import Standing
from services.rpc.credentials import Credentials, Files
from services.rpc.dispatch import Dispatcher
from services.rpc.repeating import Repeating
from services.rpc.replica import ByPeer, RemoteReplica
from services.rpc.replicas import Replicas
from services.rpc.stream_server import Streams
from services.rpc.unix_server import ThreadedUnixServer

BURST, BURSTS_S, SECONDS, WARM_S, ROUNDS = 4, 150, 6.0, 2.0, 3
THREADS, CHOICES = 8, 20_000
#: A call of its own, a message on a stream, each plain and under mTLS; and by frames, at a Unix socket and under mTLS.
TRANSPORTS = ("unary", "unary TLS", "stream", "stream TLS", "framed TLS", "unix")


class Measured(NamedTuple):
    """cpu_ms: of a call, both sides; p50_ms, p99_ms: from a call to its answer."""

    cpu_ms: float
    p50_ms: float
    p99_ms: float


class Servicer(rpc.RoadrunnerServicer):
    """Answers `Ends` with about 4 KB."""

    def __init__(self) -> None:
        self._reply = pb.EndsReply(
            ranges=[pb.Range(topic=i % 5, partition=i, first=i, next=2**40 + i, events=2**41 + i) for i in range(190)]
        )

    def Ends(self, request: pb.EndsRequest, context: Any) -> pb.EndsReply:
        """RPC."""
        return self._reply


class Ways(NamedTuple):
    """Where the server listens."""

    plain: str
    secured: str
    framed: int
    unix: Path


def certificates(folder: Path) -> Store:
    """Of a mesh of these two processes."""
    store = Store(folder)
    store.write(CA, authority("mesh", Validity.of_days(1)))
    for service in ("roadrunner", "operator"):
        store.write(service, issued(store.pair(CA), "mesh", service, Validity.of_days(1)))
    return store


def files_of(folder: Path, service: str) -> Files:
    """Of one of them."""
    return Files(folder / "ca.pem", folder / f"{service}.pem", folder / f"{service}.key")


def serve(folder: Path, ready: Connection) -> None:
    """A server by gRPC, with and without TLS, and by frames, until the other end says so."""
    dispatcher = Dispatcher(Metrics("roadrunner", 0), AdmissionLimiter(512))
    streams = Streams(dispatcher, THREADS)
    add = [lambda s: rpc.add_RoadrunnerServicer_to_server(Servicer(), s)]  # type: ignore[abstract]
    server = servers.threaded(dispatcher, add, THREADS, streams=streams)
    own = files_of(folder, "roadrunner")
    plain, secured = (
        f"127.0.0.1:{servers.bind(server, '127.0.0.1:0', of)}" for of in (None, Credentials(own, "mesh", loopback=True))
    )
    settle_memory()
    server.start()
    path = folder / "server.sock"
    unix, framed = ThreadedUnixServer(path, dispatcher, THREADS), FramedServer(dispatcher, own, THREADS)
    ready.send(Ways(plain, secured, framed.port, path))
    ready.recv()
    unix.stop(0.1)
    framed.stop()
    streams.stop()
    server.stop(0).wait()


def cpu_s(*pids: int) -> float:
    """Processor time that these processes have used."""
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


async def ask(replica: RemoteReplica | ByPeer, seconds: float) -> list[float]:
    """The times of the calls, in bursts at a fixed rate."""
    request = pb.EndsRequest()
    for i in range(60):
        request.at.add(topic=1, partition=i, offset=2**40 + i)
    took: list[float] = []

    async def one() -> None:
        began = time.perf_counter()
        await replica.call("Ends", request, 5.0)
        took.append(time.perf_counter() - began)

    end = (next_ := time.perf_counter()) + seconds
    while next_ < end:
        await asyncio.gather(*(one() for _ in range(BURST)))
        next_ += 1 / BURSTS_S
        await asyncio.sleep(max(0.0, next_ - time.perf_counter()))
    return took


async def idle(seconds: float) -> None:
    """As many turns of the event loop as `ask` makes, without a call."""
    end = (next_ := time.perf_counter()) + seconds
    while next_ < end:
        next_ += 1 / BURSTS_S
        await asyncio.sleep(max(0.0, next_ - time.perf_counter()))


def opened(transport: str, ways: Ways, folder: Path) -> RemoteReplica | ByPeer:
    """The server as a client has it by one transport."""
    own = files_of(folder, "operator")
    if transport == "framed TLS":
        return ByPeer("roadrunner", open_async(ways.plain), FramedClient(ways.framed, own))
    kind, _, tls = transport.partition(" ")
    credentials = Credentials(own, "mesh", loopback=True) if tls else None
    address = ways.secured if tls else ways.plain
    return RemoteReplica("roadrunner", address, ways.unix if kind == "unix" else None, kind == "stream", credentials)


async def measured(transport: str, ways: Ways, folder: Path, server: int) -> Measured:
    """Of one transport."""
    replica = opened(transport, ways, folder)
    try:
        await ask(replica, WARM_S)
        pids = (os.getpid(), server)
        began = cpu_s(*pids)
        await idle(SECONDS)
        waiting = cpu_s(*pids) - began
        began = cpu_s(*pids)
        took = await ask(replica, SECONDS)
        used = cpu_s(*pids) - began - waiting
    finally:
        await replica.close()
    p50, p99 = np.percentile(took, (50, 99)) * 1000
    return Measured(used * 1000 / len(took), float(p50), float(p99))


class AtOnce:
    """A replica without a transport."""

    async def call(self, method: str, request: Any, timeout: float) -> Any:
        """The answer at once."""
        return request

    async def is_ready(self) -> bool:
        """Always."""
        return True

    async def retire(self) -> None:
        """Nothing to wait for."""

    async def close(self) -> None:
        """Nothing to close."""


async def choosing(replicas: int) -> float:
    """Microseconds of CPU that the choice of one of so many replicas adds to a call; the least of several rounds."""
    caller, request = Caller("a"), pb.EndsRequest()
    shard = [Standing(AtOnce()) for _ in range(replicas)]
    chosen, alone = Replicas(shard, caller, caller.tally("roadrunner"), Repeating("roadrunner")), shard[0].replica

    async def least(call: Any) -> float:
        found = []
        for _ in range(9):
            began = time.process_time()
            for _ in range(CHOICES):
                await call("Ends", request, 1.0)
            found.append((time.process_time() - began) / CHOICES)
        return min(found) * 1e6

    return await least(chosen.call) - await least(alone.call)


def main(names: Sequence[str]) -> None:
    """These transports in turn, some rounds."""
    for replicas in (1, 2, 3):
        print(f"one of {replicas}  {uvloop.run(choosing(replicas)):.2f} us of CPU a call")
    ours, theirs = multiprocessing.Pipe()
    found: dict[str, list[Measured]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        certificates(folder)
        server = multiprocessing.get_context("spawn").Process(target=serve, args=(folder, theirs), daemon=True)
        server.start()
        ways: Ways = ours.recv()
        assert server.pid
        for _ in range(ROUNDS):
            for name, rounds in found.items():
                rounds.append(uvloop.run(measured(name, ways, folder, server.pid)))
        ours.send("stop")
        server.join(10)
    for name, rounds in found.items():
        cpu = [one.cpu_ms for one in rounds]
        times = [statistics.median(one[i] for one in rounds) for i in (1, 2)]
        print(
            f"{name:10} {statistics.median(cpu):.3f} ms of CPU a call ({min(cpu):.3f} to {max(cpu):.3f}), "
            f"P50 {times[0]:.2f} ms, P99 {times[1]:.2f} ms"
        )


if __name__ == "__main__":
    if wrong := set(sys.argv[1:]) - set(TRANSPORTS):
        sys.exit(f"{wrong.pop()!r}: allowed are {', '.join(TRANSPORTS)}")
    main(sys.argv[1:] or TRANSPORTS)
