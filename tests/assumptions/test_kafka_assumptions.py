"""What is believed of Kafka and its client library, on a real broker: how each fault shows, and what a record keeps."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from services.log.kafka import READING
from services.log.kafka_writer import WRITING
from tests.kafka.broker import Broker, running_broker

WITHIN_S = 30.0
NOWHERE = "127.0.0.1:1"


@pytest.fixture(scope="module")
def admin(broker: Broker) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker.servers})


@pytest.fixture
def topic(broker: Broker, admin: AdminClient) -> str:
    """A topic of two partitions."""
    name = broker.url().rpartition("/")[2]
    make(admin, name)
    return name


def make(admin: AdminClient, name: str, **config: str) -> None:
    config = {key.replace("_", "."): value for key, value in config.items()}
    admin.create_topics([NewTopic(name, 2, 1, config=config)])[name].result(WITHIN_S)


def producer(servers: str, **more: Any) -> Producer:
    return Producer(
        {
            "bootstrap.servers": servers,
            "log_level": 0,
            **WRITING,
            **{name if name == "error_cb" else name.replace("_", "."): value for name, value in more.items()},
        }
    )


@pytest.fixture
def consumer(broker: Broker) -> Iterator[Consumer]:
    found = Consumer({"bootstrap.servers": broker.servers, **READING})
    yield found
    found.close()


def write(servers: str, name: str, *values: bytes, **more: Any) -> list[tuple[Any, Any]]:
    """(error, message) of each delivery report."""
    reports: list[tuple[Any, Any]] = []
    of = producer(servers)
    for value in values:
        of.produce(name, value, partition=0, on_delivery=lambda e, m: reports.append((e, m)), **more)
    of.flush(WITHIN_S)
    return reports


def read(consumer: Consumer, name: str, offset: int, count: int) -> list[Any]:
    consumer.assign([TopicPartition(name, 0, offset)])
    end, found = time.monotonic() + WITHIN_S, list[Any]()
    while len(found) < count and time.monotonic() < end:
        if (message := consumer.poll(0.5)) is not None:
            found.append(message)
            if message.error():
                break
    return found


def test_a_record_keeps_an_empty_value_and_its_headers(broker: Broker, topic: str, consumer: Consumer) -> None:
    ((error, report),) = write(broker.servers, topic, b"", headers=[("feedmesh", b"\x00\x01")])
    assert error is None
    assert report.offset() == 0
    (message,) = read(consumer, topic, 0, 1)
    assert message.value() == b""
    assert message.headers() == [("feedmesh", b"\x00\x01")]


def test_append_time_is_the_brokers_whatever_the_record_says(
    broker: Broker, admin: AdminClient, consumer: Consumer
) -> None:
    name = broker.url().rpartition("/")[2]
    make(admin, name, message_timestamp_type="LogAppendTime", retention_ms="60000")
    before = time.time() * 1000
    write(broker.servers, name, b"old", timestamp=1_000)
    (message,) = read(consumer, name, 0, 1)
    kind, at_ms = message.timestamp()
    assert kind == 2, "TIMESTAMP_LOG_APPEND_TIME"
    assert before - 60_000 < at_ms < time.time() * 1000 + 60_000


def test_an_offset_beyond_the_end_or_before_the_beginning_is_an_error_of_a_message(
    broker: Broker, topic: str, admin: AdminClient, consumer: Consumer
) -> None:
    write(broker.servers, topic, b"a", b"b", b"c")
    (message,) = read(consumer, topic, 77, 1)
    assert message.error().code() == KafkaError._AUTO_OFFSET_RESET
    admin.delete_records([TopicPartition(topic, 0, 2)])[TopicPartition(topic, 0, 2)].result(WITHIN_S)
    (message,) = read(consumer, topic, 0, 1)
    assert message.error().code() == KafkaError._AUTO_OFFSET_RESET
    assert [m.value() for m in read(consumer, topic, 2, 1)] == [b"c"]


def test_ends_of_many_partitions_come_in_one_call(broker: Broker, topic: str, admin: AdminClient) -> None:
    write(broker.servers, topic, b"a", b"b")
    places = [TopicPartition(topic, p) for p in (0, 1)]
    last = admin.list_offsets(dict.fromkeys(places, OffsetSpec.latest()), request_timeout=WITHIN_S)
    assert {tp.partition: f.result(WITHIN_S).offset for tp, f in last.items()} == {0: 2, 1: 0}


def test_a_topic_that_is_not_there_shows_in_each_client(broker: Broker, admin: AdminClient) -> None:
    """A topic may be so new that brokers have not heard of it: clients wait, as long as `topic.metadata.propagation.max.ms`."""
    missing = "not-there"
    ((error, _),) = write(broker.servers, missing, b"a")
    assert error.code() in (KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART)
    said: list[Any] = []
    consumer = Consumer({"bootstrap.servers": broker.servers, "log_level": 0, **READING, "error_cb": said.append})
    consumer.assign([TopicPartition(missing, 0, 0)])
    end = time.monotonic() + WITHIN_S
    while not said and time.monotonic() < end:
        assert consumer.poll(0.2) is None, "no message says so"
    assert said[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    consumer.close()
    with pytest.raises(KafkaException) as raised:
        asked = admin.list_offsets({TopicPartition(missing, 0): OffsetSpec.latest()}, request_timeout=5)
        [future.result(WITHIN_S) for future in asked.values()]
    assert raised.value.args[0].code() == KafkaError._NOENT, "no leaders found"


def test_a_consumer_answers_both_ends_of_many_partitions_in_two_calls(
    broker: Broker, topic: str, consumer: Consumer, admin: AdminClient
) -> None:
    """The times -2 and -1 are the protocol's own numbers of the earliest and the latest offset."""
    write(broker.servers, topic, b"a", b"b", b"c")
    admin.delete_records([TopicPartition(topic, 0, 1)])[TopicPartition(topic, 0, 1)].result(WITHIN_S)
    for which, expected in ((-2, [1, 0]), (-1, [3, 0])):
        found = consumer.offsets_for_times([TopicPartition(topic, p, which) for p in (0, 1)], timeout=WITHIN_S)
        assert [(place.offset, place.error) for place in found] == [(offset, None) for offset in expected]
    with pytest.raises(KafkaException) as raised:
        consumer.offsets_for_times([TopicPartition("not-there", 0, -1)], timeout=5)
    assert raised.value.args[0].code() == KafkaError._UNKNOWN_PARTITION


