"""The log without a network: appended records are read back in order, once, and dropped by whole segments."""

import struct
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protos import events_pb2
from roadrunner import layout, store
from roadrunner.duplicates import keys_of
from roadrunner.retention import Retention
from roadrunner.store import EventLog
from services.core.clock import DAY_MS
from services.core.errors import Exhausted, OutOfRange
from services.core.events import Action, Batch, events
from services.core.topics import Topic, split
from services.log.protocol import Partition
from services.state.database import WrongFormat
from tests.roadrunner.running import PARTITIONS, append, open_log
from tests.services.batches import Row, board_batches, do_not_hold, follows, good_batches, rows_of
from tests.services.children import small_disk

NOW = 1_750_000_000_000
HOUR_MS = 3_600_000


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


@contextmanager
def opened(folder: Path, clock: Clock | None = None, **options: Any) -> Iterator[EventLog]:
    log = open_log(folder, clock or Clock(), **options)
    try:
        yield log
    finally:
        log.close()


def everything(log: EventLog) -> dict[Partition, list[Row]]:
    """All visible rows of each partition."""
    positions = {at: end.first for at, end in log.ends().items()}
    found: dict[Partition, list[Row]] = defaultdict(list)
    while records := log.read(positions):
        for record in records:
            at = (record.topic, record.partition)
            assert record.offset == positions[at], "without a gap"
            positions[at] += 1
            found[at] += rows_of(Batch.of(events_pb2.Batch.FromString(record.batch)))
    assert positions == {at: end.next for at, end in log.ends().items()}
    return dict(found)


def accepted(log: EventLog, *batches: Batch) -> list[int]:
    found = [published.accepted for published in append(log, *batches)]
    log.sync()
    return found


def ids_of(log: EventLog, topic: Topic = Topic.USERS) -> list[int]:
    return sorted(row["id"] for (of, _), rows in everything(log).items() if of == topic for row in rows)


