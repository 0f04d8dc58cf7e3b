"""RPCs of roadrunner: the front door, and the log as a stream."""

import threading
from collections.abc import Iterator
from typing import Any

from protos import roadrunner_pb2 as pb
from protos import roadrunner_pb2_grpc as rpc
from roadrunner.audit import Audit
from roadrunner.committer import Committer
from roadrunner.store import EventLog
from services import context, tokens
from services.clock import Clock
from services.errors import InvalidArgument, MeshError
from services.events import Batch, validate

MAX_EVENTS = 100_000
WAIT_S = 0.5  # how long a stream sleeps at the end of the log before it looks whether its reader is still there


class Roadrunner(rpc.RoadrunnerServicer):
    """Translates between the wire and the log."""

    def __init__(self, log: EventLog, committer: Committer, audit: Audit, clock: Clock, max_ahead_ms: int) -> None:
        self._log, self._committer, self._audit = log, committer, audit
        self._clock, self._max_ahead_ms = clock, max_ahead_ms
        self._closing = threading.Event()

    def Publish(self, request: pb.PublishRequest, context_: Any) -> pb.PublishReply:
        """Validate, append, acknowledge."""
        if request.batch.n > MAX_EVENTS:
            raise InvalidArgument(f"batch.n = {request.batch.n}: at most {MAX_EVENTS} events a batch")
        batch = Batch.of(request.batch)
        validate(batch, self._clock(), self._max_ahead_ms)
        serving = context.current()
        published = self._committer.publish(batch, serving.remaining() if serving else 10.0)
        return pb.PublishReply(
            accepted=published.accepted, duplicates=published.duplicates, token=tokens.encode(published.reached)
        )

    def Subscribe(self, request: pb.SubscribeRequest, context_: Any) -> Iterator[pb.Records]:
        """Stream records until the reader goes, or this process drains."""
        positions = {(p.topic, p.partition): p.offset for p in getattr(request, "from")}
        try:
            if not positions:
                raise InvalidArgument("from: name at least one topic, partition and offset")
            while context_.is_active() and not self._closing.is_set():
                records = self._log.read(positions)
                if not records:
                    self._log.wait(positions, WAIT_S)
                    continue
                for record in records:
                    positions[record.topic, record.partition] = record.offset + 1
                yield pb.Records(
                    records=[
                        pb.Record(
                            topic=r.topic,
                            partition=r.partition,
                            offset=r.offset,
                            accepted_ms=r.accepted_ms,
                            batch=r.batch,
                        )
                        for r in records
                    ]
                )
        except MeshError as error:
            context_.abort(error.status, str(error))

    def Ends(self, request: pb.EndsRequest, context_: Any) -> pb.EndsReply:
        """The range of every partition."""
        return pb.EndsReply(
            ranges=[
                pb.Range(topic=topic, partition=partition, first=end.first, next=end.next, events=end.events)
                for (topic, partition), end in self._log.ends().items()
            ]
        )

    def Freshness(self, request: pb.FreshnessRequest, context_: Any) -> pb.FreshnessReply:
        """What the audit measured."""
        return pb.FreshnessReply(
            views=[
                pb.ViewFreshness(
                    view=name, last_ms=f.last_ms, p50_ms=f.p50_ms, p99_ms=f.p99_ms, samples=f.samples, lost=f.lost
                )
                for name, f in sorted(self._audit.freshness().items())
            ]
        )

    def close(self) -> None:
        """End the streams."""
        self._closing.set()
