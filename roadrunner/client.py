"""How the others publish events and read the embedded log."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc.experimental import ChannelOptions

from protos import events_pb2, roadrunner_pb2_grpc
from protos import roadrunner_pb2 as pb
from services import mesh as meshes
from services.channel import OPTIONS, mesh_errors, open_sync, terms
from services.errors import Unavailable
from services.events import Batch
from services.log import End, Partition, Positions, Record
from services.mesh import Mesh
from services.routing import Shards
from services.topics import Topic

NAME = "roadrunner"
#: Whoever reads a stream waits on the call itself: waiting on a lock for the thread that does, as gRPC otherwise has it,
#: wakes ten times a second for as long as nothing comes.
STREAMING = [*OPTIONS, (ChannelOptions.SingleThreadedUnaryStream, 1)]


@dataclass(frozen=True, slots=True)
class Published:
    """Events accepted, events that had been accepted before, and the token that makes a read see them."""

    accepted: int
    duplicates: int
    token: bytes


def _published(reply: pb.PublishReply) -> Published:
    return Published(reply.accepted, reply.duplicates, reply.token)


@dataclass(frozen=True, slots=True)
class ViewFreshness:
    """How long the audit's events took to be seen in a view: milliseconds; `lost` were not seen in time."""

    view: str
    last_ms: float
    p50_ms: float
    p99_ms: float
    samples: int
    lost: int


class RoadrunnerClient:
    """For asyncio."""

    def __init__(self, mesh: Mesh) -> None:
        self._shards = Shards(mesh, NAME, roadrunner_pb2_grpc.RoadrunnerStub)
        self._stub: Any = self._shards.stubs[0]

    async def publish(self, batch: Batch, timeout: float) -> Published:
        """Publish within `timeout` seconds; returns once it is on disk. Raises the errors of the front door."""
        request = pb.PublishRequest(batch=batch.to_proto())
        return _published(await self._shards.call(self._stub.Publish, request, timeout))

    async def freshness(self, timeout: float) -> list[ViewFreshness]:
        """What the audit measured, by view."""
        reply = await self._shards.call(self._stub.Freshness, pb.FreshnessRequest(), timeout)
        return [ViewFreshness(v.view, v.last_ms, v.p50_ms, v.p99_ms, v.samples, v.lost) for v in reply.views]

    async def close(self) -> None:
        """Close the channel."""
        await self._shards.close()


class Publisher:
    """For threads: bulk loads and commands."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub: Any = roadrunner_pb2_grpc.RoadrunnerStub(channel)

    def publish(self, batch: Batch, timeout: float) -> Published:
        """Publish within `timeout` seconds; returns once it is on disk. Raises the errors of the front door."""
        with mesh_errors(NAME):
            return _published(self._stub.Publish(pb.PublishRequest(batch=batch.to_proto()), **terms(timeout)))


@contextmanager
def open_publisher(data: Path) -> Iterator[Publisher]:
    """A publisher to the mesh that runs on a data folder. Raises NotFound when none does."""
    mesh = meshes.load(meshes.mesh_file(data))
    with open_sync(mesh.of(NAME)[0].address) as channel:
        yield Publisher(channel)


class RoadrunnerLog:
    """The embedded log, as its readers see it (services/log.py)."""

    def __init__(self, mesh: Mesh) -> None:
        self._channel = grpc.insecure_channel(mesh.of(NAME)[0].address, options=STREAMING)
        self._stub: Any = roadrunner_pb2_grpc.RoadrunnerStub(self._channel)
        self._calls: set[Any] = set()
        self._closing = threading.Event()

    def subscribe(self, positions: Positions) -> Iterator[list[Record]]:
        """Chunks of records from the positions on, until `close`. Raises OutOfRange, Unavailable."""
        request = pb.SubscribeRequest()
        for (topic, partition), offset in positions.items():
            getattr(request, "from").add(topic=topic, partition=partition, offset=offset)
        call = self._stub.Subscribe(request)
        self._calls.add(call)
        try:
            with mesh_errors(NAME):
                for chunk in call:
                    yield [_record(record) for record in chunk.records]
        except Exception:
            if not self._closing.is_set():
                raise
        finally:
            call.cancel()
            self._calls.discard(call)

    def ends(self, timeout: float) -> dict[Partition, End]:
        """The range of every partition. Raises Unavailable."""
        with mesh_errors(NAME):
            reply = self._stub.Ends(pb.EndsRequest(), timeout=timeout)
        return {(r.topic, r.partition): End(r.first, r.next, r.events) for r in reply.ranges}

    def aggregated(self, timeout: float) -> Positions:
        """The next offset that the aggregator reads of each of its input partitions. Raises Unavailable.

        All that came of the records before is in the log, within the ends that are asked for afterwards.
        """
        with mesh_errors(NAME):
            reply = self._stub.Aggregated(pb.AggregatedRequest(), timeout=timeout)
        return {(p.topic, p.partition): p.offset for p in reply.positions}

    def close(self) -> None:
        """End the subscriptions and the channel."""
        self._closing.set()
        for call in list(self._calls):
            call.cancel()
        self._channel.close()


def _record(record: pb.Record) -> Record:
    batch = Batch.of(events_pb2.Batch.FromString(record.batch))
    return Record(Topic(record.topic), record.partition, record.offset, record.accepted_ms, batch)


def read_all(log: RoadrunnerLog, positions: Positions, timeout: float) -> Iterator[list[Record]]:
    """Chunks of records from the positions to the log's present end, then stop. Raises Unavailable after `timeout`."""
    ends = {at: end.next for at, end in log.ends(timeout).items() if at in positions}
    missing = sum(max(0, end - positions[at]) for at, end in ends.items())
    started = time.monotonic()
    for chunk in log.subscribe(positions) if missing else ():
        wanted = [r for r in chunk if r.offset < ends[r.topic, r.partition]]
        missing -= len(wanted)
        yield wanted
        if not missing:
            return
        if time.monotonic() - started > timeout:
            raise Unavailable(f"{missing} records of the log were not read within {timeout} s")
