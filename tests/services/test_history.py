"""A log that went backwards, or is another one, under views and caches that have read further: noticed, and rebuilt."""

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.core import tokens
from services.core.errors import Damaged, NotReady, OutOfRange, Unavailable
from services.core.topics import Topic
from services.log.history import Epoch, LogHistory
from services.log.memory import MemoryLog
from services.log.protocol import End, Record, rows
from services.state.follower import Follower
from services.state.shard import Shard, open_or_rebuild, set_aside
from services.state.tail import Tail
from tests.roadrunner.running import PARTITIONS, Running, append, open_log, running
from tests.services.batches import follows
from tests.services.children import until

AT = (int(Topic.USERS), 0)


class Seen:
    """A view that keeps the ids of the events of `users`."""

    def __init__(self, folder: Path) -> None:
        self.shard = open_or_rebuild(folder / "view", "seen 1", ("ids",), 1, 1)

    def apply(self, records: list[Record]) -> None:
        batch = self.shard.batch()
        if records:
            for event in rows(records)[0].id.tolist():
                batch.put(event.to_bytes(8, "big"), b"", self.shard.handle("ids"))
        self.shard.commit(batch, records)

    def ids(self) -> set[int]:
        return {int.from_bytes(key, "big") for key in self.shard.family("ids").keys()}  # noqa: SIM118 - it is no dict


def follow(ingest: Running, view: Seen) -> str:
    """Follow the log until the view is ready or knows that it can't be; why it is not."""
    follower = Follower(ingest.reader(), view, (Topic.USERS,), range(PARTITIONS))
    follower.start()
    until(
        lambda: (
            (not follower.why_not_ready() and follower.lag().events == 0)
            or "the log" in view.shard.damage
            or "no longer holds" in follower.why_not_ready()
        )
    )
    why = follower.why_not_ready()
    follower.stop()
    return why


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as started:
        yield started


def publish(ingest: Running, first: int, n: int) -> set[int]:
    for i in range(n):
        ingest.publisher().publish(follows(1, first_id=first + i, user=first + i), 60)  # the first one may compile
    return set(range(first, first + n))


def put_back(ingest: Running, folder: Path, copy: Path) -> None:
    ingest.stop()
    shutil.rmtree(folder / "log")
    shutil.copytree(copy, folder / "log")
    ingest.start()


@pytest.mark.parametrize("after", [0, 3, 60])
def test_an_older_copy_of_the_log_rebuilds_the_view_however_much_was_written_since(
    ingest: Running, tmp_path: Path, after: int
) -> None:
    """Once new writes had passed its offsets, a view called itself ready and skipped them for ever."""
    kept = publish(ingest, 1, 20)
    ingest.stop()
    shutil.copytree(tmp_path / "log", tmp_path / "copy")
    ingest.start()
    lost = publish(ingest, 100, 30)
    view = Seen(tmp_path)
    assert follow(ingest, view) == ""
    assert view.ids() == kept | lost
    view.shard.close()

    put_back(ingest, tmp_path, tmp_path / "copy")
    kept |= publish(ingest, 500, after)
    view = Seen(tmp_path)
    assert "the log does not know the epoch" in follow(ingest, view)
    assert view.shard.dead, "the process ends and starts again"
    view.shard.close()
    gc.collect()
    view = Seen(tmp_path)
    assert follow(ingest, view) == ""
    assert view.ids() == kept
    assert len(set_aside(tmp_path / "view")) == 1
    view.shard.close()


def test_another_log_is_not_followed_on(ingest: Running, tmp_path: Path) -> None:
    publish(ingest, 1, 10)
    view = Seen(tmp_path)
    follow(ingest, view)
    ingest.stop()
    shutil.rmtree(tmp_path / "log")
    ingest.start()
    kept = publish(ingest, 100, 50)
    assert "the log is another one" in follow(ingest, view)
    view.shard.close()
    gc.collect()
    view = Seen(tmp_path)
    assert follow(ingest, view) == ""
    assert view.ids() == kept
    view.shard.close()


def test_a_log_that_was_only_started_again_is_followed_on(ingest: Running, tmp_path: Path) -> None:
    expected, view = set[int](), Seen(tmp_path)
    for first in (1, 100, 200):
        expected |= publish(ingest, first, 10)
        assert follow(ingest, view) == ""
        ingest.stop()
        ingest.start()
    assert view.ids() == expected
    assert not set_aside(tmp_path / "view")
    view.shard.close()


def test_a_subscription_ends_with_the_epoch_in_which_it_looked(ingest: Running) -> None:
    publish(ingest, 1, 3)
    reader = ingest.reader()
    before = reader.history(10)
    ingest.stop()
    ingest.start()
    with pytest.raises(Unavailable, match="the log has begun another epoch"):
        next(reader.subscribe({AT: 0}, before.epoch))
    after = reader.history(10)
    assert after.identity == before.identity
    assert [epoch.number for epoch in after.epochs[:-1]] == [epoch.number for epoch in before.epochs]
    reader.close()


