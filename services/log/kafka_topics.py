"""The topics of a log on Kafka: made and checked by `feedmesh log init`."""

import time
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from services.core.errors import Conflict, DeadlineExceeded, InvalidArgument, NotReady, Unavailable
from services.core.settings import KafkaSettings
from services.core.topics import INGEST
from services.log.history import KEPT, new_number
from services.log.kafka import KafkaReader
from services.log.kafka_cluster import MAX_RECORD, META, NAMES, Cluster, waited
from services.log.kafka_layout import META_KEY, Meta, began, meta_value

HOUR_MS = 3_600_000
LEAST_INGEST_HOURS = 48  # an event is known again for a day


class Wanted(NamedTuple):
    """A topic as it must be: how many partitions, and its settings."""

    partitions: int
    config: dict[str, str]


def wanted(cluster: Cluster) -> dict[str, Wanted]:
    """Every topic of the log, by name. Raises InvalidArgument for settings that contradict each other."""
    settings = cluster.settings
    _check(settings)
    common = {
        "message.timestamp.type": "LogAppendTime",  # or Kafka would delete a record for the date of its events
        "max.message.bytes": str(MAX_RECORD + (1 << 20)),
        "min.insync.replicas": str(settings.min_insync_replicas),
        "unclean.leader.election.enable": "false",
        "compression.type": "producer",
    }
    topics = {cluster.name(META): Wanted(1, common | {"cleanup.policy": "compact"})}
    for number in NAMES:
        hours = settings.ingest_retention_hours if number == INGEST else settings.retention_hours
        retention = {"retention.ms": str(hours * HOUR_MS if hours > 0 else -1), "retention.bytes": "-1"}
        topics[cluster.name(number)] = Wanted(
            cluster.partitions_of(number), common | {"cleanup.policy": "delete"} | retention
        )
    return topics


def _check(settings: KafkaSettings) -> None:
    if settings.min_insync_replicas > settings.replication_factor:
        raise InvalidArgument(
            f"[kafka] min_insync_replicas = {settings.min_insync_replicas}: allowed are 1 to the replication_factor, "
            f"{settings.replication_factor}"
        )
    if settings.retention_hours == 0:
        raise InvalidArgument("[kafka] retention_hours = 0: allowed are -1, without limit, and 1 or more")
    if settings.ingest_retention_hours != -1 and settings.ingest_retention_hours < LEAST_INGEST_HOURS:
        raise InvalidArgument(
            f"[kafka] ingest_retention_hours = {settings.ingest_retention_hours}: allowed are -1, without limit, and "
            f"{LEAST_INGEST_HOURS} or more"
        )


def make(cluster: Cluster, timeout: float) -> list[str]:
    """Make what is missing of the log's topics, and its first epoch; the names of those made.

    Raises Conflict for a topic that is there and otherwise than it must be, InvalidArgument for settings that the cluster
    refuses, Unavailable, DeadlineExceeded.
    """
    admin, topics = cluster.admin(), wanted(cluster)
    there = _described(cluster, admin, timeout)
    missing = [name for name in topics if name not in there]
    for name in missing:
        _create(cluster, admin, name, topics[name], timeout)
    end = time.monotonic() + timeout
    while missing and not _are_led(cluster, admin, list(topics), timeout) and time.monotonic() < end:
        time.sleep(0.05)  # brokers hear of a new topic one after the other
    check(cluster, timeout)
    reader = KafkaReader(cluster)
    try:
        if reader.meta(timeout) is None:
            begin_epoch(cluster, timeout)
    finally:
        reader.close()
    return missing


def _are_led(cluster: Cluster, admin: AdminClient, names: list[str], timeout: float) -> bool:
    """Whether every partition of all topics is there and has a broker that leads it."""
    if len(_described(cluster, admin, timeout)) < len(names):
        return False
    reader = KafkaReader(cluster, NAMES)
    try:
        reader.ends(timeout)
        reader.meta(timeout)
    except (NotReady, Unavailable):  # the broker that was asked has not heard of a topic yet
        return False
    finally:
        reader.close()
    return True


