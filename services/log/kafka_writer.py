"""What appends to the log on Kafka: an idempotent producer, whose delivery reports decide.

Each record is acknowledged by itself: after an error some of an append may be there. So what is appended again must be known by
the ids of its events, or by its provenance.

The producer never gives up a record: one that is not acknowledged in time may still be appended, in its order, for as long as the
process lives. So a writer leaves no number out, whatever its callers waited for. Where the library itself refuses a record
afterwards, it refuses all that follow, and a new producer with a new number takes its place.
"""

import itertools
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import KafkaException, Producer

from services.core.errors import DeadlineExceeded, Exhausted, InvalidArgument, MeshError, Unavailable
from services.core.topics import Topic
from services.log.history import new_number
from services.log.kafka_cluster import MAX_RECORD, ClientLog, Cluster
from services.log.kafka_layout import HEADER, header
from services.log.protocol import Draft, Partition, Provenance, check_drafts

logger = logging.getLogger(__name__)
WRITING = {
    "enable.idempotence": True,
    "enable.gapless.guarantee": True,
    "acks": "all",
    "message.timeout.ms": 0,  # never: what a caller no longer waits for may be appended later, and leaves no gap
    "compression.type": "zstd",
    "message.max.bytes": MAX_RECORD + 65_536,  # a record and its head
    "linger.ms": 1,
    "request.timeout.ms": 4_000,
    "queue.buffering.max.messages": 200_000,
    "queue.buffering.max.kbytes": 256 << 10,
    "retry.backoff.ms": 50,
    "topic.metadata.propagation.max.ms": 3_000,
}
MOST_WAITING = 100_000  # records that are not acknowledged yet; more are shed
STALLED_S = 5.0  # Kafka has acknowledged nothing for so long, though something waits: more is refused at once
POLL_S = 0.1
CLOSE_S = 5.0

Answer = Callable[["list[int] | MeshError"], object]


class Serialised(NamedTuple):
    """A record to append, its batch serialised."""

    topic: int
    partition: int
    value: bytes
    provenance: Provenance | None = None


class _Began(NamedTuple):
    """A producer, the number under which it writes, the next sequence of each partition, and what it has not decided yet."""

    producer: Producer
    number: int
    next: "defaultdict[Partition, int]"
    undecided: "dict[int, tuple[_Sent, int]]"


