"""The ingest API and its log, really listening, in this process; stopped and started again on the same port and folder."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import grpc

from protos import events_pb2
from protos import roadrunner_pb2_grpc as rpc
from roadrunner.client import Publisher
from roadrunner.committer import Committer
from roadrunner.retention import Retention
from roadrunner.service import Roadrunner
from roadrunner.store import EventLog, PublishResult
from services.core.clock import Clock, wall_clock
from services.core.errors import DeadlineExceeded, MeshError
from services.core.events import Batch
from services.core.metrics import Metrics
from services.core.settings import MeshSettings
from services.log.embedded import EmbeddedReader
from services.rpc import mesh as meshes
from services.rpc.channel import open_sync
from services.rpc.mesh import Address, Mesh
from tests.kit import LoopServer

PARTITIONS = 3


def open_log(
    folder: Path, clock: Clock = wall_clock, partitions: int = PARTITIONS, retention: Retention | None = None
) -> EventLog:
    """The log of a folder."""
    return EventLog(folder / "log", partitions, retention or Retention(), clock, cache_mb=1, memtable_mb=1)


def publish(committer: Committer, batch: Batch, timeout: float) -> PublishResult:
    """Submit a batch and wait until it is on disk. Raises DeadlineExceeded when that takes longer."""
    future: Future[PublishResult] = Future()

    def answer(result: PublishResult | MeshError) -> None:
        if isinstance(result, MeshError):
            future.set_exception(result)
        elif future.set_running_or_notify_cancel():
            future.set_result(result)

    committer.submit(batch.to_proto(), answer, future.cancelled)
    try:
        return future.result(timeout)
    except TimeoutError:
        future.cancel()
        raise DeadlineExceeded("not on disk within the deadline; publish again with the same ids") from None


def append(log: EventLog, *batches: Batch) -> list[PublishResult]:
    """Append batches; not synced."""
    return log.append([batch.to_proto() for batch in batches])


def users_ids(log: EventLog) -> Counter[int]:
    """How often each id is in the topic of users."""
    positions = {at: end.first for at, end in log.ends().items() if at[0] == 0}
    found: Counter[int] = Counter()
    while records := log.read(positions):
        for record in records:
            positions[record.topic, record.partition] = record.offset + 1
            found.update(Batch.of(events_pb2.Batch.FromString(record.batch)).id.tolist())
    return found


class Running:
    """A roadrunner that can be stopped and started again."""

    def __init__(self, folder: Path, no_space: Callable[[], str] = lambda: "") -> None:
        self._folder, self._no_space = folder, no_space
        self.address = "127.0.0.1:0"
        self._channels: list[grpc.Channel] = []
        self._publishers: list[Publisher] = []
        self.start()

    def start(self) -> None:
        """Serve, on the port of before."""
        self.log = open_log(self._folder)
        self.committer = Committer(self.log, 64, self._no_space)
        self.service = Roadrunner(self.log, self.committer, wall_clock, 600_000)
        add = [lambda server: rpc.add_RoadrunnerServicer_to_server(self.service, server)]
        self.metrics = Metrics("roadrunner", 0)
        self.committer.start()
        self._server = LoopServer(self.metrics, add, 128, self.address)
        self.address = f"127.0.0.1:{self._server.port}"

    def stop(self) -> None:
        """Drain and let the folder go."""
        self._server.stop(1, first=self.service.close)
        self.committer.stop()
        self.log.close()

    def close_streams(self) -> None:
        """End what is subscribed, as draining does first."""

        async def close() -> None:
            self.service.close()

        self._server.run(close())

    @property
    def mesh(self) -> Mesh:
        """The mesh of this one process."""
        process = Address(service="roadrunner", shard=0, shards=1, address=self.address)
        return meshes.resolve({"mesh": MeshSettings(partitions=PARTITIONS)}, [process])

    def channel(self) -> grpc.Channel:
        """A channel to it."""
        self._channels.append(open_sync(self.address))
        return self._channels[-1]

    def publisher(self) -> Publisher:
        """A publisher to it."""
        self._publishers.append(Publisher(self.mesh))
        return self._publishers[-1]

    def reader(self) -> EmbeddedReader:
        """Its log, as readers see it."""
        return EmbeddedReader(self.mesh)

    def hang_up(self) -> None:
        """Close the channels."""
        for channel in self._channels:
            channel.close()
        while self._publishers:
            self._publishers.pop().close()


@contextmanager
def running(folder: Path, no_space: Callable[[], str] = lambda: "") -> Iterator[Running]:
    """A roadrunner on a folder until the block ends."""
    ingest = Running(folder, no_space)
    try:
        yield ingest
    finally:
        ingest.hang_up()
        ingest.stop()