def test_an_admin_client_spins_while_a_broker_that_it_knows_is_away_and_a_consumer_waits(broker: Broker) -> None:
    """On a broker of its own: others use that of the session. Such a client takes a core; if this ends, one may be used."""
    with running_broker() as mine:
        admin, name = AdminClient({"bootstrap.servers": mine.servers, "log_level": 0}), "any"
        make(admin, name)
        place, asking = TopicPartition(name, 0, -1), {"log_level": 0, **READING}
        consumer = Consumer({"bootstrap.servers": mine.servers, **asking})
        admin.list_offsets({place: OffsetSpec.latest()}, request_timeout=WITHIN_S)[place].result(WITHIN_S)
        consumer.offsets_for_times([place], timeout=WITHIN_S)
        mine.stop()
        asks: tuple[Callable[[], object], ...] = (
            lambda: admin.list_offsets({place: OffsetSpec.latest()}, request_timeout=3)[place].result(WITHIN_S),
            lambda: consumer.offsets_for_times([place], timeout=3),
        )
        took = []
        for ask in asks:
            began = time.process_time()  # of all threads
            with pytest.raises(KafkaException):
                ask()
            took.append(time.process_time() - began)
        assert took[0] > 5 * took[1]
        consumer.close()


def test_a_broker_that_is_away_is_a_timeout_of_a_question(broker: Broker) -> None:
    admin = AdminClient({"bootstrap.servers": NOWHERE, "log_level": 0})
    with pytest.raises(KafkaException) as raised:
        asked = admin.list_offsets({TopicPartition("any", 0): OffsetSpec.latest()}, request_timeout=0.5)
        [future.result(WITHIN_S) for future in asked.values()]
    assert raised.value.args[0].code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT)
    consumer = Consumer({"bootstrap.servers": NOWHERE, "log_level": 0, **READING})
    with pytest.raises(KafkaException) as raised:
        consumer.get_watermark_offsets(TopicPartition("any", 0), timeout=0.5)
    assert raised.value.args[0].code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)
    consumer.assign([TopicPartition("any", 0, 0)])
    assert consumer.poll(0.5) is None, "no error: it goes on trying by itself"
    consumer.close()


