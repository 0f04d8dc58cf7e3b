"""The aggregator on a real log: counts equal a slow recount, each engagement once, whatever ends it when."""

import gc
import logging
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from protos import events_pb2
from roadrunner import aggregator as under_test
from roadrunner import layout, staged
from roadrunner.aggregator import Aggregator
from roadrunner.committer import Committer
from roadrunner.retention import Retention
from roadrunner.store import EventLog
from services.core.clock import DAY_MS
from services.core.columns import Ragged
from services.core.errors import Exhausted
from services.core.events import ENGAGEMENTS, Action, Batch, events
from services.core.topics import Topic, partition_of
from services.state.database import Database
from tests.roadrunner.counting import HOUR_MS, Cell, cells_of, recounted
from tests.roadrunner.running import PARTITIONS, append, open_log, publish
from tests.services.batches import follows
from tests.services.children import child, read_line, small_disk, until

NOW = 1_750_000_000_000
A = Action
ACTIONS = [*ENGAGEMENTS, A.SAVE, A.CREATE_PIN, A.UPDATE_PIN, A.JOIN_INTEREST, A.LEAVE_INTEREST, A.TAKEDOWN]


def happened(n: int, seed: int) -> Batch:
    """n events on a few objects: ids of their own by seed, so that each is accepted."""
    chance = np.random.default_rng(seed)
    action = chance.choice(ACTIONS, n)
    stated = (action == A.CREATE_PIN) | (action == A.UPDATE_PIN)
    interests = Ragged.of_lists([chance.integers(1, 20, 3) if s else [] for s in stated])
    few = {name: chance.integers(1, top, n) for name, top in (("user", 9), ("pin", 30), ("board", 6), ("target", 20))}
    when = NOW - chance.integers(0, 5 * HOUR_MS, n)
    ids = np.arange(1 + seed * 10**6, 1 + seed * 10**6 + n)
    return events(n, action=action, **few, at_ms=when, id=ids, interests=interests)


def batches_of(log: EventLog, topic: Topic) -> list[Batch]:
    """All that is visible of a topic."""
    positions = {at: end.first for at, end in log.ends().items() if at[0] == topic}
    found = []
    while records := log.read(positions):
        for record in records:
            positions[record.topic, record.partition] = record.offset + 1
            found.append(Batch.of(events_pb2.Batch.FromString(record.batch)))
    return found


def counted(log: EventLog) -> Counter[Cell]:
    return cells_of(batches_of(log, Topic.COUNTS))


class Working:
    """A log with its committer and aggregator; the aggregator runs by itself when it is started."""

    def __init__(self, log: EventLog, no_space: str = "") -> None:
        self.log, self.no_space, self.now = log, no_space, NOW
        self.committer = Committer(log, 100, lambda: "")
        self.aggregator = Aggregator(log, self.committer, lambda: self.no_space, PARTITIONS, lambda: self.now)
        self.committer.start()

    def aggregate(self) -> None:
        """Chunk after chunk until nothing is left."""
        while self.aggregator.step():
            pass

    def caught_up(self) -> bool:
        ends = self.log.ends()
        return all(reached.next == ends[at].next for at, reached in self.log.aggregated(synced=True).items())

    def close(self) -> None:
        self.committer.stop()
        self.log.close()


@contextmanager
def working(folder: Path, retention: Retention | None = None) -> Iterator[Working]:
    made = Working(open_log(folder, lambda: NOW, retention=retention))
    try:
        yield made
    finally:
        made.close()


def test_counts_equal_a_recount_and_a_restart_adds_nothing(tmp_path: Path) -> None:
    batches = [happened(200, seed) for seed in range(8)]
    for turn in range(4):
        with working(tmp_path) as one:
            for batch in batches[2 * turn : 2 * turn + 2]:
                publish(one.committer, batch, 10)
                one.aggregate()
            assert one.aggregator.step() == 0
            assert counted(one.log) == recounted(batches[: 2 * turn + 2], PARTITIONS)
            assert one.aggregator.lag_events() == 0
            assert one.caught_up()


