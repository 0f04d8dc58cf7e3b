"""The embedded log, which roadrunner keeps on RocksDB, as its readers see it: over gRPC."""

import threading
from collections.abc import Iterator
from typing import Any

from grpc.experimental import ChannelOptions

from protos import events_pb2, roadrunner_pb2_grpc
from protos import roadrunner_pb2 as pb
from services.core.batches import check_whole
from services.core.topics import Topic
from services.log.history import Epoch, LogHistory
from services.log.protocol import End, Partition, Positions, Provenance, Record
from services.rpc.channel import mesh_errors, open_sync
from services.rpc.membership import Following, Members
from services.rpc.mesh import Mesh

NAME = "roadrunner"
#: A thread that reads a stream waits on the call itself: waiting on a lock for the thread that does, as gRPC otherwise has it,
#: wakes ten times a second for as long as nothing comes.
STREAMING = [(ChannelOptions.SingleThreadedUnaryStream, 1)]


class EmbeddedReader:
    """A `Reader` of the embedded log (services/log/protocol.py)."""

    def __init__(self, mesh: Mesh) -> None:
        self._following, self._lock = Following(mesh.membership), threading.Lock()
        self._credentials = mesh.credentials
        self._open(self._following.members)
        self._calls: set[Any] = set()
        self._left: list[Any] = []  # channels of certificates of before, with subscriptions that go on
        self._closing = threading.Event()

    def _open(self, members: Members) -> None:
        self._address = members.of(NAME)[0].address
        self._version = self._credentials.version if self._credentials else 0
        self._channel = open_sync(self._address, NAME, self._credentials, STREAMING)
        self._opened: Any = roadrunner_pb2_grpc.RoadrunnerStub(self._channel)

    @property
    def _stub(self) -> Any:
        """Of the process that keeps the log now. A stream of the one before ends with an error, and is asked for anew."""
        with self._lock:
            news = self._following.news()
            if news is not None and news.has_whole(NAME) and news.of(NAME)[0].address != self._address:
                before = self._channel
                self._open(news)
                before.close()
            elif self._credentials is not None and self._credentials.version != self._version:
                self._left.append(self._channel)
                self._open(self._following.members)
            return self._opened

    def history(self, timeout: float) -> LogHistory:
        """The identity of the log and its epochs. Raises Unavailable."""
        with mesh_errors(NAME):
            reply = self._stub.History(pb.LogHistoryRequest(), timeout=timeout)
        starts = ({(p.topic, p.partition): p.offset for p in epoch.starts} for epoch in reply.epochs)
        epochs = [Epoch(epoch.number, of) for epoch, of in zip(reply.epochs, starts, strict=True)]
        return LogHistory(reply.identity, epochs)

    def subscribe(self, positions: Positions, epoch: int = 0) -> Iterator[list[Record]]:
        """Chunks of records from the positions on, until `close`. Raises OutOfRange, Unavailable."""
        request = pb.SubscribeRequest(epoch=epoch)
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

    def ends(self, timeout: float, positions: Positions | None = None) -> dict[Partition, End]:
        """The range of every partition, with `End.oldest_ms` at these positions. Raises Unavailable."""
        request = pb.EndsRequest()
        for (topic, partition), offset in (positions or {}).items():
            request.at.add(topic=topic, partition=partition, offset=offset)
        with mesh_errors(NAME):
            reply = self._stub.Ends(request, timeout=timeout)
        return {(r.topic, r.partition): End(r.first, r.next, r.events, r.oldest_ms) for r in reply.ranges}

    def close(self) -> None:
        """End the subscriptions and the channel."""
        self._closing.set()
        self._following.close()
        for call in list(self._calls):
            call.cancel()
        for channel in (*self._left, self._channel):
            channel.close()


def _record(record: pb.Record) -> Record:
    batch = events_pb2.Batch.FromString(record.batch)
    check_whole(batch)
    of = None
    if record.HasField("provenance"):
        stated = record.provenance
        of = Provenance(stated.topic, stated.partition, stated.offset, stated.part)
    return Record(Topic(record.topic), record.partition, record.offset, record.accepted_ms, batch, of)