# --- appending and reading ------------------------------------------------------------------------------------------


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.one_of(good_batches(max_size=20), board_batches(max_size=20)))
def test_rows_are_read_back_where_and_in_the_order_they_belong(batch: Batch, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("log")
    unique = batch.take(np.unique(batch.id, return_index=True)[1])
    void = do_not_hold(unique)
    expected: dict[Partition, list[Row]] = defaultdict(list)
    with opened(folder) as log:
        for part in (unique.slice(0, len(unique) // 2), unique.slice(len(unique) // 2, len(unique))):
            (published,) = append(log, part)
            log.sync()
            assert (published.accepted, published.duplicates) == (len(part), 0)
            for piece in split(part, PARTITIONS):
                rows = [row for row in rows_of(piece.batch) if piece.topic == Topic.OBJECTS or row["id"] not in void]
                if not rows:
                    continue
                at = int(piece.topic), piece.partition
                expected[at] += rows
                assert published.reached[at] == log.ends()[at].next - 1
        assert everything(log) == expected
    with opened(folder) as log:
        assert everything(log) == expected
        assert {at: end.events for at, end in log.ends().items() if end.events} == {
            at: len(rows) for at, rows in expected.items()
        }


def test_nothing_is_visible_before_it_is_synced(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        append(log, follows(3))
        assert everything(log) == {}
        woken = threading.Event()
        with pytest.raises(OutOfRange):
            log.read(dict.fromkeys(log.ends(), 1))
        with log.watching({(1, 0): 0}, woken.set):
            log.sync()
            assert not woken.is_set(), "another topic has grown"
            append(log, follows(1, first_id=100))
        with log.watching({(0, 0): 0}, woken.set):
            log.sync()
            assert woken.is_set()
        assert ids_of(log) == [1, 2, 3, 100]


def test_batches_appended_together_are_acknowledged_each_for_itself(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        one, two, none = append(log, follows(2, 1), follows(3, 2), events(0))
        assert [(p.accepted, p.duplicates) for p in (one, two, none)] == [(2, 0), (2, 1), (0, 0)]
        assert none.reached == {}
        assert one.reached
        assert two.reached


def test_a_position_that_is_not_in_the_log_is_named(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        accepted(log, follows(1, user=1))
        ((_, partition),) = (at for at, end in log.ends().items() if end.next)
        assert log.read({(0, partition): 1}) == []
        with pytest.raises(
            OutOfRange, match=f"topic 0 partition {partition}: offset 2 is not in the log, which holds 0 to 1"
        ):
            log.read({(0, partition): 2})
        with pytest.raises(OutOfRange, match="no topic 9 partition 0: topics are 0 users, .*, partitions 0 to 2"):
            log.read({(9, 0): 0})
        with pytest.raises(OutOfRange, match="no topic 0 partition 3"):
            log.read({(0, 3): 0})


def test_records_stay_small_enough_to_be_received_however_much_comes_at_once(tmp_path: Path) -> None:
    n = 3_000
    titles = ["t" * 2_000] * n
    big = events(n, action=Action.NAME_USER, user=1, title=titles, link=titles, at_ms=NOW, id=range(1, n + 1))
    with opened(tmp_path) as log:
        (published,) = append(log, big)
        log.sync()
        ((at, end),) = ((at, end) for at, end in log.ends().items() if end.next)
        assert 3 <= end.next <= 5
        assert published.reached == {at: end.next - 1}
        sizes = [len(record.batch) for offset in range(end.next) for record in log.read({at: offset})[:1]]
        assert max(sizes) < store.RECORD_BYTES + 10_000
        assert ids_of(log, Topic.OBJECTS) == list(range(1, n + 1))
        assert everything(log)[at] == rows_of(big)


def test_a_read_is_about_a_megabyte_or_a_record(tmp_path: Path) -> None:
    with opened(tmp_path, partitions=1) as log:
        for i in range(40):
            titles = ["t" * 2_000] * 50
            accepted(
                log,
                events(50, action=Action.NAME_USER, user=1, title=titles, at_ms=NOW, id=range(1 + 50 * i, 51 + 50 * i)),
            )
        records = log.read({(int(Topic.OBJECTS), 0): 0})
        assert store.READ_BYTES < sum(len(r.batch) for r in records) < store.READ_BYTES + 200_000
        assert len(ids_of(log, Topic.OBJECTS)) == 2_000


# --- duplicates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reopen", [False, True])
def test_an_id_is_accepted_once_a_day(tmp_path: Path, reopen: bool) -> None:
    clock = Clock()
    log = open_log(tmp_path, clock)

    def again(*batches: Batch) -> list[int]:
        nonlocal log
        if reopen:
            log.close()
            log = open_log(tmp_path, clock)
        return accepted(log, *batches)

    assert again(follows(5)) == [5]
    assert again(follows(5)) == [0]
    clock.now += DAY_MS - HOUR_MS
    assert again(follows(7)) == [2]
    clock.now += 2 * HOUR_MS
    assert again(follows(7)) == [5], "the first five are more than a day old"
    log.forget_accepted()
    assert again(follows(8)) == [1]
    assert ids_of(log) == sorted([*range(1, 8), *range(1, 6), 8])
    log.close()


def test_R03_an_id_is_of_its_writer(tmp_path: Path) -> None:
    follow = {"action": Action.FOLLOW_BOARD, "board": 7, "at_ms": NOW}
    users = events(3, user=[704, 705, 704], id=1, **follow)
    devices = events(5, user=704, id=1, writer=[1, 2, 0, 2, 704], **follow)
    takedowns = events(3, action=Action.TAKEDOWN, pin=[1, 2, 3], id=1, writer=[0, 0, 9], at_ms=NOW)
    with opened(tmp_path) as log:
        assert accepted(log, users) == [2], "two people, and one of them twice"
        assert accepted(log, devices) == [2], "two devices of one person; the user's own id 1 was there"
        assert accepted(log, takedowns) == [2], "without a user or a writer the writer is 0"
    with opened(tmp_path) as log:
        assert accepted(log, users, devices, takedowns) == [0, 0, 0]


@given(st.lists(st.tuples(*[st.integers(1, 3) | st.integers(1, 2**64 - 1)] * 3), unique=True, max_size=40))
def test_R03_keys_differ_where_writers_or_ids_do(stated: list[tuple[int, int, int]]) -> None:
    columns = [np.array(column, np.uint64) for column in zip(*stated, strict=True)] or [np.empty(0, np.uint64)] * 3
    keys = keys_of(*columns)
    assert keys.all()
    assert len({*keys.tolist()}) == len({(id_, writer) for id_, writer, _ in stated})


def test_R03_ids_accepted_before_they_had_writers_are_duplicates_for_their_day(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, clock) as log:
        accepted(log, follows(1))
        old = struct.pack("<q", clock.now) + np.arange(50, 60, dtype="<u8").tobytes()
        write = log._db.batch()
        write.put(layout.accepted_key(9), old, log._db.handle("accepted"))
        log._db.write(write)
    with opened(tmp_path, clock) as log:
        assert accepted(log, follows(10, first_id=55)) == [5]
        assert accepted(log, follows(10, first_id=55, user=2)) == [5]
        clock.now += DAY_MS + HOUR_MS
        assert accepted(log, follows(10, first_id=50)) == [10]


def test_an_id_twice_in_one_batch_or_one_append_is_accepted_once(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        twice = events(4, action=Action.FOLLOW_USER, user=1, target=[1, 2, 3, 4], at_ms=NOW, id=[5, 6, 5, 5])
        assert accepted(log, twice, follows(6), twice) == [2, 4, 0]
        assert ids_of(log) == [1, 2, 3, 4, 5, 6]
        kept = [row["target"] for rows in everything(log).values() for row in rows if row["id"] == 5]
        assert kept == [1], "the first of them"


def test_a_repeated_publish_gets_a_token_that_covers_the_first_time(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        (first,) = append(log, follows(9))
        (again,) = append(log, follows(9))
        assert (again.accepted, again.duplicates) == (0, 9)
        assert again.reached == first.reached


# --- retention ------------------------------------------------------------------------------------------------------


def fill(log: EventLog, clock: Clock, turns: int = 12) -> None:
    """An hour a turn; a segment every few turns."""
    for turn in range(turns):
        accepted(log, follows(20, first_id=1 + 20 * turn, user=turn % 5 + 1))
        clock.now += HOUR_MS


def held(log: EventLog) -> set[int]:
    return set(ids_of(log))


def test_retention_by_bytes_drops_the_oldest_whole_segments(tmp_path: Path) -> None:
    clock, kept = Clock(), Retention(max_bytes=4_000, segment_bytes=1_500)
    with opened(tmp_path, clock, retention=kept) as log:
        fill(log, clock)
        before, size = log.ends(), log.bytes_kept()
        assert size > 4_000
        dropped = log.retain().dropped
        assert log.bytes_kept() == size - dropped <= 4_000
        assert log.retain() == (0, 0)
        assert any(end.first > before[at].first for at, end in log.ends().items())
        assert {at: end.next for at, end in log.ends().items()} == {at: end.next for at, end in before.items()}
        left = held(log)
        assert 0 < len(left) < 240
    with opened(tmp_path, clock, retention=kept) as log:
        assert held(log) == left
        assert log.bytes_kept() == size - dropped


def test_retention_by_age_drops_segments_whose_newest_is_too_old(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, clock, retention=Retention(max_age_ms=6 * HOUR_MS, segment_bytes=1)) as log:
        fill(log, clock)
        log.retain()
        assert held(log) == {*range(121, 241)}, "a segment a record: exactly six hours"
        clock.now += DAY_MS
        log.retain()
        assert held(log) == set()
        assert log.bytes_kept() == 0
        assert accepted(log, follows(1, first_id=900)) == [1]
        assert held(log) == {900}


def test_a_reader_at_a_dropped_position_is_told_before_and_after_the_next_append(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, clock, retention=Retention(max_age_ms=HOUR_MS, segment_bytes=1)) as log:
        accepted(log, follows(1, user=1))
        ((at, _),) = ((at, end) for at, end in log.ends().items() if end.next)
        accepted(log, follows(1, first_id=2, user=1))
        clock.now += 2 * HOUR_MS
        log.retain()
        for _ in range(2):
            with pytest.raises(OutOfRange, match=r"offset 0 is not in the log, which holds 2 to \d"):
                log.read({at: 0})
            accepted(log, follows(1, first_id=3, user=1))
        assert [record.offset for record in log.read({at: 2})] == [2]


def test_a_record_dropped_while_it_is_read_is_out_of_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention runs on another thread than readers: it may drop between a look at the range and the read."""
    clock = Clock()
    with opened(tmp_path, clock, retention=Retention(max_age_ms=HOUR_MS, segment_bytes=1)) as log:
        accepted(log, follows(1, user=1))
        ((at, _),) = ((at, end) for at, end in log.ends().items() if end.next)
        seen = log._visible
        clock.now += 2 * HOUR_MS
        log.retain()
        monkeypatch.setattr(log, "_visible", seen)
        with pytest.raises(OutOfRange, match="offset 0 is not in the log, which holds 1 to 1"):
            log.read({at: 0})


def test_without_retention_nothing_is_dropped(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, clock) as log:
        fill(log, clock, 5)
        clock.now += 1000 * DAY_MS
        assert log.retain() == (0, 0)
        log.forget_accepted()
        assert len(held(log)) == 100


# --- refusing and failing -------------------------------------------------------------------------------------------


def test_another_number_of_partitions_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path, partitions=3):
        pass
    with pytest.raises(
        WrongFormat, match="was written as 'roadrunner 1, 3 partitions', this process reads .* 4 partitions"
    ):
        open_log(tmp_path, partitions=4)


@pytest.mark.parametrize("where", ["write", "records"])
def test_an_append_that_fails_leaves_nothing_and_its_ids_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    with opened(tmp_path) as log:
        accepted(log, follows(3))
        before, bytes_kept = log.ends(), log.bytes_kept()

        def fail(*_: object) -> None:
            raise Exhausted("the disk is full")

        with monkeypatch.context() as failing:
            target, name = {"write": (log._db, "write"), "records": (store, "Records")}[where]
            failing.setattr(target, name, fail)
            for _ in range(2):
                with pytest.raises(Exhausted, match="the disk is full"):
                    append(log, follows(5), follows(4, first_id=4))
        log.sync()
        assert (log.ends(), log.bytes_kept()) == (before, bytes_kept)
        assert ids_of(log) == [1, 2, 3]
        assert accepted(log, follows(5), follows(4, first_id=4)) == [2, 2]
        assert ids_of(log) == [1, 2, 3, 4, 5, 6, 7]
    with opened(tmp_path) as log:
        assert ids_of(log) == [1, 2, 3, 4, 5, 6, 7]
        assert accepted(log, follows(7)) == [0]


def test_a_full_disk_loses_nothing_that_was_synced_and_keeps_nothing_that_failed(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8) as disk:
        log, synced = open_log(disk.path), 0
        with pytest.raises(Exhausted):
            while True:
                titles = [np.random.default_rng(synced + i).bytes(1_000).hex() for i in range(10)]
                batch = events(
                    10, action=Action.NAME_USER, user=1, title=titles, at_ms=NOW, id=range(synced + 1, synced + 11)
                )
                accepted(log, batch)
                synced += 10
        assert log.dead
        with pytest.raises(Exhausted):
            accepted(log, batch)
        assert ids_of(log, Topic.OBJECTS) == list(range(1, synced + 1)), "reads go on"
        log.close()
        disk.resize(64)
        log = open_log(disk.path)
        assert len(ids_of(log, Topic.OBJECTS)) == synced
        assert accepted(log, batch) == [10]
        log.close()
