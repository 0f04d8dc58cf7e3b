"""No entry counts as sure that lacks a change which its feed has heard of, in whatever order cache and view hear of it.

A log in memory leaves gaps, and may be opened again, put back from an older copy, and forget its beginning. A view follows it
at any pace, so does the feed, and answers are on their way for any time. What is cached is compared with a recount of the log.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.core import tokens
from services.core.columns import U64, Array, ids
from services.core.errors import Unavailable
from services.core.events import Action, Batch, events, flags
from services.core.topics import Topic, partition_of
from services.log.history import Epoch, LogHistory
from services.log.protocol import End, Partition, Positions, Record
from services.state.change_feed import OWN, UNKNOWN, ChangeFeed, ViewPosition, after
from services.state.feed_view import Changed, FeedView

PARTITIONS = 2
PINS = tuple(range(1, 5))
RELEVANT, EVERY = flags(Action.UPDATE_PIN), flags(Action.SWITCH_DATASET)
TOPIC = int(Topic.OBJECTS)
WHERE = [(TOPIC, partition) for partition in range(PARTITIONS)]
HOME = {pin: int(partition_of(ids([pin]), PARTITIONS)[0]) for pin in PINS}
ALL, GAP = 0, -2  # pins: of a change of every pin of a partition, and of an offset without a record
Entries = list[list[tuple[int, int]]]  # by partition and offset: the number of each change ever, and its pin; -1: none
Numbers = tuple[int, ...]


@cache
def batch_of(pin: int) -> Batch:
    action = Action.CLICK if pin < 0 else Action.UPDATE_PIN if pin else Action.SWITCH_DATASET
    return events(1, action=action, pin=max(pin, 0), user=1)


def record(partition: int, offset: int, pin: int, sequence: int | None = None) -> Record:
    return Record(Topic.OBJECTS, partition, offset, 0, batch_of(pin), writer=5, sequence=sequence)


def records_of(entries: Entries, partition: int, position: int, most: int) -> list[Record]:
    """The next records of a partition, at most so many. Their writer numbers them, as offsets have gaps."""
    found, sequence = list[Record](), 0
    for offset, (_, pin) in enumerate(entries[partition]):
        if pin == GAP:
            continue
        if offset >= position and len(found) < most:
            found.append(record(partition, offset, pin, sequence))
        sequence += 1
    return found


def changed(batch: Batch) -> Changed:
    every = bool(EVERY[batch.action].any())
    return Changed(batch.pin[RELEVANT[batch.action]], every, every)


def recount(entries: Entries, pin: int, end: int | None = None) -> Numbers:
    """The numbers of the changes of a pin before an offset."""
    return tuple(number for number, of in entries[HOME[pin]][:end] if of in (pin, ALL))


class PastLog:
    """A log that is opened again, put back, and forgets. `entries` is another list in each past."""

    def __init__(self) -> None:
        self.entries: Entries = [[] for _ in WHERE]
        self.epochs = [Epoch(1, {})]
        self.first = dict.fromkeys(WHERE, 0)
        self.copied = [[*of] for of in self.entries], [*self.epochs], {**self.first}
        self.numbers = iter(range(1, 10_000))
        self.when_asked: list[Callable[[], None]] = []  # what happens before the next answers

    def append(self, partition: int, pin: int) -> None:
        number = next(self.numbers)
        self.entries[partition] += [(number, GAP)] * (number % 3) + [(number, pin)]

    def open(self) -> None:
        """A new epoch begins."""
        starts = {at: len(self.entries[at[1]]) for at in WHERE}
        self.epochs = [*self.epochs, Epoch(1000 + next(self.numbers), starts)]

    def copy(self) -> None:
        self.copied = [[*of] for of in self.entries], [*self.epochs], {**self.first}

    def put_back(self) -> None:
        self.entries, self.epochs, self.first = [[*of] for of in self.copied[0]], [*self.copied[1]], {**self.copied[2]}
        self.open()

    def forget(self, partition: int) -> None:
        self.first[TOPIC, partition] = len(self.entries[partition])

    def history(self, timeout: float) -> LogHistory:
        if self.when_asked:
            self.when_asked.pop(0)()
        return LogHistory(b"a log in memory.", self.epochs)

    def ends(self, timeout: float, positions: Positions | None = None) -> dict[Partition, End]:
        if self.when_asked:
            self.when_asked.pop(0)()
        return {at: End(self.first[at], len(self.entries[at[1]]), 0) for at in WHERE}

    def subscribe(self, positions: Positions, epoch: int = 0) -> Iterator[list[Record]]:
        raise NotImplementedError

    def close(self) -> None:
        pass


@dataclass
class DelayedView:
    """A view that applies the log when the test says so, and is built anew when the log is no longer its past."""

    log: PastLog
    entries: Entries = field(default_factory=lambda: [[] for _ in WHERE])
    epoch: int = 0

    def connect(self) -> None:
        history = self.log.history(1)
        positions = {at: len(self.entries[at[1]]) for at in WHERE}
        if self.epoch and history.lost(self.epoch, positions, self.log.ends(1)):
            self.entries = [[] for _ in WHERE]
        self.epoch = history.epoch

    def apply(self, partition: int, most: int) -> None:
        if self.epoch == self.log.history(1).epoch:
            here = self.entries[partition]
            if found := records_of(self.log.entries, partition, len(here), most):
                here += self.log.entries[partition][len(here) : found[-1].offset + 1]

    def position(self) -> ViewPosition:
        reached = {at: len(self.entries[at[1]]) - 1 for at in WHERE if self.entries[at[1]]}
        return ViewPosition.of([tokens.encode(reached, self.epoch)], Topic.OBJECTS)


@dataclass
class Fill:
    """An answer on its way: its position is stated first, then it is read."""

    position: ViewPosition
    read: dict[int, Numbers] = field(default_factory=dict)


class Cached:
    """Sure entries: the numbers of the changes that each shows."""

    def __init__(self, log: PastLog) -> None:
        self.log, self.sure = log, dict[int, Numbers]()
        self.feed = ChangeFeed(PARTITIONS)
        self.view = FeedView(self.feed, log, Topic.OBJECTS, changed, self)
        self.entries: Entries = []  # of the past that is followed
        self.here: Positions = {}

    def drop(self, keys: U64) -> None:
        for pin in keys.tolist():
            self.sure.pop(pin, None)

    def clear(self) -> None:
        self.sure.clear()

    def connect(self) -> None:
        """As a follower does before it reads on. While the log changes under it, it asks again."""
        history, entries = self.log.history(1), self.log.entries
        try:
            self.view.shard.connect(history, self.log.ends(1), WHERE)
            self.here = self.view.shard.positions(WHERE)
        except Unavailable:
            self.here = {}
        else:
            self.entries = entries

    def apply(self, partition: int, most: int) -> None:
        at = TOPIC, partition
        if self.here and self.view.shard.epoch == self.log.history(1).epoch:
            records = records_of(self.entries, partition, self.here[at], most)
            self.view.apply(self.view.shard.fresh(records))
            if records:
                self.here[at] = records[-1].offset + 1

    def land(self, fill: Fill) -> None:
        def put(sure: Array) -> None:
            self.sure |= {pin: fill.read[pin] for pin, is_sure in zip(PINS, sure, strict=True) if is_sure}

        if fill.read:
            self.feed.fill(self.feed.places(ids(PINS)), fill.position, put)

    def check(self) -> None:
        """Each sure entry shows all changes before the feed's position, and nothing of a past that is lost."""
        assert self.here or not self.sure
        for pin, shown in self.sure.items():
            known, ever = recount(self.entries, pin, self.here[TOPIC, HOME[pin]]), recount(self.entries, pin)
            assert shown[: len(known)] == known, "a stale entry counts as sure"
            assert ever[: len(shown)] == shown, "an entry of another past counts as sure"