def test_a_record_for_a_broker_that_is_away_waits_without_a_report_and_can_be_purged() -> None:
    reports: list[Any] = []
    of = producer(NOWHERE)
    of.produce("any", b"a", partition=0, on_delivery=lambda e, m: reports.append(e))
    assert of.flush(0.5) == 1
    assert not reports
    of.purge()
    of.flush(5)
    assert [error.code() for error in reports] == [KafkaError._PURGE_QUEUE]


def test_a_record_that_is_too_large_is_refused_at_once_or_in_its_report_and_what_follows_fails_too(
    broker: Broker, admin: AdminClient
) -> None:
    name = broker.url().rpartition("/")[2]
    make(admin, name, max_message_bytes="2000")
    with pytest.raises(KafkaException) as raised:
        producer(broker.servers).produce(name, bytes(9 << 20), partition=0)
    assert raised.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
    of = producer(broker.servers, compression_type="none", linger_ms=0, error_cb=lambda error: None)
    of.produce(name, bytes(100_000), partition=0)
    # Raised whatever error_cb is; a SystemError where a report is due as well, which may be lost.
    with pytest.raises((KafkaException, SystemError)) as failed:
        for _ in range(100):
            of.poll(0.3)
    assert "_GAPLESS_GUARANTEE" in repr(failed.value) + repr(failed.value.__cause__)
    with pytest.raises(KafkaException) as raised:  # nothing may follow a record that is missing
        of.produce(name, b"", partition=0)
    assert raised.value.args[0].code() == KafkaError._FATAL


def test_a_full_queue_is_a_buffer_error() -> None:
    of = producer(NOWHERE, queue_buffering_max_messages=2)
    of.produce("any", b"a", partition=0)
    of.produce("any", b"a", partition=0)
    with pytest.raises(BufferError):
        of.produce("any", b"a", partition=0)
    of.purge()
    of.flush(5)


def test_what_a_member_commits_has_a_note_and_a_member_of_before_can_commit_nothing(broker: Broker, topic: str) -> None:
    name = {"group.id": topic, "group.instance.id": "one", "session.timeout.ms": 10_000}
    first, second = (
        Consumer({"bootstrap.servers": broker.servers, "log_level": 0, **READING, **name}) for _ in range(2)
    )
    joined = joins(first, topic)
    first.commit(offsets=[TopicPartition(topic, 0, 5, "9 af")], asynchronous=False)
    assert {p.partition for p in joined} == {0, 1}
    assert {p.partition for p in joins(second, topic)} == {0, 1}
    committed = {p.partition: (p.offset, p.metadata) for p in second.committed(joined, timeout=WITHIN_S)}
    assert committed[0] == (5, "9 af")
    assert committed[1][0] < 0
    with pytest.raises(KafkaException) as raised:
        first.commit(offsets=[TopicPartition(topic, 0, 7)], asynchronous=False)
    gone = (
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError._FENCED,
    )
    assert raised.value.args[0].code() in gone
    second.close()
    first.close()


def joins(consumer: Consumer, topic: str) -> list[TopicPartition]:
    """The partitions that it is given."""
    found: list[TopicPartition] = []
    consumer.subscribe([topic], on_assign=lambda _, places: found.extend(places))
    end = time.monotonic() + WITHIN_S
    while not found and time.monotonic() < end:
        consumer.poll(0.2)
    return found


def test_a_client_goes_on_after_a_broker_was_killed_and_nothing_is_lost_or_twice(broker: Broker) -> None:
    """On a broker of its own: others use that of the session."""
    with running_broker() as mine:
        admin = AdminClient({"bootstrap.servers": mine.servers})
        make(admin, "kept")
        assert [error for error, _ in write(mine.servers, "kept", b"0")] == [None]
        reports: list[Any] = []
        of = producer(mine.servers)
        polling = threading.Event()
        thread = threading.Thread(target=lambda: [of.poll(0.1) for _ in iter(polling.is_set, True)])
        thread.start()
        mine.stop()
        for i in range(1, 20):
            of.produce("kept", b"%d" % i, partition=0, on_delivery=lambda e, m: reports.append((e, m.offset())))
        mine.start()
        of.flush(WITHIN_S)
        polling.set()
        thread.join()
        assert sorted(offset for error, offset in reports if error is None) == list(range(1, 20))
        consumer = Consumer({"bootstrap.servers": mine.servers, **READING})
        assert [m.value() for m in read(consumer, "kept", 0, 20)] == [b"%d" % i for i in range(20)]
        consumer.close()