def test_a_log_of_before_there_were_epochs_gets_an_identity_that_stays(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    append(log, follows(5))
    log.sync()
    batch = log._db.batch()
    batch.delete_range(b"", b"\xff", log._db.handle("history"))
    log._db.write(batch)
    log.close()
    seen = []
    for _ in range(2):
        log = open_log(tmp_path)
        seen.append(log.history)
        assert sum(log.history.epochs[-1].starts.values()) > 0
        log.close()
    assert seen[0].identity == seen[1].identity
    assert seen[0].epochs == seen[1].epochs[:-1]
    assert seen[0].epoch != seen[1].epoch


def test_a_token_of_a_past_that_was_lost_is_refused_and_others_are_waited_for(ingest: Running, tmp_path: Path) -> None:
    """It was waited for until the deadline, or taken for a write that came later at the same offset."""
    publish(ingest, 1, 3)
    ingest.stop()
    shutil.copytree(tmp_path / "log", tmp_path / "copy")
    ingest.start()
    lost = ingest.publisher().publish(follows(1, first_id=50, user=50), 60).token
    put_back(ingest, tmp_path, tmp_path / "copy")
    view = Seen(tmp_path)
    follower = Follower(ingest.reader(), view, (Topic.USERS,), range(PARTITIONS))
    follower.start()
    until(lambda: not follower.why_not_ready())
    kept = ingest.publisher().publish(follows(1, first_id=60, user=60), 60).token
    follower.wait(tokens.decode(kept), 10)
    with pytest.raises(OutOfRange, match="token: it is of a past that the log has lost"):
        follower.wait(tokens.decode(lost), 1_000)
    with pytest.raises(OutOfRange, match="token: it is of a past that the log has lost"):
        follower.wait(tokens.decode(kept + lost), 1_000)
    until(lambda: not follower.why_not_ready())
    ingest.stop()
    ingest.start()
    follower.wait(tokens.decode(kept), 10)
    newest = ingest.publisher().publish(follows(1, first_id=70, user=70), 60).token
    follower.wait(tokens.decode(kept + newest), 30)
    follower.stop()
    view.shard.close()


# --- where a history ends -------------------------------------------------------------------------------------------

HISTORY = LogHistory(b"i" * 16, [Epoch(7, {}), Epoch(8, {AT: 10}), Epoch(9, {AT: 20})])
ENDS = {AT: End(0, 25, 25)}


@pytest.mark.parametrize(
    ("epoch", "position", "said"),
    [
        (7, 10, ""),
        (7, 11, "which ended at 10: the log has lost what followed"),
        (8, 20, ""),
        (8, 21, "which ended at 20"),
        (9, 25, ""),
        (9, 26, "which ended at 25"),
        (6, 1, "does not know the epoch 0000000000000006"),
    ],
)
def test_an_epoch_ends_where_the_next_began(epoch: int, position: int, said: str) -> None:
    lost = HISTORY.lost(epoch, {AT: position}, ENDS)
    assert said in lost
    assert bool(lost) == bool(said)


def applied(folder: Path, offsets: int) -> Shard:
    shard = Shard(folder, "test 1", ("ids",), 1, 1)
    shard.connect(HISTORY, ENDS, [AT])
    for offset in range(offsets):
        shard.commit(shard.batch(), [Record(Topic.USERS, 0, offset, 1, follows(1, first_id=1 + offset))])
    return shard


def test_a_view_that_can_not_be_rebuilt_refuses_and_keeps_its_folder(tmp_path: Path) -> None:
    shard = applied(tmp_path / "view", 15)
    older = LogHistory(HISTORY.identity, [*HISTORY.epochs[:2], Epoch(77, {AT: 12})])
    with pytest.raises(NotReady, match="the log no longer holds everything, so this can't be rebuilt"):
        shard.connect(older, {AT: End(5, 30, 30)}, [AT])
    assert not shard.damage
    with pytest.raises(Damaged, match="does not know the epoch"):
        shard.connect(older, {AT: End(0, 30, 30)}, [AT])
    shard.close()


def test_a_new_view_of_a_log_that_dropped_its_beginning_says_so_and_what_to_do(tmp_path: Path) -> None:
    shard = Shard(tmp_path / "view", "seen 1", ("ids",), 1, 1)
    with pytest.raises(
        NotReady, match="0 is next, and the log begins at 5: it no longer holds everything.*restore the log"
    ):
        shard.connect(HISTORY, {AT: End(5, 30, 30)}, [AT])
    assert not shard.damage
    assert shard.epoch == 0
    shard.connect(HISTORY, {AT: End(0, 30, 30)}, [AT])
    assert shard.epoch == HISTORY.epoch
    shard.close()


def test_a_tail_begins_anew_when_the_log_went_backwards() -> None:
    lost: list[bool] = []
    log = MemoryLog(1, first={AT: 25})
    tail = Tail(log.reader(), lambda: lost.append(True))
    tail.connect(HISTORY, ENDS, [AT])
    assert tail.positions([AT]) == {AT: 25}
    tail.connect(HISTORY, ENDS, [AT])
    assert tail.positions([AT]) == {AT: 25}
    assert not lost
    for _ in range(15):
        log.append_to(Topic.USERS, 0, follows(1))
    tail.connect(LogHistory(HISTORY.identity, [*HISTORY.epochs[:2], Epoch(77, {AT: 12})]), log.ends(), [AT])
    assert tail.positions([AT]) == {AT: 40}
    assert lost == [True]


def test_where_an_epoch_ended_is_known_of_those_before() -> None:
    assert [HISTORY.end_of(epoch, AT) for epoch in (7, 8, 9, 77)] == [10, 20, None, None]
    assert HISTORY.end_of(7, (AT[0], AT[1] + 1)) == 0
