"""A member of a consumer group: Kafka places the partitions of one topic over those who work on it.

What is committed for a partition is how far the work has come, and up to where its next piece goes, if that was decided. A member
that was taken for dead can commit nothing any more: its group has gone on without it.
"""

import logging
from collections.abc import Callable, Collection, Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition

from services.core.errors import MeshError
from services.log.kafka import CHUNK, READING, record_of
from services.log.kafka_cluster import ClientLog, Cluster
from services.log.protocol import Noted, Record

logger = logging.getLogger(__name__)
CALL_S = 10.0  # for what Kafka is asked while partitions are placed
MEMBER = {
    "partition.assignment.strategy": "range",
    "session.timeout.ms": 10_000,  # a member that is silent for so long has died; a started one with its name takes over before
    "heartbeat.interval.ms": 1_000,
    "max.poll.interval.ms": 120_000,
}


class KafkaGroup:
    """A member of a group that works on one topic, once it has joined. It reads the partitions of the others too, to be able to
    take them over.
    """

    def __init__(
        self,
        cluster: Cluster,
        group: str,
        topic: int,
        member: str,
        placed: Callable[[Collection[int]], Mapping[int, int]],
        revoked: Callable[[], None],
    ) -> None:
        """member: a name that a process keeps when it starts again, so that its partitions wait for it.

        placed: is given the partitions that this member has now, and says from where to read each that it wants to; revoked: they
        are another's from now on. Both are called within `poll`.
        """
        self._cluster, self._topic, self._name = cluster, topic, cluster.name(topic)
        self._placed, self._revoked = placed, revoked
        self._failed: Exception | None = None
        self._paused = frozenset[int]()
        more = {"group.id": f"{cluster.prefix}.{group}", "group.instance.id": member}
        self._consumer = Consumer(cluster.client() | READING | MEMBER | more, logger=ClientLog())

    def join(self) -> None:
        """Be a member from now on."""
        self.pause(())
        with self._cluster.errors():
            self._consumer.unassign()
            self._consumer.subscribe([self._name], on_assign=self._assign, on_revoke=self._revoke, on_lost=self._revoke)

    def read(self, starts: Mapping[int, int]) -> None:
        """Read these partitions from there on, and no others."""
        self.pause(())
        with self._cluster.errors():
            self._consumer.assign([TopicPartition(self._name, partition, at) for partition, at in starts.items()])

    def noted(self) -> dict[int, Noted]:
        """What is noted of every partition, by whichever member."""
        places = [TopicPartition(self._name, p) for p in range(self._cluster.partitions_of(self._topic))]
        with self._cluster.errors():
            committed = self._consumer.committed(places, timeout=CALL_S)
        for place in committed:
            if place.error is not None:
                raise self._cluster.error(place.error)
        return {place.partition: _noted(place.offset, place.metadata) for place in committed}

    def pause(self, partitions: Collection[int]) -> None:
        """Read no more of these for now, and go on with all others. What is paused stays so when it is assigned again."""
        wanted = frozenset(partitions)
        with self._cluster.errors():
            for change, to in (
                (self._consumer.pause, wanted - self._paused),
                (self._consumer.resume, self._paused - wanted),
            ):
                if to:
                    change([TopicPartition(self._name, partition) for partition in sorted(to)])
        self._paused = wanted

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """An exception here would be lost: `poll` raises it."""
        try:
            self.read(self._placed([place.partition for place in partitions]))
        except Exception as error:
            self._failed = error

    def _revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._revoked()
        try:
            self.pause(())
            with self._cluster.errors():
                consumer.unassign()
        except MeshError as error:
            self._failed = error

    def poll(self, timeout: float) -> list[Record]:
        """Records of the partitions that this member reads, in order within each; none after `timeout` seconds without any."""
        with self._cluster.errors():
            messages = [message for message in (self._consumer.poll(timeout),) if message is not None]
            if messages:
                messages += self._consumer.consume(CHUNK - 1, 0)
        if self._failed is not None:
            raise self._failed
        for message in messages:
            if message.error() is not None:
                raise self._cluster.error(message.error())
        return [record_of(message) for message in messages]

    def commit(self, noted: Mapping[int, Noted]) -> None:
        """Note how far the work has come. Raises MeshError when it could not be noted, as by a member of before."""
        places = [TopicPartition(self._name, p, of.next, f"{of.until} {of.epoch:x}") for p, of in noted.items()]
        with self._cluster.errors():
            for place in self._consumer.commit(offsets=places, asynchronous=False) or ():  # raises, or says so of each
                if place.error is not None:
                    raise self._cluster.error(place.error)

    def close(self) -> None:
        """Read no more. The partitions wait a moment for a member of the same name."""
        try:
            self._consumer.close()
        except (KafkaException, RuntimeError) as error:
            logger.debug("closing: %s", error)


def _noted(offset: int, metadata: str | None) -> Noted:
    """What was committed; other tools, as one that sets offsets back, write no metadata."""
    until, _, epoch = (metadata or "").partition(" ")
    return Noted(max(0, offset), int(until or 0), int(epoch or "0", 16))
