"""Changes of the cached pins that follow from the log, and no stale row that counts as sure, however far rockstore is behind."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.pins import ATTRIBUTES, COUNTS
from scorpion.cache import UNSURE_MS
from scorpion.changes import pin_changes
from scorpion.pin_features import PinFeatureLoader
from services.core.columns import ids
from services.core.errors import DeadlineExceeded, Unavailable
from services.core.events import Action, events
from services.core.topics import Topic, partition_of
from services.log.memory import MemoryLog
from services.log.protocol import Record
from services.state.change_feed import ChangeFeed, ViewPosition
from services.state.feed_view import FeedView
from tests.kit import ONE_EPOCH, OneEpochReader
from tests.scorpion.held import PARTITIONS, TTL, Asking, HeldOrigin, Time, caught_up, versions, waited
from tests.scorpion.making import NOW
from tests.scorpion.world import PARTITIONS as OF_WORLD
from tests.scorpion.world import running

QUALITY = ATTRIBUTES.index("pin_quality")
BEHIND = ViewPosition(ONE_EPOCH.epoch, dict.fromkeys(range(PARTITIONS), 5))  # of none of the changes of a test
AT = [(int(Topic.OBJECTS), partition) for partition in range(PARTITIONS)]


@pytest.fixture
def offsets() -> MemoryLog:
    return MemoryLog(PARTITIONS, first=dict.fromkeys(AT, 5))


@pytest.fixture
def changes(loader: PinFeatureLoader, feed: ChangeFeed, offsets: MemoryLog) -> FeedView:
    made = pin_changes(loader, feed, OneEpochReader(offsets))
    connect(made)
    return made


def connect(changes: FeedView) -> None:
    changes.shard.connect(ONE_EPOCH, {}, AT)
    assert changes.shard.positions(AT) == dict.fromkeys(AT, 5), "from its end"


def publish(changes: FeedView, offsets: MemoryLog, **columns: Any) -> list[Record]:
    records = offsets.append(events(1, **columns), (Topic.OBJECTS,))
    changes.apply(changes.shard.fresh(records))
    return records


@pytest.mark.parametrize(
    ("columns", "gone"),
    [
        ({"action": Action.CREATE_PIN, "pin": 2}, [2]),
        ({"action": Action.UPDATE_PIN, "pin": 2}, [2]),
        ({"action": Action.TAKEDOWN, "pin": 3}, [3]),
        ({"action": Action.JOIN_INTEREST, "pin": 2, "target": 3}, [2]),
        ({"action": Action.LEAVE_INTEREST, "pin": 2, "target": 3}, [2]),
        ({"action": Action.PUT_FEATURES, "target": 4, "title": ["vectors"], "features": [[1.0]]}, [4]),
        ({"action": Action.SWITCH_DATASET, "target": 9, "title": ["vectors"]}, [1, 2, 3, 4]),
        ({"action": Action.SWITCH_DATASET, "target": 9, "title": ["others"]}, []),
        ({"action": Action.SAVE, "pin": 2, "user": 1, "board": 3}, []),
        ({"action": Action.CREATE_BOARD, "user": 1, "board": 3}, []),
    ],
)
def test_a_change_drops_what_it_changes(
    loader: PinFeatureLoader,
    origin: HeldOrigin,
    changes: FeedView,
    offsets: MemoryLog,
    columns: dict[str, Any],
    gone: list[int],
) -> None:
    loader.widen(("vectors.a",))
    everyone = ids([1, 2, 3, 4])
    loader.of(everyone, 0, 5)
    origin.whole.clear()
    origin.version.update(gone)
    publish(changes, offsets, **columns)
    known = loader.of(everyone, 0, 5)
    assert origin.whole == gone
    assert versions(known) == [1 if pin in gone else 0 for pin in everyone.tolist()]


def test_a_change_while_a_pin_is_fetched_is_seen_by_later_requests(
    loader: PinFeatureLoader, origin: HeldOrigin, changes: FeedView, offsets: MemoryLog, clock: Time
) -> None:
    origin.gate.clear()
    origin.position = BEHIND
    before = Asking(lambda: loader.of(ids([2]), 0, 20))
    waited(origin)
    origin.version[2], origin.position = 1, caught_up()
    publish(changes, offsets, action=Action.UPDATE_PIN, pin=2)
    after = Asking(lambda: loader.of(ids([2]), 0, 20))
    waited(origin)
    origin.gate.set()
    assert versions(before.result()) == [0]
    assert versions(after.result()) == [1]
    assert versions(loader.of(ids([2]), 0, 5)) == [1], "the older answer did not replace the newer"


def test_a_read_that_must_see_a_write_takes_no_row_that_may_lack_it(
    loader: PinFeatureLoader, origin: HeldOrigin, changes: FeedView, offsets: MemoryLog, clock: Time
) -> None:
    loader.of(ids([1, 2]), 0, 5)
    publish(changes, offsets, action=Action.UPDATE_PIN, pin=2)
    origin.position = BEHIND
    loader.of(ids([2]), 0, 5)
    origin.version[2] = 1
    assert versions(loader.of(ids([1, 2]), 0, 5)) == [0, 0]
    assert versions(loader.of(ids([1, 2]), 0, 5, certain=True)) == [0, 1]
    assert origin.whole == [1, 2, 2, 2]
    clock.ms += UNSURE_MS + 1_000
    origin.version[2] = 2
    assert versions(loader.of(ids([2]), 0, 5)) == [2], "and others see it soon"


def test_a_rockstore_that_is_half_a_minute_behind_leaves_no_stale_row_that_counts_as_sure(
    loader: PinFeatureLoader, origin: HeldOrigin, changes: FeedView, offsets: MemoryLog, clock: Time
) -> None:
    loader.of(ids([1, 2]), 0, 5)
    publish(changes, offsets, action=Action.TAKEDOWN, pin=2)
    origin.position = BEHIND
    for _ in range(120):
        clock.ms += 250
        assert versions(loader.of(ids([1, 2]), 0, 5)) == [0, 0], "rockstore has not heard of it"
    assert 25 <= origin.whole.count(2) - 1 <= 31, "it is asked again once a second, not by every request"
    assert origin.whole.count(1) == 1, "what did not change is sure"
    origin.version[2], origin.position = 1, caught_up()
    assert versions(loader.of(ids([2]), 0, 5, certain=True)) == [1]
    assert versions(loader.of(ids([2]), 0, 5)) == [1], "the sure row took the place of the unsure one"
    asked = len(origin.whole)
    clock.ms += TTL - 1
    assert versions(loader.of(ids([1, 2]), 0, 5, certain=True)) == [0, 1]
    assert len(origin.whole) == asked, "and is not asked for again"


def test_an_answer_that_was_on_its_way_for_half_a_minute_replaces_no_newer_row(
    loader: PinFeatureLoader, origin: HeldOrigin, changes: FeedView, offsets: MemoryLog, clock: Time
) -> None:
    origin.gate.clear()
    origin.position = BEHIND
    slow = Asking(lambda: loader.of(ids([2]), 0, 60))
    waited(origin)
    publish(changes, offsets, action=Action.UPDATE_PIN, pin=2)
    clock.ms += 30_000
    origin.version[2], origin.position = 1, caught_up()
    fresh = Asking(lambda: loader.of(ids([2]), 0, 60))
    waited(origin)
    origin.gate.set()
    assert [versions(one.result()) for one in (fresh, slow)] == [[1], [0]]
    assert versions(loader.of(ids([2]), 0, 5)) == [1]
    assert versions(loader.of(ids([2]), 0, 5, certain=True)) == [1]


def test_a_switch_of_a_dataset_counts_for_a_cache_that_gets_its_columns_later(
    loader: PinFeatureLoader, origin: HeldOrigin, changes: FeedView, offsets: MemoryLog
) -> None:
    publish(changes, offsets, action=Action.SWITCH_DATASET, target=9, title=["vectors"])
    loader.widen(("vectors.a",))
    origin.position = BEHIND
    loader.of(ids([1, 2]), 0, 5)
    origin.position = caught_up()
    loader.of(ids([1, 2]), 0, 5, certain=True)
    assert origin.whole == [1, 2, 1, 2], "rows of before the switch are not sure"


def test_counts_do_not_lengthen_the_life_of_an_unsure_row(
    loader: PinFeatureLoader, origin: HeldOrigin, changes: FeedView, offsets: MemoryLog, clock: Time
) -> None:
    publish(changes, offsets, action=Action.UPDATE_PIN, pin=2)
    origin.position = BEHIND
    loader.of(ids([2]), 0, 5)
    loader.cache.put_counts(ids([2]), np.zeros((1, len(COUNTS)), np.float32), clock.ms + 50_000)
    loader.renew(0, 5)
    assert origin.renewed == []
    clock.ms += UNSURE_MS + 1_000
    loader.of(ids([2]), 0, 5)
    assert origin.whole == [2, 2]


def test_a_write_is_waited_for_until_it_is_dropped(changes: FeedView, offsets: MemoryLog) -> None:
    records = offsets.append(events(1, action=Action.UPDATE_PIN, pin=2), (Topic.OBJECTS,))
    reached = {(int(records[0].topic), records[0].partition): records[0].offset}
    with pytest.raises(DeadlineExceeded, match="is at 5, the token asks for 6"):
        changes.shard.wait(reached, 0)
    waiting = Asking(lambda: changes.shard.wait(reached, 10))
    changes.apply(changes.shard.fresh(records))
    waiting.result()
    assert changes.shard.applied_events() == 1
    assert changes.shard.fresh(records) == [], "none is applied twice"


def test_a_place_that_is_lost_clears_everything(loader: PinFeatureLoader, feed: ChangeFeed, offsets: MemoryLog) -> None:
    log = OneEpochReader(offsets)
    changes = pin_changes(loader, feed, log)
    log.away = True
    with pytest.raises(Unavailable):
        changes.shard.positions(AT)
    log.away = False
    connect(changes)
    loader.of(ids([1]), 0, 5)
    for at in AT * 4:
        offsets.append_to(Topic.OBJECTS, at[1], events(1, action=Action.CLICK, pin=1))
    assert changes.shard.positions(AT) == dict.fromkeys(AT, 5), "a log that was away goes on where it was"
    assert len(loader.cache) == 1
    offsets.drop_before(dict.fromkeys(AT, 7))
    assert changes.shard.positions(AT) == dict.fromkeys(AT, 9)
    assert len(loader.cache) == 0
    assert changes.shard.applied_events() == 4 * PARTITIONS


def test_real_rockstores_that_are_half_a_minute_behind_leave_no_stale_row(tmp_path: Path) -> None:
    with running(tmp_path, 2) as world:
        pin = ids([10])
        loader = world.loaders[int(partition_of(pin, OF_WORLD)[0]) * 2 // OF_WORLD]
        old = loader.of(pin, 0, 20).features.values[0, QUALITY]
        assert old == np.float32(3 / 7)
        world.publish(events(1, action=Action.UPDATE_PIN, pin=10, quality=1.0, at_ms=NOW), delayed=True)
        world.clock.ms += 30_000
        assert loader.of(pin, 0, 20).features.values[0, QUALITY] == old, "rockstore does not know better"
        world.catch_up()
        world.clock.ms += UNSURE_MS + 1_000
        assert loader.of(pin, 0, 20).features.values[0, QUALITY] == 1
        found = loader.of(pin, 0, 20, certain=True)
        assert (found.hits, found.features.values[0, QUALITY]) == (1, 1)