def test_the_thread_keeps_up_and_many_small_publishes_are_summed_together(tmp_path: Path) -> None:
    batches = [happened(5, seed) for seed in range(60)]
    with working(tmp_path) as one:
        one.aggregator.start()
        for batch in batches:
            publish(one.committer, batch, 10)
        until(one.caught_up)
        records = sum(end.next for at, end in one.log.ends().items() if at[0] == Topic.COUNTS)
        assert counted(one.log) == recounted(batches, PARTITIONS)
        assert records < PARTITIONS * len(batches), "not a chunk a publish"
        one.aggregator.stop()


def test_stopping_an_idle_aggregator_does_not_wait(tmp_path: Path) -> None:
    with working(tmp_path) as one:
        one.aggregator.start()
        stopping = threading.Thread(target=one.aggregator.stop)
        stopping.start()
        stopping.join(5)
        assert not stopping.is_alive()


def test_what_concerns_no_count_moves_the_positions_alone(tmp_path: Path) -> None:
    with working(tmp_path) as one:
        publish(one.committer, follows(20), 10)
        assert one.aggregator.step() == 0, "another topic"
        publish(one.committer, events(1, action=A.NAME_USER, user=3, at_ms=NOW, id=1_000, title=["x"]), 10)
        assert one.aggregator.lag_events() == 1
        one.now = min(one.log.oldest_ms(dict.fromkeys(one.log.aggregated(), 0)).values()) + 5_000
        assert one.aggregator.lag_seconds() == 5.0
        one.aggregate()
        assert (one.aggregator.lag_events(), counted(one.log)) == (0, {})
        assert one.aggregator.lag_seconds() == 0.0


@pytest.mark.parametrize("synced", [False, True])
def test_a_machine_that_dies_at_any_write_counts_each_engagement_once(tmp_path: Path, synced: bool) -> None:
    """The folder as it lies on the disk before, between and after the writes of a chunk, opened anew."""
    batches = [happened(150, seed) for seed in range(6)]
    with working(tmp_path / "first") as one:
        for turn, batch in enumerate(batches):
            append(one.log, batch)
            one.log.sync()
            ends, log = one.log.ends(), one.log
            reached = one.aggregator._retained(ends)
            made = one.aggregator._aggregate(one.aggregator._next(reached, ends), reached, ends)
            log.append_aggregate(made)
            if synced:
                log.sync()
            else:
                before = one.log.aggregated(synced=True)
                assert before != log.aggregated(), "a chunk that is not synced is reported as not done"
            copy = tmp_path / str(turn)
            shutil.copytree(tmp_path / "first", copy)
            again = Working(open_log(copy, lambda: NOW))
            again.aggregate()
            assert counted(again.log) == recounted(batches[: turn + 1], PARTITIONS)
            again.close()


#: Publishes and aggregates at once; after each acknowledgement prints the number of the batch.
WRITER = """
    import sys
    from pathlib import Path
    from tests.roadrunner.test_roadrunner_aggregator import NOW, Working, happened
    from tests.roadrunner.running import open_log, publish

    one = Working(open_log(Path(sys.argv[1]), lambda: NOW))
    one.aggregator.start()
    print("ready", flush=True)
    for batch in range(int(sys.argv[2]), 10**6):
        publish(one.committer, happened(20, batch), 60)
        print(batch, flush=True)
"""


def test_a_killed_process_counts_each_engagement_once(tmp_path: Path) -> None:
    chance, following = np.random.default_rng(5), 0
    for _ in range(3):
        with child(WRITER, tmp_path, following) as writing:
            assert read_line(writing) == "ready"
            acknowledged = [int(read_line(writing)) for _ in range(int(chance.integers(3, 60)))]
            writing.kill()
            acknowledged += [int(line) for line in (writing.stdout.read() if writing.stdout else "").split()[:-1]]
        following = acknowledged[-1] + 3  # the batches under way may have been accepted, or printed in part
    with working(tmp_path) as one:
        one.aggregate()
        objects = batches_of(one.log, Topic.OBJECTS)  # partition by partition, as a pin's events lie in one of them
        assert counted(one.log) == recounted(objects, 1)
        assert one.aggregator.lag_events() == 0
        assert sum(counted(one.log).values()) > 500


