"""What may be kept of a view's answers: never one that lacks a change known here, in whatever order the two hear of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core import tokens
from services.core.columns import ids
from services.core.events import Action, Batch, events, flags
from services.core.topics import Topic, partition_of
from services.log.memory import MemoryLog
from services.log.protocol import Partition, Positions, Record
from services.state.changes import Changes
from services.state.follower import Follower
from services.state.kept import Kept
from tests.kit import ONE_EPOCH
from tests.roadrunner.running import PARTITIONS as LOGGED
from tests.roadrunner.running import Running, running
from tests.services.children import until

PARTITIONS = 2
PINS = range(1, 6)
RELEVANT = flags(Action.UPDATE_PIN)
WHERE = [(int(Topic.OBJECTS), partition) for partition in range(PARTITIONS)]


class Appended:
    """A log in memory that may forget what it held, and leaves gaps."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.log = MemoryLog(PARTITIONS, gaps=3)

    def append(self, batch: Batch) -> None:
        self.records += self.log.append(batch, (Topic.OBJECTS,))

    def of(self, at: Partition, position: int = 0) -> list[Record]:
        """The records of a partition at or after a position, also those that the log forgot."""
        return [r for r in self.records if (int(r.topic), r.partition) == at and r.offset >= position]

    def after(self, at: Partition, position: int) -> int:
        """The position after the next record, if there is one."""
        return next((record.offset + 1 for record in self.of(at, position)), position)

    def end(self, at: Partition) -> int:
        return self.log.ends()[at].next


def changed(pin: int, action: Action = Action.UPDATE_PIN) -> Batch:
    return events(1, action=action, pin=pin, user=1, id=1, at_ms=1_700_000_000_000)


class Two:
    """A view that says how often a pin was changed, and one who keeps its answers."""

    def __init__(self, log: Appended) -> None:
        self.log, self.kept = log, Kept[int, bytes](1000, len)
        self.changes = Changes(log.log.reader(), PARTITIONS, RELEVANT, self.kept)
        self.view: Positions = dict.fromkeys(WHERE, 0)
        self.here: Positions = {}

    def count(self, pin: int, until: Positions) -> int:
        """How often a pin was changed before these positions."""
        at = int(Topic.OBJECTS), int(partition_of(ids([pin]), PARTITIONS)[0])
        before = [record for record in self.log.of(at) if record.offset < until.get(at, 0)]
        return sum(pin in record.batch.pin and bool(RELEVANT[record.batch.action].any()) for record in before)

    def begin(self) -> None:
        self.here = self.changes.shard.positions(WHERE)

    def follow(self, at: Partition) -> None:
        if at in self.here and self.here[at] < self.log.end(at):
            self.changes.apply(self.changes.shard.fresh(self.log.of(at, self.here[at])[:1]))
            self.here[at] = self.log.after(at, self.here[at])

    def answer(self) -> tuple[list[int], Positions]:
        """Of each pin, and how far the view had come."""
        return [self.count(pin, self.view) for pin in PINS], dict(self.view)

    def keep(self, answer: tuple[list[int], Positions]) -> None:
        counts, positions = answer
        reached = {at: offset - 1 for at, offset in positions.items() if offset}
        self.changes.keep(
            ids(PINS),
            reached,
            lambda rows: self.kept.put([PINS[row] for row in rows], [bytes([1 + counts[row]]) for row in rows]),
        )

    def held(self) -> dict[int, int]:
        """What is kept of each pin."""
        return {pin: value[0] - 1 for pin in PINS if (value := self.kept.get([pin])[0]) is not None}


step = st.one_of(
    st.tuples(st.just("append"), st.sampled_from(PINS)),
    st.tuples(st.just("act"), st.sampled_from(PINS)),
    st.tuples(st.just("view"), st.sampled_from([0, 1])),
    st.tuples(st.just("follow"), st.sampled_from([0, 1])),
    st.tuples(st.just("ask"), st.just(0)),
    st.tuples(st.just("keep"), st.integers(0, 3)),
    st.tuples(st.just("forget"), st.sampled_from([0, 1])),
    st.tuples(st.just("begin"), st.just(0)),
)


