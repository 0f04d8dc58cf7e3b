"""Shared by the tests of several services: log records without a log, and a mesh of real servers in this process."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar
from unittest.mock import patch

import grpc

from services.core.errors import Unavailable
from services.core.events import Batch
from services.core.metrics import Metrics
from services.core.settings import MeshSettings
from services.core.topics import Topic
from services.kernels import jit
from services.log.history import Epoch, LogHistory
from services.log.memory import MemoryLog, MemoryReader
from services.log.protocol import End, Partition, Positions, Record
from services.rpc import mesh as meshes
from services.rpc import server as servers
from services.rpc.admission import AdmissionLimiter
from services.rpc.dispatch import Dispatcher, WaitForToken
from services.rpc.mesh import Address, Mesh
from services.rpc.server import AddServicer
from services.state.shard import Shard

T = TypeVar("T")
ONE_EPOCH = LogHistory(b"a log in memory.", [Epoch(1, {})])  # of a log that was never opened again


class Closing(Protocol):
    """A client."""

    async def close(self) -> None: ...


C = TypeVar("C", bound=Closing)


def in_one_epoch(*shards: Shard) -> None:
    """The shards know the epoch of the log that they are to apply."""
    for shard in shards:
        shard.connect(ONE_EPOCH, {}, ())


class OneEpochReader(MemoryReader):
    """A reader of a log in memory that says ONE_EPOCH is its history, and can't be reached while it is `away`."""

    away = False

    def history(self, timeout: float) -> LogHistory:
        """ONE_EPOCH. Raises Unavailable."""
        self._check()
        return ONE_EPOCH

    def ends(self, timeout: float, positions: Positions | None = None) -> dict[Partition, End]:
        """As a MemoryReader. Raises Unavailable."""
        self._check()
        return super().ends(timeout, positions)

    def _check(self) -> None:
        if self.away:
            raise Unavailable("roadrunner is away")


def records_of(batch: Batch, partitions: int, topic: Topic) -> list[Record]:
    """The records of the first batch of a log, in one topic."""
    return MemoryLog(partitions).append(batch, (topic,))


@contextmanager
def open_shards(
    folder: Path, form: str, families: Iterable[str], shards: int, partitions: int
) -> Iterator[list[tuple[Shard, range]]]:
    """The databases of a service's shards, each with the partitions that it owns, until the block ends."""
    with ExitStack() as stack:
        found = []
        for i in range(shards):
            shard = Shard(folder / f"{i}of{shards}", form, families)
            stack.callback(shard.close)
            found.append((shard, range(partitions * i // shards, partitions * (i + 1) // shards)))
        yield found


def asked(client: Callable[[Mesh], C], mesh: Mesh, question: Callable[[C], Awaitable[T]]) -> T:
    """The answer of a client of the mesh to a question; the client is closed afterwards."""

    async def ask() -> T:
        asking = client(mesh)
        try:
            return await question(asking)
        finally:
            await asking.close()

    return asyncio.run(ask())


@contextmanager
def serve_shards(
    service: str,
    shards: list[list[AddServicer]],
    partitions: int,
    wait: WaitForToken | None = None,
    compiles: bool = False,
) -> Iterator[Mesh]:
    """A mesh whose one service has these shards (the servicers of each), really listening, until the block ends."""
    with serve_services({service: shards}, partitions, wait, compiles) as mesh:
        yield mesh


@contextmanager
def serve_services(
    services: dict[str, list[list[AddServicer]]],
    partitions: int,
    wait: WaitForToken | None = None,
    compiles: bool = False,
) -> Iterator[Mesh]:
    """A mesh of several services, each with its shards, in this process. None of their requests waits for a compiler,
    unless there is one that `compiles`, as loading a graph does.
    """
    addresses: list[Address] = []
    with ExitStack() as running:
        if not compiles:
            running.enter_context(_nothing_compiled())
        for service, shards in services.items():
            for shard, servicers in enumerate(shards):
                address = running.enter_context(_serving(service, shard, servicers, wait))
                addresses.append(Address(service=service, shard=shard, shards=len(shards), address=address))
        yield meshes.resolve({"mesh": MeshSettings(partitions=partitions)}, addresses)


@contextmanager
def _nothing_compiled() -> Iterator[None]:
    """No thread of a server is the first to need a kernel: to compile it may take longer than any deadline."""
    late: list[str] = []
    alone = jit._alone

    def noted(name: str) -> AbstractContextManager[None]:
        if threading.current_thread().name.startswith("rpc"):
            late.append(name)
        return alone(name)

    with patch.object(jit, "_alone", noted):
        yield
    assert not late, f"compiled, or loaded, while a request waited: {late}"


@contextmanager
def _serving(service: str, shard: int, servicers: list[AddServicer], wait: WaitForToken | None) -> Iterator[str]:
    dispatcher = Dispatcher(Metrics(service, shard), AdmissionLimiter(128), wait)
    server = servers.threaded(dispatcher, servicers, threads=8)
    port = servers.bind(server, "127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


class LoopServer:
    """A server on asyncio, on a thread with a loop of its own, for servicers whose methods are coroutines."""

    def __init__(self, metrics: Metrics, servicers: list[AddServicer], max_requests: int, address: str) -> None:
        self._stopped = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server, self.port = self.run(self._start(metrics, servicers, max_requests, address))

    async def _start(
        self, metrics: Metrics, servicers: list[AddServicer], max_requests: int, address: str
    ) -> tuple[grpc.aio.Server, int]:
        dispatcher = Dispatcher(metrics, AdmissionLimiter(max_requests), at_once=True)
        server = servers.on_asyncio(dispatcher, servicers)
        port = servers.bind(server, address)
        await server.start()
        return server, port

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The outcome of a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def stop(self, grace_s: float | None = None, first: Callable[[], None] = lambda: None) -> threading.Event:
        """Call `first` on the loop, drain, and end the thread. Set when that is done, as a threaded server's answer is."""
        if self._stopped.is_set():
            return self._stopped

        async def stop() -> None:
            first()
            await self._server.stop(grace_s)

        self.run(stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._stopped.set()
        return self._stopped
