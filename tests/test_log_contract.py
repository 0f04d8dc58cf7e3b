"""What every log must do behind `services.log.protocol.Reader`, whichever it is.

A backend is one more class and one name in BACKENDS.

A backend takes batches through its own ingest API, which the protocol leaves open, and hands out readers.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import pytest

from services.core.clock import wall_clock
from services.core.errors import OutOfRange, Unavailable
from services.core.events import Action, Batch, events
from services.core.topics import Topic, split
from services.log.memory import MemoryLog
from services.log.protocol import Partition, Positions, Reader, Record
from tests.roadrunner.running import PARTITIONS, running
from tests.services.batches import Row, follows, rows_of
from tests.services.children import until


class Backend(Protocol):
    """A log that runs, with PARTITIONS partitions a topic."""

    def publish(self, batch: Batch) -> None:
        """Returns once the batch is durable."""
        ...

    def reader(self) -> Reader:
        """A reader of its own."""
        ...

    def restart(self) -> None:
        """Stop it and start it again, where it was."""
        ...


class Embedded:
    """Roadrunner's log, over gRPC."""

    def __init__(self, folder: Path) -> None:
        self._running = running(folder)
        self._door = self._running.__enter__()

    def publish(self, batch: Batch) -> None:
        self._door.publisher().publish(batch, 30)

    def reader(self) -> Reader:
        return self._door.reader()

    def restart(self) -> None:
        self._door.stop()
        self._door.start()

    def __enter__(self) -> "Embedded":
        return self

    def __exit__(self, *_: object) -> None:
        self._running.__exit__(None, None, None)


class InMemory:
    """A log of this process."""

    def __init__(self, folder: Path) -> None:
        self._log = MemoryLog(PARTITIONS)

    def publish(self, batch: Batch) -> None:
        self._log.append(batch, accepted_ms=wall_clock())

    def reader(self) -> Reader:
        return self._log.reader()

    def restart(self) -> None:
        self._log.restart()

    def __enter__(self) -> "InMemory":
        return self

    def __exit__(self, *_: object) -> None:
        pass


BACKENDS: dict[str, Callable[[Path], AbstractContextManager[Backend]]] = {"embedded": Embedded, "memory": InMemory}
EVERYTHING: Positions = {(int(topic), partition): 0 for topic in Topic for partition in range(PARTITIONS)}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    with BACKENDS[request.param](tmp_path) as running_backend:
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


def count(rows: dict[Partition, list[Row]]) -> int:
    return sum(map(len, rows.values()))


def test_an_empty_log_has_every_partition_and_nothing_in_it(log: Reader) -> None:
    ends = log.ends(10)
    assert ends.keys() == EVERYTHING.keys()
    assert {tuple(end) for end in ends.values()} == {(0, 0, 0)}


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
    assert all(found == list(range(len(found))) for found in offsets.values()), "from 0, without gaps"


def test_ends_count_records_and_events(backend: Backend, log: Reader) -> None:
    wanted: dict[Partition, list[Row]] = {}
    for i in range(3):
        backend.publish(mixed(1 + 100 * i))
        wanted = expected(*(mixed(1 + 100 * j) for j in range(i + 1)))
        ends = log.ends(10)
        assert {at: end.events for at, end in ends.items() if end.events} == {at: len(r) for at, r in wanted.items()}
    records = take(log, EVERYTHING, count(wanted))
    for at, end in ends.items():
        assert (end.first, end.next) == (0, sum((r.topic, r.partition) == at for r in records))


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
    with pytest.raises(OutOfRange, match=f"topic {at[0]} partition {at[1]}: offset 7"):
        take(log, {at: 7}, 1)


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