def test_a_folder_of_before_the_aggregator_is_opened_and_counted_from_its_first_record(tmp_path: Path) -> None:
    batches = [happened(100, seed) for seed in range(3)]
    form = f"{layout.FORMAT}, {PARTITIONS} partitions"
    before = [name for name in layout.FAMILIES if name not in ("aggregated", "interests")]
    Database(tmp_path / "log", form, before, 1, 1).close()
    with working(tmp_path) as one:
        for batch in batches:
            publish(one.committer, batch, 10)
    with working(tmp_path) as one:
        one.aggregate()
        assert counted(one.log) == recounted(batches, PARTITIONS)


def test_what_retention_dropped_is_said_once_and_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = Retention(max_bytes=1, segment_bytes=1)
    with working(tmp_path, kept) as one:
        publish(one.committer, happened(100, 1), 10)
        one.log.retain()
        assert one.aggregator.lag_events() > 0
        with caplog.at_level(logging.WARNING):
            one.aggregate()
        assert "retention dropped 1 records of topic 2 partition" in caplog.text
        assert "(offsets 0 to 0)" in caplog.text
        caplog.clear()
        one.aggregate()
        assert caplog.text == "", "once"
        assert (counted(one.log), one.aggregator.lag_events()) == ({}, 0)
    with working(tmp_path) as one:
        batch = events(3, action=A.SAVE, user=1, pin=[1, 2, 3], board=4, at_ms=NOW, id=[8, 9, 10])
        publish(one.committer, batch, 10)
        one.aggregate()
        assert caplog.text == ""
        assert counted(one.log) == recounted([batch], PARTITIONS)


def test_it_waits_while_there_is_no_space_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "RETRY_S", 0.01)
    with working(tmp_path) as one:
        publish(one.committer, happened(100, 1), 10)
        one.no_space = "disk nearly full: 3 MB free"
        with pytest.raises(Exhausted, match="disk nearly full"):
            one.aggregator.step()
        one.aggregator.start()
        until(lambda: "aggregation waits: disk nearly full: 3 MB free" in caplog.text)
        assert counted(one.log) == {}
        one.no_space = ""
        until(one.caught_up)
        assert caplog.text.count("aggregation waits") == 1
        assert counted(one.log) == recounted([happened(100, 1)], PARTITIONS)
        one.aggregator.stop()


@pytest.mark.parametrize("step", ["append_aggregate", "sync"])
def test_a_write_that_fails_is_made_again_and_no_publish_suffers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with working(tmp_path) as one:
        publish(one.committer, happened(100, 1), 10)

        def fail(*_: object) -> None:
            raise Exhausted("the disk is full")

        with monkeypatch.context() as failing:
            failing.setattr(one.log, step, fail)
            with pytest.raises(Exhausted, match="the disk is full"):
                one.aggregator.step()
            if step == "append_aggregate":
                assert publish(one.committer, happened(100, 2), 10).accepted == 100
        publish(one.committer, happened(100, 3), 10)
        one.aggregate()
        batches = [happened(100, seed) for seed in (1, 2, 3) if seed != 2 or step == "append_aggregate"]
        assert counted(one.log) == recounted(batches, PARTITIONS)


