"""An embedded log moved to a real broker: its history, its tables and its known ids, also when the move was interrupted."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from protos import events_pb2
from roadrunner import layout, migration
from roadrunner.accepting import Shape, accepted
from roadrunner.migration import EmbeddedHistory, Migrated, Migration
from roadrunner.retention import Retention
from roadrunner.splitting import Splitting
from roadrunner.store import EventLog
from services.core.clock import DAY_MS, wall_clock
from services.core.errors import Conflict, Damaged, Unavailable
from services.core.events import Action, Batch, events
from services.core.topics import INGEST, Topic
from services.log.kafka import KafkaReader
from services.log.kafka_cluster import Cluster
from services.log.kafka_group import KafkaGroup
from services.log.kafka_writer import KafkaWriter, Serialised
from services.log.protocol import Noted, Record
from tests.damage.world import happened
from tests.kafka.broker import Broker
from tests.kafka.logs import new_log
from tests.kafka.test_kafka_stages import WITHIN_S, done, process, read_back
from tests.services.children import until

SHAPE, SLICE = Shape(3, 2), 40
PARTITIONS = SHAPE.partitions
OLD, NEW = happened(400, 3), happened(300, 4)  # accepted before the last day, and within it
CLAIMED = events(  # a stranger's claims; the second user is the owner
    4,
    action=[Action.CREATE_BOARD, Action.CREATE_BOARD, Action.DELETE_BOARD, Action.UNSAVE],
    user=[2, 3, 3, 2],
    board=[900, 900, 900, 900],
    pin=[0, 0, 0, 5],
    at_ms=1_750_000_000_000,
    id=[5_000_001, 5_000_002, 5_000_003, 5_000_004],
)


class Clock:
    """Stands where it is set."""

    def __init__(self) -> None:
        self.now_ms = wall_clock()

    def __call__(self) -> int:
        return self.now_ms


@contextmanager
def embedded(folder: Path, retention: Retention | None = None) -> Iterator[EventLog]:
    """A log of three days: OLD, then NEW and the claims on its last day."""
    clock = Clock()
    now, clock.now_ms = clock.now_ms, clock.now_ms - 3 * DAY_MS
    log = EventLog(folder / "log", PARTITIONS, retention or Retention(), clock, 1, 1)
    for batch in (OLD, NEW, CLAIMED):
        for start in range(0, len(batch), SLICE):
            log.append([batch.slice(start, min(start + SLICE, len(batch))).to_proto()])
        clock.now_ms = now
    log.sync()
    try:
        yield log
    finally:
        log.close()


def moved(log: EventLog, cluster: Cluster, scratch: Path) -> Migrated:
    return Migration(EmbeddedHistory(log, SHAPE), cluster, scratch, lambda *_: None).run()


def contents(records: Sequence[Record]) -> list[bytes]:
    return [record.batch.to_proto().SerializeToString(deterministic=True) for record in records]


def check_copy(log: EventLog, cluster: Cluster) -> None:
    """Every record of the log lies at its offset."""
    world = read_back(cluster)
    for (topic, partition), end in log.ends().items():
        found = world.log._records[topic, partition]
        assert [record.offset for record in found] == [*range(end.next)]
        stored = [
            Batch.of(events_pb2.Batch.FromString(record.value))
            for record in EmbeddedHistory(log, SHAPE).records((topic, partition))
        ]
        assert contents(found) == [of.to_proto().SerializeToString(deterministic=True) for of in stored]


def publish(cluster: Cluster, *batches: Batch) -> None:
    writer = KafkaWriter(cluster, (INGEST,))
    for batch in batches:
        parts = accepted(batch.to_proto(), SHAPE)
        writer.send([Serialised(INGEST, of.partition, of.batch.SerializeToString()) for of in parts], 30)
    writer.close()


def events_in(cluster: Cluster, topic: Topic) -> int:
    world = read_back(cluster)
    return sum(len(record.batch) for p in range(PARTITIONS) for record in world.log._records[topic, p])


def test_a_moved_log_has_its_history_and_goes_on_by_it(broker: Broker, tmp_path: Path) -> None:
    cluster = new_log(broker, SHAPE.partitions, SHAPE.ingest)
    with embedded(tmp_path) as log:
        found = moved(log, cluster, tmp_path / "scratch")
        assert found.events == sum(end.events or 0 for end in log.ends().values())
        assert found.before == 0
        check_copy(log, cluster)
    before = {topic: events_in(cluster, topic) for topic in (Topic.USERS, Topic.SOURCES, Topic.OBJECTS)}
    derived, reader = KafkaWriter(cluster), KafkaReader(cluster, (INGEST, *Topic))
    with process(cluster, Splitting, tmp_path / "splitter", derived, "0") as splitter:
        until(lambda: done([splitter], reader, INGEST), WITHIN_S)
        assert {topic: events_in(cluster, topic) for topic in before} == before, "nothing is made a second time"
        publish(cluster, NEW, CLAIMED)  # again, as clients do that had no answer
        until(lambda: done([splitter], reader, INGEST), WITHIN_S)
        assert {topic: events_in(cluster, topic) for topic in before} == before, "their ids are known"
        stranger = events(1, action=Action.DELETE_BOARD, user=3, board=900, at_ms=wall_clock(), id=7_000_001)
        owner = events(1, action=Action.DELETE_BOARD, user=2, board=900, at_ms=wall_clock(), id=7_000_002)
        publish(cluster, stranger)
        until(lambda: done([splitter], reader, INGEST), WITHIN_S)
        assert events_in(cluster, Topic.SOURCES) == before[Topic.SOURCES], "the board is another's"
        publish(cluster, owner)
        until(lambda: done([splitter], reader, INGEST), WITHIN_S)
        assert events_in(cluster, Topic.SOURCES) == before[Topic.SOURCES] + 1
    reader.close()
    derived.close()


def test_an_interrupted_move_goes_on_behind_what_is_there(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "WINDOW_RECORDS", 8)
    monkeypatch.setattr(migration, "ROWS", 50)
    cluster, sent = new_log(broker, SHAPE.partitions, SHAPE.ingest), [0]
    send = KafkaWriter.send

    def failing(self: KafkaWriter, records: Sequence[Serialised], timeout: float) -> list[int]:
        sent[0] += 1
        if sent[0] in (5, 9, 14):  # a part of a window is there
            send(self, records[:3], timeout)
            raise Unavailable("Kafka went away")
        return send(self, records, timeout)

    monkeypatch.setattr(KafkaWriter, "send", failing)
    with embedded(tmp_path) as log:
        for attempt in range(3):
            with pytest.raises(Unavailable, match="went away"):
                moved(log, cluster, tmp_path / f"scratch{attempt}")
        found = moved(log, cluster, tmp_path / "scratch")
        assert 0 < found.before < found.records
        check_copy(log, cluster)
        again = moved(log, cluster, tmp_path / "again")
        assert again.before == again.records == found.records, "a move that was finished is found to be whole"


def test_topics_that_hold_something_else_are_refused(broker: Broker, tmp_path: Path) -> None:
    cluster = new_log(broker, SHAPE.partitions, SHAPE.ingest)
    publish(cluster, NEW.slice(0, 3))
    with embedded(tmp_path) as log, pytest.raises(Conflict, match="holds another record than the log that is copied"):
        moved(log, cluster, tmp_path / "scratch")


def test_a_log_on_which_a_mesh_went_on_is_refused(broker: Broker, tmp_path: Path) -> None:
    cluster = new_log(broker, SHAPE.partitions, SHAPE.ingest)
    with embedded(tmp_path) as log:
        moved(log, cluster, tmp_path / "scratch")
        publish(cluster, events(1, action=Action.CLICK, user=1, pin=1, at_ms=wall_clock(), id=9_000_001))
        with pytest.raises(Conflict, match="holds another record"):
            moved(log, cluster, tmp_path / "again")


def test_a_log_without_its_beginning_is_refused(broker: Broker, tmp_path: Path) -> None:
    cluster = new_log(broker, SHAPE.partitions, SHAPE.ingest)
    with embedded(tmp_path, Retention(max_bytes=1, segment_bytes=512)) as log:
        assert log.retain().dropped
        with pytest.raises(Conflict, match="retention has dropped what was before"):
            moved(log, cluster, tmp_path / "scratch")


def test_tables_that_do_not_follow_from_the_records_are_damage(broker: Broker, tmp_path: Path) -> None:
    cluster = new_log(broker, SHAPE.partitions, SHAPE.ingest)
    with embedded(tmp_path) as log:
        db = log.database
        key = next(db.family("boards").keys())
        write = db.batch()
        write.delete(key, db.handle("boards"))
        db.write(write)
        with pytest.raises(Damaged, match="table boards does not follow from the log's records"):
            moved(log, cluster, tmp_path / "scratch")
        group = [*range(SHAPE.ingest)]
        assert not any(of.next for of in noted(cluster, group).values()), "no mesh begins on such a copy"


def noted(cluster: Cluster, partitions: Sequence[int]) -> dict[int, Noted]:
    group = KafkaGroup(cluster, Splitting.name, INGEST, "looks", lambda _: {}, lambda: None)
    try:
        return {p: of for p, of in group.noted().items() if p in partitions}
    finally:
        group.close()


def test_an_id_that_no_record_has_is_named(broker: Broker, tmp_path: Path) -> None:
    with embedded(tmp_path) as log:
        db, write = log.database, log.database.batch()
        keys = np.array([1, 2, 3], np.uint64)
        write.put(layout.accepted_key(10_000), layout.accepted_value(wall_clock(), keys),
                  db.handle("accepted"))  # fmt: skip
        db.write(write)
        with pytest.raises(Conflict, match="of the events accepted within its last day 3 can't be known again"):
            EmbeddedHistory(log, SHAPE)
