"""A shard: data and the offsets it came from are one, whatever happens between."""

import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import DeadlineExceeded, NotReady
from services.core.topics import Topic
from services.log.progress import Progress
from services.log.protocol import Provenance, Record
from services.state.shard import Owned, Shard
from tests.services.batches import follows
from tests.services.children import child, read_line

AT = (int(Topic.USERS), 3)


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[Shard]:
    opened = open_shard(tmp_path)
    yield opened
    opened.close()


def open_shard(folder: Path) -> Shard:
    return Shard(folder / "shard", "test 1", ("data",), cache_mb=1, memtable_mb=1)


def record(offset: int, events: int = 1, partition: int = 3, topic: Topic = Topic.USERS) -> Record:
    return Record(topic, partition, offset, 0, follows(events))


def apply(shard: Shard, *records: Record) -> None:
    fresh, batch = shard.fresh(records), shard.batch()
    for one in fresh:
        batch.put(struct.pack(">Q", one.offset), b"", shard.handle("data"))
    shard.commit(batch, fresh)


def keys(shard: Shard) -> list[int]:
    return [struct.unpack(">Q", key)[0] for key in shard.family("data").keys()]  # noqa: SIM118 - it is no dict


def test_offsets_are_committed_with_the_data_and_survive(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    assert shard.positions([AT, (2, 5)]) == {AT: 0, (2, 5): 0}
    apply(shard, record(0, events=5), record(1, events=2))
    apply(shard, record(0, events=4, partition=5, topic=Topic.OBJECTS))
    for _ in range(2):
        assert shard.positions([AT, (2, 5), (0, 4)]) == {AT: 2, (2, 5): 1, (0, 4): 0}
        assert shard.applied_events() == 11
        shard.close()
        shard = open_shard(tmp_path)
    shard.close()


def test_a_batch_that_is_not_committed_leaves_neither(shard: Shard) -> None:
    batch = shard.batch()
    batch.put(b"k", b"v", shard.handle("data"))
    with pytest.raises(struct.error):
        shard.commit(batch, [record(-1, partition=70_000)])
    assert keys(shard) == []
    assert shard.applied_events() == 0


@given(st.lists(st.integers(0, 6), max_size=12))
def test_fresh_is_each_offset_once_in_order(offsets: list[int]) -> None:
    shard = Shard.__new__(Shard)  # without a folder: this asks only what is next
    shard._applied, shard._owned, shard.folder = {AT: Progress(2)}, Owned(), Path("shard")
    expected, new, gap = 2, [], False
    for offset in offsets:
        if offset == expected:
            new.append(offset)
            expected += 1
        elif offset > expected:
            gap = True
            break
    if gap:
        with pytest.raises(NotReady, match=rf"shard: topic 0 partition 3: offset \d came, {expected} is next"):
            shard.fresh([record(offset) for offset in offsets])
    else:
        assert [r.offset for r in shard.fresh([record(offset) for offset in offsets])] == new


def test_records_that_come_again_are_passed_over(shard: Shard) -> None:
    apply(shard, record(0), record(1))
    apply(shard, record(0), record(1), record(2))
    apply(shard, record(2))
    assert keys(shard) == [0, 1, 2]
    assert shard.applied_events() == 3
    with pytest.raises(NotReady, match="offset 4 came, 3 is next"):
        apply(shard, record(2), record(4))
    assert keys(shard) == [0, 1, 2], "nothing of what came with a gap"


def test_what_a_record_was_made_of_is_kept_with_the_data_and_what_comes_twice_is_emptied(tmp_path: Path) -> None:
    def made(offset: int, sequence: int, of: int, events: int) -> Record:
        return Record(Topic.USERS, 3, offset, 0, follows(events), Provenance(77, 1, of, 0), 5, sequence)

    shard = open_shard(tmp_path)
    apply(shard, record(0), record(0, partition=4))
    entries = [key for key, _ in shard.family("offsets").items()]
    assert list(map(len, entries)) == [3, 3], "a log that numbers its records stores no more"
    apply(shard, made(4, 0, of=8, events=2), made(9, 1, of=9, events=3))
    shard.close()
    shard = open_shard(tmp_path)
    found = shard.fresh([made(9, 1, of=9, events=3), made(12, 2, of=9, events=3), made(13, 3, of=10, events=1)])
    assert [(one.offset, len(one.batch), one.repeated) for one in found] == [(12, 0, 3), (13, 1, 0)]
    shard.commit(shard.batch(), found)
    assert (shard.positions([AT]), shard.applied_events()) == ({AT: 14}, 2 + 5 + 3 + 1)
    with pytest.raises(NotReady, match="shard: topic 0 partition 3: offset 15 came with number 5 of its writer"):
        shard.fresh([made(15, 5, of=11, events=1)])
    shard.close()


def test_wait_returns_when_all_offsets_are_applied(shard: Shard) -> None:
    apply(shard, record(0))
    shard.wait({}, 0)
    shard.wait({AT: 0}, 0)
    done = threading.Event()

    def wait() -> None:
        shard.wait({AT: 1, (0, 4): 0}, 60)
        done.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    apply(shard, record(1))
    assert not done.is_set()
    apply(shard, record(0, partition=4))
    assert done.wait(10)
    waiting.join()


def test_wait_says_what_is_missing_when_time_is_up(shard: Shard) -> None:
    apply(shard, record(0), record(1))
    for timeout in (0.05, 0.0, -1.0):
        with pytest.raises(DeadlineExceeded) as late:
            shard.wait({AT: 6, (0, 4): 0}, timeout)
        assert str(late.value) == "not caught up: topic 0 partition 3 is at 2, the token asks for 7"


def test_applied_events_may_be_asked_while_records_of_new_partitions_are_applied(shard: Shard) -> None:
    done = threading.Event()

    def commit() -> None:
        for partition in range(2_000):
            shard.commit(shard.batch(), [record(0, partition=partition)])
        done.set()

    thread = threading.Thread(target=commit)
    thread.start()
    seen = [0]
    while not done.is_set():
        seen.append(shard.applied_events())
    thread.join()
    assert seen == sorted(seen)
    assert shard.applied_events() == 2_000


WRITER = """
    import sys
    from pathlib import Path
    from tests.services.test_shard import AT, apply, open_shard, record

    shard = open_shard(Path(sys.argv[1]))
    while True:
        first = shard.positions([AT])[AT]
        apply(shard, *(record(offset) for offset in range(first, first + 3)))
        print(first + 2, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 40, 173])
def test_data_and_offsets_agree_after_kill_9(tmp_path: Path, lines: int) -> None:
    """Killed wherever it happens to be after so many commits, started again, killed again."""
    reported = -1
    for _ in range(2):
        with child(WRITER, tmp_path) as writer:
            for _ in range(lines):
                reported = int(read_line(writer))
            writer.kill()
            rest = writer.stdout.read().split() if writer.stdout else []
        reported = int(rest[-1]) if rest and rest[-1].isdigit() else reported
        shard = open_shard(tmp_path)
        position = shard.positions([AT])[AT]
        assert position > reported - 3, "the committed records are there"
        assert position % 3 == 0
        assert keys(shard) == list(range(position)), "each record once, and none without its offset"
        assert shard.applied_events() == position
        shard.close()