NUMBER = st.integers(0, 3)
PARTITION = st.sampled_from(range(PARTITIONS))
APPLY = st.tuples(st.sampled_from(["view", "feed"]), st.tuples(PARTITION, st.integers(1, 4)))
ANSWER = st.tuples(st.sampled_from(["state", "read", "land", "ask", "land"]), NUMBER)
APPEND = st.tuples(st.just("append"), st.sampled_from(PINS))
CONNECT = st.tuples(st.sampled_from(["connect view", "connect feed"]), st.none())
STEP = st.one_of(
    APPEND,
    APPEND,
    APPLY,
    APPLY,
    ANSWER,
    ANSWER,
    CONNECT,
    st.tuples(st.sampled_from(["every", "irrelevant", "forget"]), PARTITION),
    st.tuples(st.sampled_from(["open", "copy", "put back", "restart"]), st.none()),
    st.tuples(st.sampled_from(["put back under it", "land under it"]), NUMBER),
)


class World:
    """The log, the view that answers, and the cache with its feed."""

    def __init__(self) -> None:
        self.log = PastLog()
        self.view, self.cached = DelayedView(self.log), Cached(self.log)
        self.fills: list[Fill] = []
        for pin in PINS:
            self.log.append(HOME[pin], pin)
        self.log.copy()
        self.view.connect()
        self.cached.connect()
        for partition in range(PARTITIONS):
            self.view.apply(partition, 10)

    def do(self, what: str, which: Any) -> None:
        log, steps = self.log, {"view": self.view.apply, "feed": self.cached.apply}
        simple = {
            "open": log.open,
            "copy": log.copy,
            "put back": log.put_back,
            "connect view": self.view.connect,
            "connect feed": self.cached.connect,
            "restart": self.restart,
        }
        if what in simple:
            simple[what]()
        elif what in steps:
            steps[what](*which)
        elif what == "append":
            log.append(HOME[which], which)
        elif what in ("every", "irrelevant"):
            log.append(which, ALL if what == "every" else -1)
        elif what == "state":
            self.fills.append(Fill(self.view.position()))
        elif what == "ask":
            self.fills.append(asked(self))
            self.cached.land(self.fills[-1])
        elif what in ("put back under it", "land under it"):
            lands = partial(self.cached.land, self.fills[-1]) if self.fills else log.open
            log.when_asked = [lambda: None] * which + [log.put_back if what.startswith("put") else lands]
            self.cached.connect()
            log.when_asked = []
        elif what == "forget":
            log.forget(which)
        elif which < len(self.fills):
            fill = self.fills[-1 - which]
            if what == "read" and not fill.read:
                fill.read = {pin: recount(self.view.entries, pin) for pin in PINS}
            elif what == "land":
                self.cached.land(fill)

    def restart(self) -> None:
        """The process of the cache starts again; answers that were on their way to it are lost."""
        self.cached, self.fills = Cached(self.log), []

    def settle(self) -> None:
        """View and feed come to the log's end, and one more answer is cached."""
        self.view.connect()
        self.cached.connect()
        for partition in range(PARTITIONS):
            self.view.apply(partition, 10_000)
            self.cached.apply(partition, 10_000)
        self.cached.check()
        self.cached.land(asked(self))


