"""The writer of the log on Kafka when things go wrong: deadlines, a broker that is away, records that are refused."""

import random
import time

import pytest

from services.core.errors import DeadlineExceeded, Exhausted, InvalidArgument, Unavailable
from services.core.topics import INGEST, Topic
from services.log import kafka_writer as under_test
from services.log.kafka import KafkaReader
from services.log.kafka_cluster import MAX_RECORD, parse
from services.log.kafka_writer import KafkaWriter, Serialised
from services.log.protocol import Draft
from services.log.reading import read_all
from tests.kafka.broker import SETTINGS, Broker, running_broker
from tests.kafka.logs import new_log
from tests.services.batches import follows
from tests.services.children import until

PARTITIONS = 2
RECORD = Serialised(int(Topic.USERS), 0, b"")


def test_a_record_that_is_too_large_or_for_a_topic_of_others_is_refused_and_all_with_it(broker: Broker) -> None:
    cluster = new_log(broker, PARTITIONS)
    writer, reader = KafkaWriter(cluster), KafkaReader(cluster)
    with pytest.raises(InvalidArgument, match=f"a record of {MAX_RECORD + 1} bytes: allowed are {MAX_RECORD}"):
        writer.send([RECORD, RECORD._replace(value=bytes(MAX_RECORD + 1))], 10)
    with pytest.raises(InvalidArgument, match=f"topic {INGEST} partition 0: topics are"):
        writer.send([RECORD, RECORD._replace(topic=INGEST)], 10)
    assert not any(end.next for end in reader.ends(10).values())
    random = bytes(range(256)) * (MAX_RECORD // 256)
    assert writer.send([RECORD._replace(value=random)], 30) == [0]
    writer.close()
    reader.close()


def ends_of(reader: KafkaReader) -> int:
    """The end of the partition of RECORD; 0 while the log can't be asked."""
    try:
        return reader.ends(5)[int(Topic.USERS), 0].next
    except (Unavailable, DeadlineExceeded):
        return 0


def _once_delivered(writer: KafkaWriter, draft: Draft) -> list[int]:
    """The offset of a record, which is refused as long as what was late is not acknowledged."""
    end = time.monotonic() + 60
    while True:
        try:
            return writer.append([draft], 60)
        except Unavailable:
            assert time.monotonic() < end


def test_what_was_late_is_appended_in_its_order_and_no_number_is_left_out(broker: Broker) -> None:
    """On a broker of its own: others use that of the session."""
    with running_broker() as mine:
        cluster = new_log(mine, PARTITIONS)
        writer, reader = KafkaWriter(cluster), KafkaReader(cluster)
        draft = Draft(Topic.USERS, 0, follows(1))
        assert writer.append([draft], 30) == [0]
        mine.stop()
        for _ in range(3):
            with pytest.raises(DeadlineExceeded, match="it may still be appended"):
                writer.append([draft], 0.2)
        mine.start()
        until(lambda: ends_of(reader) == 4, 60)
        assert _once_delivered(writer, draft) == [4]
        found = [r for chunk in read_all(reader, {(int(Topic.USERS), 0): 0}, 60) for r in chunk]
        assert [(r.offset, r.sequence) for r in found] == [(i, i) for i in range(5)]
        assert {r.writer for r in found} == {writer.number}
        writer.close()
        reader.close()


def test_when_nothing_is_acknowledged_more_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "STALLED_S", 0.3)
    monkeypatch.setattr(under_test, "CLOSE_S", 0.5)
    writer = KafkaWriter(parse("kafka://127.0.0.1:1/any", PARTITIONS, SETTINGS))
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        writer.send([RECORD], 0.4)
    with pytest.raises(Unavailable, match=r"has acknowledged nothing for"):
        writer.send([RECORD], 30)
    assert time.monotonic() - started < 5
    answered: list[object] = []
    monkeypatch.setattr(under_test, "STALLED_S", 60.0)
    monkeypatch.setattr(under_test, "MOST_WAITING", 3)
    writer.submit([RECORD], answered.append)
    with pytest.raises(Exhausted, match="2 records are not acknowledged yet"):
        writer.submit([RECORD, RECORD], answered.append)
    assert not answered
    writer.close()
    assert len(answered) == 1, "who waits is answered when it ends"
    with pytest.raises(Unavailable, match="is closed"):
        writer.send([RECORD], 1)


def test_after_a_record_that_the_broker_refuses_a_new_number_begins_at_zero(broker: Broker) -> None:
    """As when an operator lowers the limit of a topic: nothing of the old number follows the hole."""
    from tests.kafka.test_kafka_topics import alter

    cluster = new_log(broker, PARTITIONS)
    writer, reader = KafkaWriter(cluster), KafkaReader(cluster)
    assert writer.send([RECORD], 30) == [0]
    before = writer.number
    alter(cluster, cluster.name(Topic.USERS), "max.message.bytes", "1000")
    noise = random.Random(1).randbytes(200_000)
    with pytest.raises((InvalidArgument, Unavailable), match="Message size too large"):  # its report may be lost
        writer.send([RECORD._replace(value=noise)], 30)
    until(lambda: writer.number != before, 30)
    assert writer.send([RECORD], 30) == [1]
    records = [r for chunk in read_all(reader, {(int(Topic.USERS), 0): 0}, 30) for r in chunk]
    assert [(r.writer == before, r.sequence) for r in records] == [(True, 0), (False, 0)]
    writer.close()
    reader.close()