def test_a_full_disk_counts_nothing_twice(tmp_path: Path) -> None:
    batches: list[Batch] = []
    with small_disk(tmp_path / "disk", 8) as disk:
        one = Working(open_log(disk.path, lambda: NOW))
        with pytest.raises(Exhausted):
            while True:
                batch = happened(2_000, len(batches))
                publish(one.committer, batch, 60)
                batches.append(batch)
                one.aggregate()
        assert one.log.dead
        one.close()
        gc.collect()  # the failed write's exception is in a cycle with frames that hold what was made of the database
        disk.resize(64)
        one = Working(open_log(disk.path, lambda: NOW))
        one.aggregate()
        accepted = len({i for b in batches_of(one.log, Topic.OBJECTS) for i in b.id.tolist()})
        assert accepted >= sum(map(len, batches))
        assert counted(one.log) == recounted(batches_of(one.log, Topic.OBJECTS), 1)
        one.close()


def test_no_partition_waits_for_a_busy_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with working(tmp_path) as one:
        publish(one.committer, happened(300, 1), 10)
        monkeypatch.setattr("roadrunner.store.READ_BYTES", 0)  # a record a read
        reached: list[set[tuple[int, int]]] = []
        for _ in range(PARTITIONS):
            publish(one.committer, happened(300, 2 + len(reached)), 10)
            one.aggregator.step()
            reached.append({at for at, done in one.log.aggregated().items() if done.next})
        assert [len(some) for some in reached] == [1, 2, 3]


def test_a_large_chunk_is_several_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "RECORD_ROWS", 7)
    with working(tmp_path) as one:
        publish(one.committer, happened(400, 1), 10)
        one.aggregate()
        assert max(len(batch) for batch in batches_of(one.log, Topic.COUNTS)) == 7
        assert counted(one.log) == recounted([happened(400, 1)], PARTITIONS)


def voices(log: EventLog) -> list[tuple[bytes, bytes]]:
    """Voices kept of days: keys and values."""
    return [(key, value) for key, value in log.database.family("voices").items() if key[0] < 255 and any(key[:4])]


def test_the_voices_of_a_page_are_one_value_also_when_it_is_read_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of 12 pins in every partition, many of them behind: each user's are put about once and not a partition."""
    puts: list[bytes] = []
    staged_put = staged.Table.put

    def put(table: staged.Table, values: Mapping[bytes, bytes]) -> None:
        puts.extend(key for key in values if len(key) == 14)
        staged_put(table, values)

    monkeypatch.setattr(staged.Table, "put", put)
    monkeypatch.setattr("roadrunner.store.READ_BYTES", 20_000)
    n, page = 12_000, 12
    users = 1 + np.arange(n) // page
    seen = events(n, action=A.IMPRESSION, user=users, pin=range(1, n + 1), at_ms=NOW, id=range(1, n + 1))
    with working(tmp_path) as one:
        for start in range(0, n, 10 * page):
            append(one.log, seen.slice(start, start + 10 * page))
        one.log.sync()
        one.aggregate()
        assert counted(one.log) == recounted([seen], PARTITIONS)
        assert len(voices(one.log)) == n // page
        assert len(puts) < 1.5 * n / page, "not one for each of the partitions"


def test_days_are_forgotten_once_they_are_past_in_every_partition(tmp_path: Path) -> None:
    """R08: a partition that is behind still knows whom it counted; of one without engagements nothing is kept."""
    pins = [
        next(pin for pin in range(1, 99) if partition_of(np.array([pin], np.uint64), PARTITIONS)[0] == p)
        for p in (0, 1)
    ]
    made: list[Batch] = []

    def click(pin: int, day: int) -> None:
        at = NOW + day * DAY_MS
        made.append(events(1, action=A.CLICK, user=1, pin=pin, at_ms=at, id=len(made) + 1))
        publish(one.committer, made[-1], 10)
        one.aggregate()

    with working(tmp_path) as one:
        click(pins[0], 0)
        click(pins[1], 0)
        click(pins[0], 30)
        click(pins[1], 0)
        assert len(voices(one.log)) == 2, "the first day is still one of the other partition's"
        click(pins[1], 30)
        click(pins[1], 30)
        assert len(voices(one.log)) == 1, "the first day is past in both"
        assert counted(one.log) == recounted(made, PARTITIONS)