def _create(cluster: Cluster, admin: AdminClient, name: str, topic: Wanted, timeout: float) -> None:
    new = NewTopic(name, topic.partitions, cluster.settings.replication_factor, config=topic.config)
    try:
        admin.create_topics([new], operation_timeout=timeout, request_timeout=timeout)[name].result(timeout)
    except KafkaException as error:
        reason = error.args[0]
        if reason.code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return  # another `log init` was quicker; what it made is checked
        if reason.code() in (
            KafkaError.INVALID_REPLICATION_FACTOR,
            KafkaError.INVALID_CONFIG,
            KafkaError.POLICY_VIOLATION,
        ):
            raise InvalidArgument(
                f"{cluster}: topic {name} can't be made with [kafka] replication_factor = "
                f"{cluster.settings.replication_factor}: {reason.str()}"
            ) from None
        raise cluster.error(reason) from None
    except TimeoutError:
        raise DeadlineExceeded(f"{cluster}: topic {name} was not made within {timeout:.0f} s") from None


def _described(cluster: Cluster, admin: AdminClient, timeout: float) -> dict[str, int]:
    """Partitions of those of the log's topics that are there."""
    found = {}
    asked = admin.describe_topics(TopicCollection(cluster.names), request_timeout=timeout)
    for name, future in asked.items():
        try:
            found[name] = len(future.result(timeout).partitions)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise cluster.error(error.args[0]) from None
        except TimeoutError:  # of the future
            raise DeadlineExceeded(f"{cluster}: gave no answer in time") from None
    return found


def check(cluster: Cluster, timeout: float) -> None:
    """Raise Conflict naming topic, setting, value and what is allowed, if a topic of the log is missing or otherwise."""
    admin, topics = cluster.admin(), wanted(cluster)
    there = _described(cluster, admin, timeout)
    for name, topic in topics.items():
        if name not in there:
            raise Conflict(f"{cluster}: topic {name} is missing; `feedmesh log init` makes it")
        if there[name] != topic.partitions:
            setting = "[kafka] ingest_partitions" if name == cluster.name(INGEST) else "[mesh] partitions"
            raise Conflict(
                f"{cluster}: topic {name} has {there[name]} partitions, allowed are {topic.partitions}: {setting} is "
                "fixed once data has been written; use another prefix for another number"
            )
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in topics]
    asked = {resource.name: f for resource, f in admin.describe_configs(resources, request_timeout=timeout).items()}
    for name, config in waited(cluster, asked, timeout).items():
        for setting, value in topics[name].config.items():
            if config[setting].value != value:
                raise Conflict(
                    f"{cluster}: topic {name} has {setting} = {config[setting].value}, allowed is {value}: set it with Kafka's "
                    f"tools (kafka-configs --alter --topic {name} --add-config {setting}={value}), or change [kafka]"
                )


def begin_epoch(cluster: Cluster, timeout: float) -> int:
    """Begin an epoch at the log's present ends; its number. After a restore of brokers from an older copy: readers that have
    read further then know that what they read is gone.
    """
    reader = KafkaReader(cluster, NAMES)
    try:
        before, ends = reader.meta(timeout), reader.ends(timeout)
    finally:
        reader.close()
    epochs = before.epochs if before else []
    epoch = began(new_number(), {at: end.next for at, end in ends.items()})
    value = meta_value(Meta(cluster.partitions, [*epochs, epoch][-KEPT:], ingest=cluster.ingest_partitions))
    failed: list[object] = []
    producer = Producer(cluster.client() | {"acks": "all", "message.timeout.ms": int(timeout * 1000)})
    producer.produce(cluster.name(META), value, META_KEY, partition=0, on_delivery=lambda e, _: failed.append(e))
    producer.flush(timeout)
    if failed != [None]:
        raise cluster.error(failed[0]) if failed else DeadlineExceeded(f"{cluster}: gave no answer in time")
    return int(epoch.number, 16)


def delete(cluster: Cluster, timeout: float) -> None:
    """Delete the log's topics and all that was in them."""
    admin = cluster.admin()
    there = list(_described(cluster, admin, timeout))
    if there:
        waited(cluster, admin.delete_topics(there, request_timeout=timeout, operation_timeout=timeout), timeout)