def asked(world: World) -> Fill:
    """An answer of the view as it stands."""
    return Fill(world.view.position(), {pin: recount(world.view.entries, pin) for pin in PINS})


@settings(max_examples=300, deadline=None)
@given(st.lists(STEP, min_size=20, max_size=80))
def test_a_sure_entry_shows_every_change_that_its_feed_has_heard_of(steps: list[tuple[str, Any]]) -> None:
    world = World()
    for what, which in steps:
        world.do(what, which)
        world.cached.check()
    world.settle()
    world.cached.check()
    expected = {pin: recount(world.log.entries, pin) for pin in PINS}
    shown = {pin: world.cached.sure.get(pin, ()) for pin in PINS}
    assert shown == expected, "with all at the log's end everything is sure, or there is nothing to know"


def test_a_view_that_is_behind_fills_nothing_that_changed_until_it_catches_up() -> None:
    world = World()
    for partition in range(PARTITIONS):
        world.log.append(partition, -1)
    world.log.append(HOME[3], 3)
    for partition in range(PARTITIONS):
        world.cached.apply(partition, 10)
        world.view.apply(partition, 1)
    for _ in range(3):
        world.cached.land(asked(world))
        assert sorted(world.cached.sure) == [1, 2, 4], "the view has all but the change of 3"
    world.view.apply(HOME[3], 1)
    world.cached.land(asked(world))
    assert sorted(world.cached.sure) == [*PINS]


def test_an_answer_read_before_a_change_and_cached_after_it_is_not_sure() -> None:
    world = World()
    for partition in range(PARTITIONS):
        world.log.append(partition, -1)
        world.view.apply(partition, 1)
        world.cached.apply(partition, 1)
    early = asked(world)
    world.log.append(HOME[3], 3)
    world.view.apply(HOME[3], 1)
    world.cached.apply(HOME[3], 1)
    world.cached.land(early)
    assert sorted(world.cached.sure) == [1, 2, 4]


def test_nothing_is_sure_of_a_partition_that_is_not_followed() -> None:
    feed, sure = ChangeFeed(PARTITIONS), list[list[bool]]()
    feed.begin({0: 0})
    feed.fill(feed.places(ids(PINS)), ViewPosition(OWN, {0: 9, 1: 9}), lambda found: sure.append(found.tolist()))
    assert sure == [[HOME[pin] == 0 for pin in PINS]]


def test_positions_of_several_answers_are_one_only_within_an_epoch() -> None:
    one, two = tokens.encode({(TOPIC, 0): 4, (0, 1): 7}, 1), tokens.encode({(TOPIC, 1): 6}, 1)
    assert ViewPosition.of([one, two], Topic.OBJECTS) == ViewPosition(1, {0: 5, 1: 7})
    assert ViewPosition.of([one, tokens.encode({(TOPIC, 1): 6}, 1 + (1 << 16))], Topic.OBJECTS).epoch == UNKNOWN
    assert ViewPosition.of([tokens.encode({(TOPIC, 1): 6})], Topic.OBJECTS).epoch == UNKNOWN
    assert ViewPosition.of([], Topic.OBJECTS) == ViewPosition(UNKNOWN, {})
    both = ViewPosition(1, {0: 5, 1: 7}).least(ViewPosition(1, {0: 6, 2: 1}))
    assert both == ViewPosition(1, {0: 5})
    assert both.least(ViewPosition(2, {0: 5})).epoch == UNKNOWN


def test_the_next_offsets_after_records() -> None:
    records = [record(1, 4, 1), record(1, 5, 1), record(0, 2, 1)]
    assert after(records, 3).tolist() == [3, 6, 0]
