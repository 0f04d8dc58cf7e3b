"""How far a view has come in a partition: gaps are no loss, lost records are, and what comes twice counts once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import Damaged, NotReady
from services.core.topics import Topic
from services.log import progress as module
from services.log.progress import Progress
from services.log.protocol import Partition, Provenance, Record
from services.state.offsets import changes, check_entry, read_entry
from tests.services.batches import follows

AT: Partition = (int(Topic.USERS), 3)
INGEST = 77


def record(
    offset: int, sequence: int | None = None, writer: int = 5, of: tuple[int, int, int] | None = None, events: int = 1
) -> Record:
    """of: partition, offset and part of the record of INGEST that it was made of."""
    provenance = Provenance(INGEST, *of) if of else None
    return Record(Topic.USERS, 3, offset, 0, follows(events), provenance, writer, sequence)


def test_a_gap_is_no_loss_and_a_number_left_out_is() -> None:
    at = Progress()
    for offset, sequence in ((3, 0), (4, 1), (90, 2)):
        assert at.pass_over(record(offset, sequence)) is not None
        assert at.next == offset + 1
    with pytest.raises(
        NotReady, match="topic 0 partition 3: offset 91 came with number 4 of its writer 0{15}5, whose number 3"
    ):
        at.pass_over(record(91, 4))
    assert (at.next, at.events) == (91, 3), "nothing has moved"


def test_a_log_that_numbers_its_records_leaves_no_offset_out() -> None:
    at = Progress()
    assert at.pass_over(record(0)) is not None
    with pytest.raises(NotReady, match="offset 2 came, 1 is next"):
        at.pass_over(record(2))


def test_writers_count_apart_and_one_that_is_new_begins_with_its_first_record() -> None:
    at = Progress()
    for offset, sequence, writer in ((0, 0, 5), (1, 0, 6), (2, 1, 5), (5, 1, 6), (6, 2, 6), (7, 2, 5)):
        assert at.pass_over(record(offset, sequence, writer)) is not None
    with pytest.raises(NotReady, match="number 1 of its writer 0{15}7, whose number 0 is next"):
        at.pass_over(record(8, 1, 7))
    tail = Progress(8, whole=False)
    assert tail.pass_over(record(8, 1, 7)) is not None, "it may have begun before"
    with pytest.raises(NotReady, match="number 3 of its writer 0{15}7, whose number 2 is next"):
        tail.pass_over(record(9, 3, 7))


def test_what_comes_twice_moves_on_and_counts_and_says_nothing() -> None:
    at = Progress()
    first, again, below = record(0, 0, 5, (2, 8, 0), 4), record(3, 0, 6, (2, 8, 0), 4), record(1, 1, 5, (2, 8, 1))
    assert at.pass_over(first) == first
    twice = at.pass_over(again)
    assert twice is not None
    assert (len(twice.batch), twice.repeated, at.next, at.events) == (0, 4, 4, 8)
    assert at.pass_over(below) is None
    for offset, of, is_new in ((4, (2, 8, 1), True), (5, (2, 7, 9), False), (6, (3, 0, 0), True), (7, (2, 9, 0), True)):
        found = at.pass_over(record(offset, offset - 3, 6, of))
        assert found is not None
        assert bool(len(found.batch)) == is_new, of


def test_what_a_writer_sent_twice_is_a_repeat() -> None:
    at = Progress()
    at.pass_over(record(0, 0))
    at.pass_over(record(1, 1))
    twice = at.pass_over(record(2, 1))
    assert twice is not None
    assert twice.repeated == 1
    new = at.pass_over(record(3, 2))
    assert new is not None
    assert (len(new.batch), new.repeated) == (1, 0)


def test_writers_that_are_long_gone_are_forgotten_and_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITERS", 3)
    at = Progress()
    for writer in range(1, 6):
        at.pass_over(record(writer, 0, writer))
    assert set(at.writers) == {3, 4, 5}
    assert at.pass_over(record(6, 1, 1)) is not None, "number 1 of a writer that was forgotten is no loss"
    assert set(at.writers) == {4, 5, 1}


came = st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 3), st.integers(0, 2))


@given(st.lists(came, max_size=30), st.integers(1, 4))
def test_what_is_on_the_disk_is_what_was_moved_by(steps: list[tuple[int, int, int, int]], together: int) -> None:
    """Entry by entry, whatever came between two writes: it reads as the same again."""
    disk, here, offset = dict[bytes, bytes](), Progress(), 0
    sequences = [0, 0, 0]
    for start in range(0, len(steps), together):
        before = here.copy()
        for gap, writer, source, part in steps[start : start + together]:
            offset += gap
            here.pass_over(record(offset, sequences[writer], writer, (source, offset // 2, part)))
            sequences[writer] += 1
            offset += 1
        for key, value in changes(AT, before, here):
            if value is None:
                disk.pop(key)
            else:
                check_entry("test", key, value)
                disk[key] = value
        found: dict[Partition, Progress] = {}
        for key, value in sorted(disk.items()):
            read_entry(found, key, value)
        assert found == {AT: here}


def test_a_writer_that_is_forgotten_leaves_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITERS", 1)
    before = Progress()
    before.pass_over(record(0, 0, 1))
    after = before.copy()
    after.pass_over(record(1, 0, 2))
    entries = dict(changes(AT, before, after))
    assert sorted(value is None for value in entries.values()) == [False, False, True]


def test_an_entry_of_before_there_were_writers_is_read_and_odd_ones_are_refused() -> None:
    found: dict[Partition, Progress] = {}
    key, value = next(changes(AT, Progress(), Progress(7, 9)))
    assert value is not None
    assert (len(key), len(value)) == (3, 16), "as it was then"
    read_entry(found, key, value)
    assert found == {AT: Progress(7, 9)}
    odd = [
        (key[:2], value),
        (key + b"x", value),
        (key + b"w", value),
        (key + b"s" + bytes(3), value),
        (key, value[:-1]),
    ]
    for odd_key, odd_value in odd:
        with pytest.raises(Damaged, match="offsets"):
            check_entry("test", odd_key, odd_value)
