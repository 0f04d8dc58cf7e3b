"""RPCs of roadrunner: the ingest API, and the log as a stream."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from protos import roadrunner_pb2 as pb
from protos import roadrunner_pb2_grpc as rpc
from protos.events_pb2 import Batch
from roadrunner.answers import Answers
from roadrunner.committer import Committer
from roadrunner.intake import check
from roadrunner.store import EventLog, PublishResult
from roadrunner.stored import StoredRecord
from services.core import context, tokens
from services.core.clock import Clock
from services.core.errors import InvalidArgument, MeshError, Unavailable
from services.core.probes import probe
from services.log.protocol import Positions

MAX_EVENTS = 100_000
WITHIN_S = 10.0  # for a caller without a deadline
LATE = "not on disk within the deadline; publish again with the same ids"


class Roadrunner(rpc.RoadrunnerServicer):
    """Translates between the wire and the log. On asyncio: a publish waits for its group without holding a thread."""

    def __init__(self, log: EventLog, committer: Committer, clock: Clock, max_ahead_ms: int) -> None:
        self._log, self._committer = log, committer
        self._clock, self._max_ahead_ms = clock, max_ahead_ms
        self._closing, self._streams = False, set[asyncio.Event]()
        self._answers: Answers[PublishResult] = Answers()

    async def Publish(self, request: pb.PublishRequest, context_: Any) -> pb.PublishReply:
        """Validate, append, acknowledge."""
        return await self._acknowledged(checked(request.batch, self._clock(), self._max_ahead_ms))

    async def Probe(self, request: pb.ProbeRequest, context_: Any) -> pb.PublishReply:
        """Append the events of a turn, which alone may name reserved ids."""
        batch = probe(request.turn, request.at_ms).to_proto()
        check(batch, self._clock(), self._max_ahead_ms, own=True)
        return await self._acknowledged(batch)

    async def _acknowledged(self, batch: Batch) -> pb.PublishReply:
        """Raises DeadlineExceeded when it was not on disk in time: then it may still be accepted."""
        serving = context.current()
        submit = partial(self._committer.submit, batch)
        published = await self._answers.wait(submit, serving.remaining() if serving else WITHIN_S, LATE)
        return pb.PublishReply(
            accepted=published.accepted,
            duplicates=published.duplicates,
            token=tokens.encode(published.reached, self._log.history.epoch),
        )

    async def Subscribe(self, request: pb.SubscribeRequest, context_: Any) -> AsyncIterator[pb.Records]:
        """Stream records until the reader goes, or this process drains."""
        positions = {(p.topic, p.partition): p.offset for p in getattr(request, "from")}
        try:
            if not positions:
                raise InvalidArgument("from: name at least one topic, partition and offset")
            if request.epoch not in (0, self._log.history.epoch):
                raise Unavailable("the log has begun another epoch; look at its history again")
            async for records in self._records(positions):
                yield _wire(records)
        except MeshError as error:
            self._log.database.noticed(error)
            await context_.abort(error.status, str(error))

    async def _records(self, positions: Positions) -> AsyncIterator[list[StoredRecord]]:
        loop, grown = asyncio.get_running_loop(), asyncio.Event()
        with self._log.watching(positions, lambda: loop.call_soon_threadsafe(grown.set)):
            self._streams.add(grown)
            try:
                while not self._closing:
                    grown.clear()
                    records = await asyncio.to_thread(self._log.read, positions)
                    if not records:
                        await grown.wait()
                        continue
                    for record in records:
                        positions[record.topic, record.partition] = record.offset + 1
                    yield records
            finally:
                self._streams.discard(grown)

    async def Ends(self, request: pb.EndsRequest, context_: Any) -> pb.EndsReply:
        """The range of every partition, and when what is to be read of those asked about was accepted."""
        ends = self._log.ends()
        behind = {
            at: p.offset for p in request.at if (at := (p.topic, p.partition)) in ends and p.offset < ends[at].next
        }
        oldest = await asyncio.to_thread(self._log.oldest_ms, behind) if behind else {}
        return pb.EndsReply(
            ranges=[
                pb.Range(
                    topic=at[0],
                    partition=at[1],
                    first=of.first,
                    next=of.next,
                    events=of.events or 0,  # which this log counts
                    oldest_ms=oldest.get(at, 0),
                )
                for at, of in ends.items()
            ]
        )

    async def History(self, request: pb.LogHistoryRequest, context_: Any) -> pb.LogHistoryReply:
        """The identity of the log and its epochs."""
        history = self._log.history
        epochs = [
            pb.Epoch(
                number=number, starts=[pb.Position(topic=t, partition=p, offset=o) for (t, p), o in starts.items()]
            )
            for number, starts in history.epochs
        ]
        return pb.LogHistoryReply(identity=history.identity, epochs=epochs)

    async def Aggregated(self, request: pb.AggregatedRequest, context_: Any) -> pb.AggregatedReply:
        """How far the aggregator has come."""
        reached = self._log.aggregated(synced=True).items()
        return pb.AggregatedReply(
            positions=[pb.Position(topic=t, partition=p, offset=aggregated.next) for (t, p), aggregated in reached]
        )

    def close(self) -> None:
        """End the streams. To be called on the event loop that serves."""
        self._closing = True
        for grown in self._streams:
            grown.set()


def checked(batch: Batch, now_ms: int, max_ahead_ms: int) -> Batch:
    """A published batch, if it may be accepted. Raises InvalidArgument."""
    if batch.n > MAX_EVENTS:
        raise InvalidArgument(f"batch.n = {batch.n}: at most {MAX_EVENTS} events a batch")
    check(batch, now_ms, max_ahead_ms)
    return batch


def _wire(records: list[StoredRecord]) -> pb.Records:
    return pb.Records(
        records=[
            pb.Record(
                topic=r.topic,
                partition=r.partition,
                offset=r.offset,
                accepted_ms=r.accepted_ms,
                batch=r.batch,
                provenance=r.provenance and pb.Provenance(**r.provenance._asdict()),
            )
            for r in records
        ]
    )