class KafkaWriter:
    """A `Writer` of the log on Kafka (services/log/protocol.py). Thread-safe."""

    def __init__(self, cluster: Cluster, topics: Collection[int] = tuple(Topic)) -> None:
        """topics: those that it may write to."""
        self._cluster, self._topics = cluster, frozenset(int(topic) for topic in topics)
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._moved = time.monotonic()  # when something was acknowledged, or began to wait with nothing before it
        self._until, self._count = 0.0, itertools.count()
        self._now = self._begin()
        self._thread = threading.Thread(target=self._poll, name="kafka writer", daemon=True)
        self._thread.start()

    def _begin(self) -> _Began:
        return _Began(
            Producer(self._cluster.client() | WRITING, logger=ClientLog()), new_number(), defaultdict(int), {}
        )

    @property
    def number(self) -> int:
        """The number under which it writes now."""
        return self._now.number

    def append(self, drafts: Sequence[Draft], timeout: float) -> list[int]:
        """Append records; their offsets, once all replicas in sync have them. After an error some may be there.

        Raises InvalidArgument for a topic or partition that is not there or a record that is too large, Exhausted, Unavailable,
        and DeadlineExceeded when they may still be appended.
        """
        check_drafts(drafts, self._cluster.partitions)
        return self.send(
            [
                Serialised(int(d.topic), d.partition, d.batch.to_proto().SerializeToString(), d.provenance)
                for d in drafts
            ],
            timeout,
        )

    def send(self, records: Sequence[Serialised], timeout: float) -> list[int]:
        """As `append`, of records that are serialised."""
        done, found = threading.Event(), list[list[int] | MeshError]()

        def answer(result: list[int] | MeshError) -> None:
            found.append(result)
            done.set()

        self.submit(records, answer)
        if not done.wait(timeout):
            raise DeadlineExceeded(
                f"{self._cluster}: not acknowledged within {timeout:.1f} s; it may still be appended"
            )
        if isinstance(found[0], MeshError):
            raise found[0]
        return found[0]

    def submit(self, records: Sequence[Serialised], answer: Answer) -> None:
        """Have records appended; `answer` is called with their offsets or an error, on the writer's thread, once all are decided.

        Raises InvalidArgument, Exhausted and Unavailable, and has appended none then.
        """
        if not records:
            answer([])
            return
        for record in records:
            partitions = self._cluster.partitions_of(record.topic)
            if record.topic not in self._topics or not 0 <= record.partition < partitions:
                raise InvalidArgument(
                    f"topic {record.topic} partition {record.partition}: topics are {sorted(self._topics)}, partitions 0 to "
                    f"{partitions - 1}"
                )
            if len(record.value) > MAX_RECORD:
                raise InvalidArgument(f"a record of {len(record.value)} bytes: allowed are {MAX_RECORD}")
        sent = _Sent(len(records), answer)
        with self._lock:
            self._check_room(len(records))
            for i, record in enumerate(records):
                self._produce(sent, i, record)

    def _check_room(self, more: int) -> None:
        waiting = len(self._now.undecided)
        if self._closing.is_set():
            raise Unavailable("the log's writer is closed")
        if waiting + more > MOST_WAITING:
            raise Exhausted(f"{self._cluster}: {waiting} records are not acknowledged yet; try again in a moment")
        if not waiting:
            self._moved = time.monotonic()
        elif time.monotonic() - self._moved > STALLED_S:
            raise Unavailable(f"{self._cluster}: has acknowledged nothing for {STALLED_S:.0f} s")

    def _produce(self, sent: "_Sent", i: int, record: Serialised) -> None:
        at, now, key = (record.topic, record.partition), self._now, next(self._count)
        try:
            now.producer.produce(
                self._cluster.name(record.topic),
                record.value,
                partition=record.partition,
                headers=[(HEADER, header(now.number, now.next[at], record.provenance))],
                on_delivery=partial(self._delivered, now, key),
            )
        except BufferError:
            sent.decide(i, Exhausted(f"{self._cluster}: takes no more records until it has acknowledged some"))
        except KafkaException as error:
            sent.decide(i, self._cluster.error(error.args[0]))
        else:
            now.next[at] += 1
            now.undecided[key] = (sent, i)

    def _delivered(self, of: _Began, key: int, error: Any, message: Any) -> None:
        """On the polling thread."""
        with self._lock:
            found = of.undecided.pop(key, None)
            self._moved = time.monotonic()
        if found is not None:
            sent, i = found
            sent.decide(i, message.offset() if error is None else self._cluster.error(error))

    def _poll(self) -> None:
        while not self._closing.is_set() or (self._now.undecided and time.monotonic() < self._until):
            try:
                self._now.producer.poll(POLL_S)
            except (
                KafkaException,
                SystemError,
            ) as error:  # of a producer that failed for good: it can do nothing any more
                self._replace(error)

    def _replace(self, error: Exception) -> None:
        """A new producer begins, at its own zero. What the one before had in hand is answered: it may be there or not."""
        with self._lock:
            before, self._now = self._now, self._begin()
        why = str(error.__cause__ or error)
        logger.error("%s: %s; a new producer begins", self._cluster, why)
        self._end(before, Unavailable(f"{self._cluster}: it may still be appended, or not: {why}"))

    def _end(self, of: _Began, why: MeshError) -> None:
        with suppress(KafkaException, SystemError):
            of.producer.purge()
            of.producer.flush(CLOSE_S)
        for key in list(of.undecided):
            with self._lock:
                found = of.undecided.pop(key, None)
            if found is not None:
                found[0].decide(found[1], why)

    def close(self) -> None:
        """Wait a moment for what is not acknowledged yet, then end. What is left is answered with an error."""
        self._until = time.monotonic() + CLOSE_S
        self._closing.set()
        self._thread.join()
        self._end(self._now, Unavailable(f"{self._cluster}: not acknowledged when its writer ended"))


class _Sent:
    """Records that were sent together, as they are decided one by one."""

    def __init__(self, count: int, answer: Answer) -> None:
        self._offsets: list[int] = [-1] * count
        self._left, self._answer, self._lock = count, answer, threading.Lock()
        self._error: MeshError | None = None

    def decide(self, i: int, result: int | MeshError) -> None:
        """The offset of a record, or why it has none."""
        with self._lock:
            self._left -= 1
            if isinstance(result, MeshError):
                self._error = self._error or result
            else:
                self._offsets[i] = result
            last = not self._left
        if last:
            self._answer(self._offsets if self._error is None else self._error)
