"""What every log must do behind `services.log.protocol.Reader` and `Writer`, whichever it is (tests/log_backends.py)."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.core.errors import InvalidArgument, OutOfRange, Unavailable
from services.core.events import Action, Batch, events
from services.core.topics import Topic, split
from services.log.protocol import Draft, Partition, Positions, Provenance, Reader, Record, Writer
from tests.log_backends import BACKENDS, Backend
from tests.roadrunner.running import PARTITIONS
from tests.services.batches import Row, follows, rows_of
from tests.services.children import until

EVERYTHING: Positions = {(int(topic), partition): 0 for topic in Topic for partition in range(PARTITIONS)}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    on = request.getfixturevalue("broker") if request.param == "kafka" else tmp_path
    with BACKENDS[request.param](on) as running_backend:
        yield running_backend


@pytest.fixture
def log(backend: Backend) -> Iterator[Reader]:
    reader = backend.reader()
    yield reader
    reader.close()


def mixed(first_id: int) -> Batch:
    """Events of every topic, over all partitions."""
    actions = [Action.FOLLOW_USER, Action.SAVE, Action.CREATE_PIN, Action.SERVED, Action.TAKEDOWN, Action.NAME_USER] * 4
    n = len(actions)
    given = {"user": range(1, n + 1), "pin": range(50, 50 + n), "board": range(90, 90 + n), "target": 7}
    return events(
        n, action=actions, at_ms=1_700_000_000_000, id=range(first_id, first_id + n), title=["pin"] * n, **given
    )


def expected(*batches: Batch) -> dict[Partition, list[Row]]:
    found: dict[Partition, list[Row]] = defaultdict(list)
    for batch in batches:
        for part in split(batch, PARTITIONS):
            found[int(part.topic), part.partition] += rows_of(part.batch)
    return dict(found)


def take(log: Reader, positions: Positions, events: int) -> list[Record]:
    """Records from the positions on, until they hold so many events."""
    found: list[Record] = []
    for chunk in log.subscribe(positions):
        found += chunk
        if sum(len(record.batch) for record in found) >= events:
            break
    return found


def by_partition(records: list[Record]) -> dict[Partition, list[Row]]:
    found: dict[Partition, list[Row]] = defaultdict(list)
    for record in records:
        found[int(record.topic), record.partition] += rows_of(record.batch)
    return dict(found)


def assert_numbered(records: list[Record]) -> None:
    """Every writer has numbered its records of a partition from 0 on, and left no number out."""
    numbers: dict[tuple[Partition, int], list[int]] = defaultdict(list)
    for r in records:
        numbers[(int(r.topic), r.partition), r.writer].append(r.offset if r.sequence is None else r.sequence)
    assert all(found == list(range(len(found))) for found in numbers.values())


def count(rows: dict[Partition, list[Row]]) -> int:
    return sum(map(len, rows.values()))


def test_an_empty_log_has_every_partition_and_nothing_in_it(backend: Backend, log: Reader) -> None:
    ends = log.ends(10)
    assert ends.keys() == EVERYTHING.keys()
    assert {tuple(end) for end in ends.values()} == {(0, 0, 0 if backend.counts else None, 0)}


def test_every_row_is_read_once_where_it_belongs_in_order(backend: Backend, log: Reader) -> None:
    batches = [mixed(1), follows(100, first_id=1_000), mixed(5_000)]
    for batch in batches:
        backend.publish(batch)
    wanted = expected(*batches)
    records = take(log, EVERYTHING, count(wanted))
    assert by_partition(records) == wanted
    offsets: dict[Partition, list[int]] = defaultdict(list)
    for record in records:
        offsets[int(record.topic), record.partition].append(record.offset)
        assert record.accepted_ms > 1_700_000_000_000
    assert all(found == sorted(set(found)) for found in offsets.values()), "they increase"
    assert_numbered(records)


def test_ends_count_records_and_events(backend: Backend, log: Reader) -> None:
    wanted: dict[Partition, list[Row]] = {}
    for i in range(3):
        backend.publish(mixed(1 + 100 * i))
        wanted = expected(*(mixed(1 + 100 * j) for j in range(i + 1)))
        ends = log.ends(10)
        counted = {at: len(r) for at, r in wanted.items()} if backend.counts else {}
        assert {at: end.events for at, end in ends.items() if end.events} == counted
    records = take(log, EVERYTHING, count(wanted))
    for at, end in ends.items():
        offsets = [r.offset for r in records if (r.topic, r.partition) == at]
        assert (end.first, end.next) == (0, offsets[-1] + 1 if offsets else 0), "a record lies right before the end"


def test_ends_say_how_old_what_comes_next_is(backend: Backend, log: Reader) -> None:
    for i in range(4):
        backend.publish(mixed(1 + 100 * i))
    records = take(log, EVERYTHING, count(expected(*(mixed(1 + 100 * i) for i in range(4)))))
    for at in EVERYTHING:
        mine = [r for r in records if (r.topic, r.partition) == at]
        for position in range(mine[-1].offset + 2 if mine else 1):
            found = log.ends(10, {at: position})
            wanted = next((r.accepted_ms for r in mine if r.offset >= position), 0)
            assert {a: end.oldest_ms for a, end in found.items() if end.oldest_ms} == ({at: wanted} if wanted else {})


def test_a_reader_goes_on_from_any_position(backend: Backend, log: Reader) -> None:
    for i in range(4):
        backend.publish(mixed(1 + 100 * i))
    total = count(expected(*(mixed(1 + 100 * i) for i in range(4))))
    records = take(log, EVERYTHING, total)
    for skip in (1, 2, 3):
        positions = {at: min(skip, log.ends(10)[at].next) for at in EVERYTHING}
        wanted = [r for r in records if r.offset >= positions[int(r.topic), r.partition]]
        found = take(log, positions, sum(len(r.batch) for r in wanted))
        assert by_partition(found) == by_partition(wanted)


def test_only_the_partitions_asked_for_come(backend: Backend, log: Reader) -> None:
    backend.publish(mixed(1))
    wanted = expected(mixed(1))
    for at in wanted:
        assert by_partition(take(log, {at: 0}, len(wanted[at]))) == {at: wanted[at]}


def test_a_reader_at_the_end_waits_and_gets_what_comes(backend: Backend, log: Reader) -> None:
    found: list[Record] = []
    thread = threading.Thread(target=lambda: found.extend(take(log, EVERYTHING, 30)))
    thread.start()
    for i in range(3):
        backend.publish(follows(10, first_id=1 + 10 * i))
    thread.join(30)
    assert not thread.is_alive()
    assert by_partition(found) == expected(*(follows(10, first_id=1 + 10 * i) for i in range(3)))


def test_readers_do_not_disturb_each_other(backend: Backend) -> None:
    backend.publish(mixed(1))
    wanted = expected(mixed(1))
    readers = [backend.reader() for _ in range(4)]
    for reader in readers:
        assert by_partition(take(reader, EVERYTHING, count(wanted))) == wanted
        reader.close()


def test_close_ends_a_reader_that_waits(backend: Backend) -> None:
    log, ended = backend.reader(), threading.Event()
    begun = threading.Event()

    def read() -> None:
        for _ in log.subscribe(EVERYTHING):
            begun.set()
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    backend.publish(follows(1))
    assert begun.wait(30)
    log.close()
    assert ended.wait(10), "without an error"


def test_a_position_beyond_the_end_is_out_of_range(backend: Backend, log: Reader) -> None:
    backend.publish(follows(1, user=1))
    (at,) = (at for at, end in log.ends(10).items() if end.next)
    with pytest.raises(OutOfRange, match=f"topic {at[0]} partition {at[1]}: offset 77"):
        take(log, {at: 77}, 1)


def test_what_was_published_outlives_a_restart_and_so_do_readers(backend: Backend, log: Reader) -> None:
    backend.publish(mixed(1))
    wanted = expected(mixed(1))
    assert by_partition(take(log, EVERYTHING, count(wanted))) == wanted
    backend.restart()
    backend.publish(mixed(1_000))
    wanted, found = expected(mixed(1), mixed(1_000)), list[Record]()

    def read_on() -> bool:
        positions = EVERYTHING | {(int(r.topic), r.partition): r.offset + 1 for r in found}
        try:
            for chunk in log.subscribe(positions):
                found.extend(chunk)
                if sum(len(record.batch) for record in found) >= count(wanted):
                    return True
        except Unavailable:
            pass
        return False

    until(read_on, 30)
    assert by_partition(found) == wanted


# --- what a writer appends ----------------------------------------------------------------------------------------------


def drafts(first_id: int, provenance: bool = False) -> list[Draft]:
    """Records of two topics, two of them for one partition; the last says nothing."""
    places = [(Topic.USERS, 0), (Topic.USERS, 2), (Topic.OBJECTS, 1), (Topic.USERS, 0), (Topic.USERS, 0)]
    return [
        Draft(
            topic,
            partition,
            follows(3, first_id + 10 * i).slice(0, 0 if i == 4 else 3),
            Provenance(77, 5, first_id, i) if provenance else None,
        )
        for i, (topic, partition) in enumerate(places)
    ]


def read(log: Reader, records: int) -> list[Record]:
    """So many records, as they come."""
    found: list[Record] = []
    for chunk in log.subscribe(EVERYTHING):
        found += chunk
        if len(found) >= records:
            break
    return found


def test_what_a_writer_appends_lies_at_the_offsets_that_it_answers(backend: Backend, log: Reader) -> None:
    written: list[tuple[Draft, int]] = []
    for first_id in (1, 100):
        appended = drafts(first_id)
        written += zip(appended, backend.writer().append(appended, 30), strict=True)
        last = {(int(draft.topic), draft.partition): offset for draft, offset in written}
        assert {at: end.next for at, end in log.ends(10).items() if end.next} == {at: o + 1 for at, o in last.items()}
    found = read(log, len(written))
    at = {(r.topic, r.partition, r.offset): r for r in found}
    assert len(at) == len(found) == len(written)
    for draft, offset in written:
        record = at[draft.topic, draft.partition, offset]
        assert rows_of(record.batch) == rows_of(draft.batch)
        assert record.accepted_ms > 1_700_000_000_000
        assert record.provenance is None
    counted = sum(len(draft.batch) for draft, _ in written) if backend.counts else 0
    assert sum(end.events or 0 for end in log.ends(10).values()) == counted
    assert_numbered(found)


def test_what_a_record_was_made_of_is_read_with_it_also_after_a_restart(backend: Backend, log: Reader) -> None:
    appended = drafts(1, provenance=True) + drafts(100)
    offsets = backend.writer().append(appended, 30)
    wanted = {(d.topic, d.partition, o): d.provenance for d, o in zip(appended, offsets, strict=True)}
    assert {(r.topic, r.partition, r.offset): r.provenance for r in read(log, len(appended))} == wanted
    backend.restart()
    again = backend.reader()
    assert {(r.topic, r.partition, r.offset): r.provenance for r in read(again, len(appended))} == wanted
    again.close()


def test_writers_beside_each_other_lose_nothing(backend: Backend, log: Reader) -> None:
    answered: list[list[int]] = []

    def write(writer: Writer, first_id: int) -> None:
        for i in range(10):
            answered.append(writer.append(drafts(first_id + 1_000 * i), 30))

    threads = [threading.Thread(target=write, args=(backend.writer(), 1 + 100 * i)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answered) == 30
    found = read(log, 150)
    assert len({(r.topic, r.partition, r.offset) for r in found}) == len(found) == 150
    assert_numbered(found)


def test_a_record_for_a_partition_that_is_not_there_is_refused_and_all_with_it(backend: Backend, log: Reader) -> None:
    writer = backend.writer()
    for partition in (PARTITIONS, -1):
        with pytest.raises(
            InvalidArgument, match=f"topic 2 partition {partition}: topics are 0 to 4, partitions 0 to 2"
        ):
            writer.append([*drafts(1), Draft(Topic.OBJECTS, partition, follows(1))], 30)
    assert writer.append([], 30) == []
    assert not any(end.next for end in log.ends(10).values())