def do(two: Two, what: str, which: int, asked: list[tuple[list[int], Positions]]) -> None:
    log = two.log
    if what in ("append", "act"):
        log.append(changed(which, Action.UPDATE_PIN if what == "append" else Action.CLICK))
    elif what == "view":
        two.view[WHERE[which]] = log.after(WHERE[which], two.view[WHERE[which]])
    elif what == "follow":
        two.follow(WHERE[which])
    elif what == "ask":
        asked.append(two.answer())
    elif what == "keep" and which < len(asked):
        two.keep(asked[-1 - which])
    elif what == "forget":
        log.log.drop_before({WHERE[which]: log.end(WHERE[which])})
    elif what == "begin":
        two.begin()


@given(st.lists(step, max_size=80))
def test_what_is_kept_shows_every_change_that_has_come_here(steps: list[tuple[str, int]]) -> None:
    two, asked = Two(Appended()), list[tuple[list[int], Positions]]()
    for what, which in steps:
        do(two, what, which, asked)
        for pin, count in two.held().items():
            assert count >= two.count(pin, two.here), "an answer from before a change was kept"
    two.begin()
    for at in WHERE:
        two.view[at] = two.log.end(at)
        while two.here[at] < two.log.end(at):
            two.follow(at)
    for pin, count in two.held().items():
        assert count == two.count(pin, two.view)
    two.keep(two.answer())
    assert list(two.held()) == list(PINS), "whoever is up with the log is kept"


def test_what_is_asked_while_a_change_comes_is_not_kept() -> None:
    two = Two(Appended())
    two.begin()
    old = two.answer()
    two.log.append(changed(3))
    for at in WHERE:
        two.follow(at)
    two.keep(old)
    assert two.held() == {1: 0, 2: 0, 4: 0, 5: 0}
    two.view = dict(two.here)
    two.keep(two.answer())
    assert two.held()[3] == 1


def test_nothing_is_kept_before_the_log_is_followed_or_of_before_it_was() -> None:
    log = Appended()
    for _ in range(3):
        log.append(changed(3))
    two = Two(log)
    two.keep(two.answer())
    assert two.held() == {}
    two.begin()
    two.keep(two.answer())
    assert 3 not in two.held(), "the view has not applied what is in the log"


def test_an_answer_of_another_epoch_of_the_log_is_not_kept() -> None:
    """A view that has not yet heard of a log that was put back answers of a past which is no longer this log's."""
    two = Two(Appended())
    two.changes.shard.connect(ONE_EPOCH, {}, WHERE)
    two.begin()
    token, kept = tokens.encode({WHERE[0]: 99, WHERE[1]: 99}, 77), list[int]()
    two.changes.keep(ids(PINS), tokens.decode(token), kept.extend)
    assert kept == []
    token = tokens.encode({WHERE[0]: 99, WHERE[1]: 99}, ONE_EPOCH.epoch)
    two.changes.keep(ids(PINS), tokens.decode(token), kept.extend)
    assert kept == list(range(len(PINS)))


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as started:
        yield started


def test_it_follows_a_real_log_and_knows_what_a_token_asks_for(door: Running) -> None:
    kept = Kept[int, bytes](1000, len)
    log = door.reader()
    changes = Changes(log, LOGGED, RELEVANT, kept)
    before = door.publisher().publish(changed(1), 10)
    assert changes.shows(b"")
    assert not changes.shows(before.token), "it does not follow yet"
    follower = Follower(log, changes, (Topic.OBJECTS,), range(LOGGED))
    follower.start()
    try:
        until(lambda: not follower.why_not_ready())
        assert changes.shows(before.token)
        changes.keep(ids([1, 2]), tokens.decode(before.token), lambda rows: kept.put([1, 2], [b"x", b"y"]))
        assert kept.get([1, 2]) == [b"x", b"y"]
        after = door.publisher().publish(changed(2).replace(id=ids([2])), 10)
        until(lambda: changes.shows(after.token))
        assert kept.get([1, 2]) == [b"x", None]
        users = {(int(Topic.USERS), 0): 1 << 40}
        assert changes.shows(tokens.encode(users)), "another view's affair"
    finally:
        follower.stop()
