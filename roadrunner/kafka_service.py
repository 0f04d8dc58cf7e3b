"""RPCs of roadrunner where the log is on Kafka: the ingest API. The log itself is read from Kafka."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from protos import roadrunner_pb2 as pb
from protos import roadrunner_pb2_grpc as rpc
from protos.events_pb2 import Batch
from roadrunner.accepting import Shape, accepted, reached
from roadrunner.answers import Answers
from roadrunner.intake import check
from roadrunner.service import WITHIN_S, checked
from services.core import context, tokens
from services.core.clock import Clock
from services.core.errors import Unimplemented
from services.core.probes import probe
from services.core.topics import INGEST
from services.log.kafka_writer import KafkaWriter, Serialised

LATE = "not acknowledged by Kafka within the deadline; publish again with the same ids"
ELSEWHERE = "the log is on Kafka; read it there (services/log/kafka.py)"
Positions = Callable[[], Mapping[tuple[int, int], int]]


class KafkaRoadrunner(rpc.RoadrunnerServicer):
    """Validates batches and appends them to `ingest`. Any number of processes may do so: none owns anything."""

    def __init__(
        self,
        writer: KafkaWriter,
        shape: Shape,
        epoch: Callable[[], int],
        clock: Clock,
        max_ahead_ms: int,
        stages: Positions,
    ) -> None:
        """epoch: of the log, for tokens; stages: by topic and partition, how far what this process makes of them has come."""
        self._writer, self._shape, self._epoch = writer, shape, epoch
        self._clock, self._max_ahead_ms, self._stages = clock, max_ahead_ms, stages
        self._answers: Answers[list[int]] = Answers()

    async def Publish(self, request: pb.PublishRequest, context_: Any) -> pb.PublishReply:
        """Validate, append, acknowledge. Which events were known already is not known yet."""
        return await self._acknowledged(checked(request.batch, self._clock(), self._max_ahead_ms))

    async def Probe(self, request: pb.ProbeRequest, context_: Any) -> pb.PublishReply:
        """Append the events of a turn, which alone may name reserved ids."""
        batch = probe(request.turn, request.at_ms).to_proto()
        check(batch, self._clock(), self._max_ahead_ms, own=True)
        return await self._acknowledged(batch)

    async def _acknowledged(self, batch: Batch) -> pb.PublishReply:
        """Raises DeadlineExceeded when it was not acknowledged in time: then it may still be accepted."""
        serving, records = context.current(), accepted(batch, self._shape)
        sent = [Serialised(INGEST, of.partition, of.batch.SerializeToString()) for of in records]
        offsets = await self._answers.wait(
            lambda answer, gone: self._writer.submit(sent, answer), serving.remaining() if serving else WITHIN_S, LATE
        )
        token = tokens.encode(reached(records, offsets), self._epoch())
        return pb.PublishReply(accepted=batch.n, token=token)

    async def Aggregated(self, request: pb.AggregatedRequest, context_: Any) -> pb.AggregatedReply:
        """How far what this process makes of `ingest` and OBJECTS has come, in the partitions that it has now."""
        positions = [pb.Position(topic=t, partition=p, offset=offset) for (t, p), offset in self._stages().items()]
        return pb.AggregatedReply(positions=positions)

    async def Subscribe(self, request: pb.SubscribeRequest, context_: Any) -> AsyncIterator[pb.Records]:
        """Of the embedded log alone."""
        await context_.abort(Unimplemented.status, ELSEWHERE)
        yield pb.Records()

    async def Ends(self, request: pb.EndsRequest, context_: Any) -> pb.EndsReply:
        """Of the embedded log alone."""
        raise Unimplemented(ELSEWHERE)

    async def History(self, request: pb.LogHistoryRequest, context_: Any) -> pb.LogHistoryReply:
        """Of the embedded log alone."""
        raise Unimplemented(ELSEWHERE)
