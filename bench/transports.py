"""The price of a call between processes by each transport: CPU of both sides, the time of a call, and the choice of a replica.

    python -m bench.transports

A client on asyncio asks a server on threads, in bursts of four at 150 bursts a second, 0.8 KB for 4.2; both processes
share the machine's cores. CPU is the kernel's count for both processes, less that of the same seconds without calls. The choice
is timed over replicas that answer without a transport.
"""

import asyncio
import multiprocessing
import os
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import uvloop

from protos import roadrunner_pb2 as pb
from protos import roadrunner_pb2_grpc as rpc
from services.core.metrics import Metrics
from services.ops.memory import settle_memory
from services.rpc import server as servers
from services.rpc.admission import AdmissionLimiter
from services.rpc.caller import Caller
from services.rpc.choosing import Standing
from services.rpc.dispatch import Dispatcher
from services.rpc.repeating import Repeating
from services.rpc.replica import RemoteReplica
from services.rpc.replicas import Replicas
from services.rpc.stream_server import Streams
from services.rpc.unix_server import ThreadedUnixServer

BURST, BURSTS_S, SECONDS, WARM_S, ROUNDS = 4, 150, 6.0, 2.0, 3
THREADS, CHOICES = 8, 20_000
TRANSPORTS = ("unary", "stream", "unix")


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


def serve(path: Path, ready: Connection) -> None:
    """A server by gRPC and at a Unix socket, until the other end says so."""
    dispatcher = Dispatcher(Metrics("roadrunner", 0), AdmissionLimiter(512))
    streams = Streams(dispatcher, THREADS)
    add = [lambda s: rpc.add_RoadrunnerServicer_to_server(Servicer(), s)]  # type: ignore[abstract]
    server = servers.threaded(dispatcher, add, THREADS, streams=streams)
    port = servers.bind(server, "127.0.0.1:0")
    settle_memory()
    server.start()
    unix = ThreadedUnixServer(path, dispatcher, THREADS)
    ready.send(port)
    ready.recv()
    unix.stop(0.1)
    streams.stop()
    server.stop(0).wait()


def cpu_s(*pids: int) -> float:
    """Processor time that these processes have used."""
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


async def ask(replica: RemoteReplica, seconds: float) -> list[float]:
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


async def measured(transport: str, address: str, path: Path, server: int) -> Measured:
    """Of one transport."""
    replica = RemoteReplica("roadrunner", address, path if transport == "unix" else None, transport == "stream")
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


def main() -> None:
    """Every transport in turn, some rounds."""
    for replicas in (1, 2, 3):
        print(f"one of {replicas}  {uvloop.run(choosing(replicas)):.2f} us of CPU a call")
    ours, theirs = multiprocessing.Pipe()
    found: dict[str, list[Measured]] = {name: [] for name in TRANSPORTS}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "server.sock"
        server = multiprocessing.get_context("spawn").Process(target=serve, args=(path, theirs), daemon=True)
        server.start()
        address = f"127.0.0.1:{ours.recv()}"
        assert server.pid
        for _ in range(ROUNDS):
            for name in TRANSPORTS:
                found[name].append(uvloop.run(measured(name, address, path, server.pid)))
        ours.send("stop")
        server.join(10)
    for name, rounds in found.items():
        cpu = [one.cpu_ms for one in rounds]
        times = [statistics.median(one[i] for one in rounds) for i in (1, 2)]
        print(
            f"{name:7} {statistics.median(cpu):.3f} ms of CPU a call ({min(cpu):.3f} to {max(cpu):.3f}), "
            f"P50 {times[0]:.2f} ms, P99 {times[1]:.2f} ms"
        )


if __name__ == "__main__":
    main()
