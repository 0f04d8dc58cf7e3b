"""The log on Kafka: a topic for each of the mesh's, a partition for each of its partitions, one record for each of its records.

Readers keep their positions with their data and use no consumer group. A writer is idempotent and waits for all replicas that
are in sync; its records carry its number and count (kafka_layout.py), so that readers notice a loss. Records are dated as they
are appended, so that Kafka never deletes one for the date of its events.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import closing
from typing import Any

from confluent_kafka import Consumer, Message, TopicCollection, TopicPartition

from protos import events_pb2
from services.core.batches import check_whole
from services.core.errors import DeadlineExceeded, NotReady, OutOfRange, Unavailable
from services.core.topics import INGEST, Topic
from services.log.history import LogHistory
from services.log.kafka_cluster import AGAIN_S, ASKING, ATTEMPT_S, META, NAMES, ClientLog, Cluster, offsets, waited
from services.log.kafka_layout import HEADER, Meta, header_of, meta_of
from services.log.protocol import End, Partition, Positions, Record

logger = logging.getLogger(__name__)
CHUNK = 256  # records that a reader gets in one chunk, at most
ASK_S = 10.0  # for what a subscription asks before it begins
LOOK_S = 0.2  # between looks whether it was closed, while nothing comes
#: Of a client that reads: positions are ours, and a fetch of what is empty holds up no other for long.
READING = {
    "group.id": "feedmesh",  # which the library asks for, though no group is joined
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "fetch.wait.max.ms": 100,
    "queued.max.messages.kbytes": 32_768,
    "fetch.message.max.bytes": 4 << 20,
    "check.crcs": True,
    "topic.metadata.propagation.max.ms": 3_000,
}
#: By the last part of a topic's name. INGEST is no topic of views.
TOPICS: dict[str, Any] = {name: Topic(number) if number != INGEST else number for number, name in NAMES.items()}


def record_of(message: Message) -> Record:
    """A record of a message. Raises Damaged for one that no writer of the mesh has made."""
    name, partition, offset = message.topic(), message.partition(), message.offset()
    where = f"Kafka topic {name} partition {partition} offset {offset}"
    head = next((value for key, value in message.headers() or () if key == HEADER), b"")
    writer, sequence, of = header_of(head, where)
    topic = TOPICS[name.rpartition(".")[2]]
    batch = events_pb2.Batch.FromString(message.value() or b"")
    check_whole(batch)
    return Record(topic, partition, offset, message.timestamp()[1], batch, of, writer, sequence)


class KafkaReader:
    """A `Reader` of the log on Kafka (services/log/protocol.py)."""

    def __init__(self, cluster: Cluster, topics: Collection[int] = tuple(Topic)) -> None:
        """topics: those whose ends it answers."""
        self._cluster, self._closing = cluster, threading.Event()
        self._all = cluster.every(topics)
        self._admin = cluster.admin()
        self._looking, self._lock = self._consumer(**ASKING), threading.Lock()
        self._meta: tuple[int, Meta] | None = None  # the end, and the record before it
        self._gone: NotReady | None = None

    def _consumer(self, **more: Any) -> Consumer:
        return Consumer(self._cluster.client(**more) | READING | {"error_cb": self._note}, logger=ClientLog())

    def _note(self, error: Any) -> None:
        """A topic that was deleted while it is read shows here alone."""
        logger.debug("%s: %s", self._cluster, error)
        known = self._cluster.error(error)
        if isinstance(known, NotReady):
            self._gone = known

    def history(self, timeout: float) -> LogHistory:
        """The identity of the log and its epochs. Raises Unavailable, DeadlineExceeded, NotReady for a log that is not there."""
        cluster, end = self._cluster, time.monotonic() + timeout
        identity = self._identity(end)
        meta = self.meta(end - time.monotonic())
        if meta is None:
            raise NotReady(f"{cluster}: topic {cluster.name(META)} is empty; `feedmesh log init` makes the log")
        if meta.partitions != cluster.partitions:
            raise NotReady(
                f"{cluster}: the log {cluster.prefix} was made with {meta.partitions} partitions, and [mesh] partitions = "
                f"{cluster.partitions}: use the number that it was made with, or another prefix"
            )
        if meta.of_ingest != cluster.ingest_partitions:
            raise NotReady(
                f"{cluster}: the log {cluster.prefix} was made with {meta.of_ingest} partitions of accepted batches, and [kafka] "
                f"ingest_partitions = {cluster.ingest_partitions}: use the number that it was made with, or another prefix"
            )
        return LogHistory(identity, meta.history())

    def _identity(self, end: float) -> bytes:
        """The log is these topics of this cluster. An attempt that fails may wait for a broker that died: the next is made by a
        client that begins with those that are there.
        """
        cluster = self._cluster
        while True:
            within = max(0.1, min(end - time.monotonic(), ATTEMPT_S))
            try:
                asked = self._admin.describe_topics(TopicCollection(cluster.names), request_timeout=within)
                found = waited(cluster, asked, within)
                with cluster.errors():
                    of = self._admin.describe_cluster(request_timeout=within).result(within).cluster_id
            except (DeadlineExceeded, Unavailable):
                if time.monotonic() + AGAIN_S > end:
                    raise
                time.sleep(AGAIN_S)
                self._admin = cluster.admin()
            else:
                ids = "".join(f"\n{name} {found[name].topic_id}" for name in sorted(found))
                return hashlib.sha256(f"{of}{ids}".encode()).digest()[:16]

    def meta(self, timeout: float) -> Meta | None:
        """The last record of the topic `meta`, read again when there is a newer one; None of an empty topic."""
        end, at = time.monotonic() + timeout, TopicPartition(self._cluster.name(META), 0)
        with self._lock, self._cluster.errors():
            low, high = offsets(self._cluster, self._looking, [(META, 0)], timeout)[META, 0]
            if low == high:
                return None
            if self._meta is None or self._meta[0] != high:
                at.offset = high - 1
                message = self._first([at], end)[at.topic, 0]
                self._meta = high, meta_of(message.value() or b"", at.topic)
            return self._meta[1]

    def subscribe(self, positions: Positions, epoch: int = 0) -> Iterator[list[Record]]:
        """Chunks of records from the positions on, until `close`. Raises OutOfRange, Unavailable."""
        history, at = self.history(ASK_S), TopicPartition(self._cluster.name(META), 0)
        if epoch not in (0, history.epoch):
            raise Unavailable("the log has begun another epoch; look at its history again")
        self._check(positions)
        self._gone = None
        with closing(self._consumer()) as consumer, self._cluster.errors():
            at.offset = self._meta[0] if self._meta else 0  # the end: what comes there begins another epoch
            consumer.assign([at, *self._cluster.places(positions)])
            while not self._closing.is_set():
                if self._gone is not None:
                    raise self._gone
                messages = [message for message in (consumer.poll(LOOK_S),) if message is not None]
                if messages:
                    messages += consumer.consume(CHUNK - 1, 0)
                    yield [record_of(message) for message in self._good(messages)]

    def _check(self, positions: Positions) -> None:
        for topic, partition in positions:
            partitions = self._cluster.partitions_of(topic)
            if topic not in NAMES or not 0 <= partition < partitions:
                topics = ", ".join(f"{number} {name}" for number, name in NAMES.items())
                raise OutOfRange(
                    f"no topic {topic} partition {partition}: topics are {topics}, partitions 0 to {partitions - 1}"
                )
        for at, (first, next_) in offsets(self._cluster, self._looking, positions, ASK_S).items():
            if not first <= positions[at] <= next_:
                raise OutOfRange(
                    f"topic {at[0]} partition {at[1]}: offset {positions[at]} is not in the log, which holds {first} to {next_}"
                )

    def _good(self, messages: list[Message]) -> list[Message]:
        for message in messages:
            if (error := message.error()) is not None:
                raise self._cluster.error(error)
            if message.topic() == self._cluster.name(META):
                raise Unavailable("the log has begun another epoch; look at its history again")
        return messages

    def ends(self, timeout: float, positions: Positions | None = None) -> dict[Partition, End]:
        """The range of every partition, with `End.oldest_ms` at these positions; events are not known. Raises Unavailable."""
        until = time.monotonic() + timeout
        ranges = offsets(self._cluster, self._looking, self._all, timeout)
        behind = {
            at: max(position, ranges[at][0])
            for at, position in (positions or {}).items()
            if at in ranges and position < ranges[at][1]
        }
        oldest = self._oldest(behind, until) if behind else {}
        return {at: End(first, next_, None, oldest.get(at, 0)) for at, (first, next_) in ranges.items()}

    def _oldest(self, behind: Positions, until: float) -> dict[Partition, int]:
        with self._lock, self._cluster.errors():
            found = self._first(self._cluster.places(behind), until)
        return {at: found[self._cluster.name(at[0]), at[1]].timestamp()[1] for at in behind}

    def _first(self, places: list[TopicPartition], until: float) -> dict[tuple[str, int], Message]:
        """The first message at or after each of these offsets. Raises DeadlineExceeded."""
        found: dict[tuple[str, int], Message] = {}
        self._looking.assign(places)
        try:
            while len(found) < len(places):
                message = self._looking.poll(max(0.0, until - time.monotonic()))
                if message is None:
                    raise DeadlineExceeded(f"{self._cluster}: gave no answer in time")
                if message.error() is not None:
                    raise self._cluster.error(message.error())
                at = (message.topic(), message.partition())
                if at not in found:
                    found[at] = message
                    self._looking.pause([TopicPartition(*at)])
        finally:
            self._looking.resume(places)  # or they would stay paused when they are assigned again
            self._looking.unassign()
        return found

    def close(self) -> None:
        """End the subscriptions."""
        self._closing.set()
        with self._lock:
            self._looking.close()
