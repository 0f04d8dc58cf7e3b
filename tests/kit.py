"""What the tests of several services share: log records without a log, and a mesh of real servers in this process."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grpc

from services import mesh as meshes
from services import server as servers
from services.events import Batch
from services.log import Record
from services.mesh import Address, Mesh
from services.metrics import Metrics
from services.server import AddServicer, WaitForToken
from services.settings import MeshSettings
from services.shard import Shard
from services.topics import Topic, split

T = TypeVar("T")


class Closing(Protocol):
    """A client."""

    async def close(self) -> None: ...


C = TypeVar("C", bound=Closing)


class Offsets:
    """Hands out records as the log would: consecutive offsets in every partition."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self._next: dict[tuple[int, int], int] = {}

    def records(self, batch: Batch, topics: tuple[Topic, ...], accepted_ms: int = 0) -> list[Record]:
        """The records of a batch in the topics named."""
        found = []
        for part in split(batch, self.partitions):
            if part.topic in topics:
                at = (int(part.topic), part.partition)
                offset = self._next.get(at, 0)
                self._next[at] = offset + 1
                found.append(Record(part.topic, part.partition, offset, accepted_ms, part.batch))
        return found


def records_of(batch: Batch, partitions: int, topic: Topic) -> list[Record]:
    """The records of the first batch of a log, in one topic."""
    return Offsets(partitions).records(batch, (topic,))


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
    """What a client of the mesh answers to a question; the client is closed afterwards."""

    async def ask() -> T:
        asking = client(mesh)
        try:
            return await question(asking)
        finally:
            await asking.close()

    return asyncio.run(ask())


@contextmanager
def serve_shards(
    service: str, shards: list[list[AddServicer]], partitions: int, wait: WaitForToken | None = None
) -> Iterator[Mesh]:
    """A mesh whose one service has these shards (the servicers of each), really listening, until the block ends."""
    with serve_services({service: shards}, partitions, wait) as mesh:
        yield mesh


@contextmanager
def serve_services(
    services: dict[str, list[list[AddServicer]]], partitions: int, wait: WaitForToken | None = None
) -> Iterator[Mesh]:
    """A mesh of several services, each with its shards, in this process."""
    addresses: list[Address] = []
    with ExitStack() as running:
        for service, shards in services.items():
            for shard, servicers in enumerate(shards):
                address = running.enter_context(_serving(service, shard, servicers, wait))
                addresses.append(Address(service=service, shard=shard, shards=len(shards), address=address))
        yield meshes.resolve({"mesh": MeshSettings(partitions=partitions)}, addresses)


@contextmanager
def _serving(service: str, shard: int, servicers: list[AddServicer], wait: WaitForToken | None) -> Iterator[str]:
    server = servers.threaded(servers.Gate(Metrics(service, shard), wait), servicers, threads=8, max_requests=128)
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
        server = servers.on_asyncio(servers.AsyncGate(metrics), servicers, max_requests)
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
