"""What is fetched, by whom and how often; with an origin that counts and can be held."""

import threading
import time
from functools import partial
from typing import Any

import numpy as np
import pytest

from features.pins import COUNTS, FACTS
from scorpion.cache import UNSURE_MS
from scorpion.changes import pin_changes
from scorpion.facts import Facts, Known
from scorpion.origin import COUNTERS, ROCKSTORE
from services.core.columns import ids
from services.core.errors import DeadlineExceeded, Unavailable
from services.core.events import Action, events
from services.core.topics import Topic
from services.log.memory import MemoryLog
from services.log.protocol import Record
from services.state.change_feed import ChangeFeed, ViewPosition
from services.state.feed_view import FeedView
from tests.kit import ONE_EPOCH, OneEpochReader
from tests.scorpion.held import PARTITIONS, Asking, Origin, Time, caught_up, followed

TTL = 60_000


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def origin() -> Origin:
    return Origin()


@pytest.fixture
def feed() -> ChangeFeed:
    return followed()


@pytest.fixture
def facts(origin: Origin, feed: ChangeFeed, clock: Time) -> Facts:
    return Facts(origin, feed, 2 << 20, TTL, clock)


def versions(known: Known) -> list[float]:
    return [float(value) for value in known.facts.values[:, 1]]


def counted(known: Known) -> list[float]:
    assert (known.facts.values[:, len(FACTS) :] == known.facts.values[:, len(FACTS), None]).all()
    return [float(value) for value in known.facts.values[:, len(FACTS)]]


def waited(origin: Origin, n: int = 1) -> None:
    for _ in range(n):
        assert origin.asked.acquire(timeout=10)


def test_a_pin_is_fetched_once_and_then_known(facts: Facts, origin: Origin) -> None:
    first = facts.of(ids([5, 6, 5, 7]), 0, 5)
    assert (first.hits, first.misses, first.lost) == (0, 4, [])
    assert sorted(origin.whole) == [5, 6, 7]
    np.testing.assert_array_equal(first.facts.values[:, 0], [5, 6, 5, 7])
    np.testing.assert_array_equal(first.facts.interests[:, 3], [5, 6, 5, 7])
    again = facts.of(ids([7, 5]), 0, 5)
    assert (again.hits, again.misses, again.facts.values[:, 0].tolist()) == (2, 0, [7, 5])
    assert len(origin.whole) == 3
    assert (facts.hits, facts.misses, facts.expired) == (2, 4, 0)


def test_expired_counts_alone_are_fetched_again(facts: Facts, origin: Origin, clock: Time) -> None:
    before = counted(facts.of(ids([5, 6]), 0, 5))
    clock.ms += TTL
    origin.version.update([5, 6])
    known = facts.of(ids([5, 6, 9]), 0, 5)
    assert sorted(origin.renewed) == [5, 6]
    assert origin.whole[2:] == [9]
    assert versions(known) == [0, 0, 0], "what an event did not change is not asked again"
    assert counted(known)[0] > before[0]
    assert (facts.expired, known.misses) == (2, 3)
    assert facts.of(ids([5, 6, 9]), 0, 5).hits == 3


def test_counts_of_pins_that_are_read_are_renewed_before_they_expire(facts: Facts, origin: Origin, clock: Time) -> None:
    before = counted(facts.of(ids([5, 6, 7]), 0, 5))
    clock.ms += TTL * 3 // 4 - 1
    facts.of(ids([5, 6]), 0, 5)
    facts.drop(ids([6]))
    facts.renew(TTL * 3 // 4, 5)
    assert origin.renewed == [], "none is so old"
    clock.ms += 1
    origin.version.update([5])
    facts.renew(TTL * 3 // 4, 5)
    assert sorted(origin.renewed) == [5, 7], "6 is gone"
    facts.renew(0, 5)
    assert len(origin.renewed) == 2, "nobody has read them since"
    clock.ms += TTL // 2
    known = facts.of(ids([5]), 0, 5)
    assert (known.hits, versions(known)) == (1, [0])
    assert counted(known)[0] > before[0]


def test_counts_that_could_not_be_renewed_are_asked_for_once_they_expire(
    facts: Facts, origin: Origin, clock: Time
) -> None:
    before = counted(facts.of(ids([5]), 0, 5))
    facts.of(ids([5]), 0, 5)
    clock.ms += TTL - 1
    origin.lost = frozenset({COUNTERS})
    facts.renew(TTL // 2, 5)
    assert counted(facts.of(ids([5]), 0, 5)) == before
    origin.lost = frozenset()
    clock.ms += 1
    assert counted(facts.of(ids([5]), 0, 5))[0] > before[0]
    assert facts.expired == 1


def test_requests_that_lack_one_pin_share_one_fetch(facts: Facts, origin: Origin) -> None:
    origin.gate.clear()
    asking = [Asking(lambda: facts.of(ids([1, 2, 3]), 0, 20))]
    waited(origin)
    asking += [Asking(lambda: facts.of(ids([3, 2]), 0, 20)) for _ in range(6)]
    asking.append(Asking(lambda: facts.of(ids([3, 4]), 0, 20)))
    waited(origin)  # 4 is fetched, whoever waits for 3
    origin.gate.set()
    answers = [thread.result() for thread in asking]
    assert sorted(origin.whole) == [1, 2, 3, 4]
    assert [a.facts.values[:, 0].tolist() for a in answers] == [[1, 2, 3], *[[3, 2]] * 6, [3, 4]]


def test_a_miss_does_not_hold_up_hits(facts: Facts, origin: Origin) -> None:
    facts.of(ids([1, 2]), 0, 5)
    waited(origin)
    origin.gate.clear()
    held = Asking(lambda: facts.of(ids([3]), 0, 20))
    waited(origin)
    assert facts.of(ids([1, 2]), 0, 5).hits == 2
    assert held.is_alive()
    origin.gate.set()
    assert held.result().misses == 1


def test_so_many_wait_for_a_slow_origin_and_the_next_takes_what_there_is(origin: Origin, clock: Time) -> None:
    facts = Facts(origin, followed(), 2 << 20, TTL, clock, waiting=2)
    facts.of(ids([1, 2]), 0, 5)
    waited(origin)
    origin.gate.clear()
    waiting = [Asking(partial(facts.of, ids([1, pin]), 0, 20)) for pin in (10, 11)]
    waited(origin, 2)
    third = facts.of(ids([1, 12]), 0, 20)
    assert (third.hits, third.misses, third.lost) == (1, 1, [COUNTERS, ROCKSTORE])
    assert np.isnan(third.facts.values[1]).all()
    assert facts.of(ids([2, 1]), 0, 20).hits == 2
    assert all(one.is_alive() for one in waiting), "nothing was fetched until here"
    origin.gate.set()
    assert [one.result().facts.values[1, 0] for one in waiting] == [10, 11]
    assert facts.of(ids([12]), 0, 5).lost == []


def test_who_has_more_time_than_the_one_who_fetches_asks_again(facts: Facts, origin: Origin) -> None:
    origin.gate.clear()
    short = Asking(lambda: facts.of(ids([1]), 0, 0.3))
    waited(origin)
    long = Asking(lambda: facts.of(ids([1]), 0, 20))
    assert short.result().lost == [COUNTERS, ROCKSTORE]
    waited(origin)
    origin.gate.set()
    assert long.result().lost == []
    assert origin.whole == [1, 1]


def test_who_waits_does_so_no_longer_than_its_own_time(facts: Facts, origin: Origin) -> None:
    origin.gate.clear()
    slow = Asking(lambda: facts.of(ids([1]), 0, 20))
    waited(origin)
    began = time.monotonic()
    known = facts.of(ids([1]), 0, 0.2)
    assert time.monotonic() - began < 2
    assert known.lost == [COUNTERS, ROCKSTORE]
    assert np.isnan(known.facts.values).all()
    origin.gate.set()
    assert slow.result().lost == []


def test_what_cannot_be_asked_is_missing_named_and_not_kept(facts: Facts, origin: Origin) -> None:
    origin.lost = frozenset({ROCKSTORE})
    known = facts.of(ids([1]), 0, 5)
    assert known.lost == [ROCKSTORE]
    assert np.isnan(known.facts.values[0, : len(FACTS)]).all()
    assert len(facts.cache) == 0
    origin.lost = frozenset()
    assert facts.of(ids([1]), 0, 5).lost == []
    assert origin.whole == [1, 1]


def test_attributes_are_kept_though_counts_are_lost(facts: Facts, origin: Origin, clock: Time) -> None:
    origin.lost = frozenset({COUNTERS})
    known = facts.of(ids([1]), 0, 5)
    assert known.lost == [COUNTERS]
    assert np.isnan(known.facts.values[0, len(FACTS) :]).all()
    origin.lost = frozenset()
    known = facts.of(ids([1]), 0, 5)
    assert (known.lost, origin.whole, origin.renewed) == ([], [1], [1])
    assert not np.isnan(known.facts.values).any()
    clock.ms += TTL
    origin.lost = frozenset({COUNTERS})
    stale = facts.of(ids([1]), 0, 5)
    assert (stale.lost, counted(stale)) == ([COUNTERS], counted(known)), "old counts are better than none"


def test_an_error_of_ones_own_ends_the_fetch(facts: Facts, origin: Origin) -> None:
    origin.broken = True
    with pytest.raises(ValueError, match="broken"):
        facts.of(ids([1]), 0, 5)
    origin.broken = False
    assert facts.of(ids([1]), 0, 5).lost == []


def test_columns_of_datasets_come_with_the_pin(facts: Facts, origin: Origin) -> None:
    facts.of(ids([1]), 0, 5)
    facts.widen(("vectors.b", "vectors.a"))
    known = facts.of(ids([1]), 0, 5)
    assert {name: column.tolist() for name, column in known.datasets.items()} == {"vectors.a": [7], "vectors.b": [7]}
    assert origin.whole == [1, 1]
    kept = facts.cache
    facts.widen(("vectors.a",))
    assert facts.cache is kept, "a model that needs no more leaves the cache as it is"


BEHIND = ViewPosition(ONE_EPOCH.epoch, dict.fromkeys(range(PARTITIONS), 5))  # of none of the changes of a test
AT = [(int(Topic.OBJECTS), partition) for partition in range(PARTITIONS)]


@pytest.fixture
def offsets() -> MemoryLog:
    return MemoryLog(PARTITIONS, first=dict.fromkeys(AT, 5))


@pytest.fixture
def changes(facts: Facts, feed: ChangeFeed, offsets: MemoryLog) -> FeedView:
    made = pin_changes(facts, feed, OneEpochReader(offsets))
    connect(made)
    return made


def connect(changes: FeedView) -> None:
    changes.shard.connect(ONE_EPOCH, {}, AT)
    assert changes.shard.positions(AT) == dict.fromkeys(AT, 5), "from its end"


def tell(changes: FeedView, offsets: MemoryLog, **columns: Any) -> list[Record]:
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
    facts: Facts, origin: Origin, changes: FeedView, offsets: MemoryLog, columns: dict[str, Any], gone: list[int]
) -> None:
    facts.widen(("vectors.a",))
    everyone = ids([1, 2, 3, 4])
    facts.of(everyone, 0, 5)
    origin.whole.clear()
    origin.version.update(gone)
    tell(changes, offsets, **columns)
    known = facts.of(everyone, 0, 5)
    assert origin.whole == gone
    assert versions(known) == [1 if pin in gone else 0 for pin in everyone.tolist()]


def test_a_change_while_a_pin_is_fetched_is_seen_by_who_asks_after_it(
    facts: Facts, origin: Origin, changes: FeedView, offsets: MemoryLog, clock: Time
) -> None:
    origin.gate.clear()
    before = Asking(lambda: facts.of(ids([2]), 0, 20))
    waited(origin)
    origin.version[2] = 1
    tell(changes, offsets, action=Action.UPDATE_PIN, pin=2)
    after = Asking(lambda: facts.of(ids([2]), 0, 20))
    waited(origin)
    origin.gate.set()
    assert versions(before.result()) == [0]
    assert versions(after.result()) == [1]
    assert versions(facts.of(ids([2]), 0, 5)) == [1], "the older answer did not replace the newer"


def test_a_read_that_must_see_a_write_takes_no_row_that_may_lack_it(
    facts: Facts, origin: Origin, changes: FeedView, offsets: MemoryLog, clock: Time
) -> None:
    facts.of(ids([1, 2]), 0, 5)
    tell(changes, offsets, action=Action.UPDATE_PIN, pin=2)
    origin.position = BEHIND
    facts.of(ids([2]), 0, 5)
    origin.version[2] = 1
    assert versions(facts.of(ids([1, 2]), 0, 5)) == [0, 0]
    assert versions(facts.of(ids([1, 2]), 0, 5, certain=True)) == [0, 1]
    assert origin.whole == [1, 2, 2, 2]
    clock.ms += UNSURE_MS + 1_000
    origin.version[2] = 2
    assert versions(facts.of(ids([2]), 0, 5)) == [2], "and others see it soon"


def test_a_rockstore_that_is_half_a_minute_behind_leaves_no_stale_row_that_counts_as_sure(
    facts: Facts, origin: Origin, changes: FeedView, offsets: MemoryLog, clock: Time
) -> None:
    facts.of(ids([1, 2]), 0, 5)
    tell(changes, offsets, action=Action.TAKEDOWN, pin=2)
    origin.position = BEHIND
    for _ in range(120):
        clock.ms += 250
        assert versions(facts.of(ids([1, 2]), 0, 5)) == [0, 0], "rockstore has not heard of it"
    assert 25 <= origin.whole.count(2) - 1 <= 31, "it is asked again once a second, not by every request"
    assert origin.whole.count(1) == 1, "what did not change is sure"
    origin.version[2], origin.position = 1, caught_up()
    assert versions(facts.of(ids([2]), 0, 5, certain=True)) == [1]
    assert versions(facts.of(ids([2]), 0, 5)) == [1], "the sure row took the place of the unsure one"
    asked = len(origin.whole)
    clock.ms += TTL - 1
    assert versions(facts.of(ids([1, 2]), 0, 5, certain=True)) == [0, 1]
    assert len(origin.whole) == asked, "and is not asked for again"


def test_an_answer_that_was_on_its_way_for_half_a_minute_replaces_no_newer_row(
    facts: Facts, origin: Origin, changes: FeedView, offsets: MemoryLog, clock: Time
) -> None:
    origin.gate.clear()
    origin.position = BEHIND
    slow = Asking(lambda: facts.of(ids([2]), 0, 60))
    waited(origin)
    tell(changes, offsets, action=Action.UPDATE_PIN, pin=2)
    clock.ms += 30_000
    origin.version[2], origin.position = 1, caught_up()
    fresh = Asking(lambda: facts.of(ids([2]), 0, 60))
    waited(origin)
    origin.gate.set()
    assert [versions(one.result()) for one in (fresh, slow)] == [[1], [0]]
    assert versions(facts.of(ids([2]), 0, 5)) == [1]
    assert versions(facts.of(ids([2]), 0, 5, certain=True)) == [1]


def test_a_switch_of_a_dataset_counts_for_a_cache_that_gets_its_columns_later(
    facts: Facts, origin: Origin, changes: FeedView, offsets: MemoryLog
) -> None:
    tell(changes, offsets, action=Action.SWITCH_DATASET, target=9, title=["vectors"])
    facts.widen(("vectors.a",))
    origin.position = BEHIND
    facts.of(ids([1, 2]), 0, 5)
    origin.position = caught_up()
    facts.of(ids([1, 2]), 0, 5, certain=True)
    assert origin.whole == [1, 2, 1, 2], "rows of before the switch are not sure"


def test_counts_do_not_lengthen_the_life_of_an_unsure_row(
    facts: Facts, origin: Origin, changes: FeedView, offsets: MemoryLog, clock: Time
) -> None:
    tell(changes, offsets, action=Action.UPDATE_PIN, pin=2)
    origin.position = BEHIND
    facts.of(ids([2]), 0, 5)
    facts.cache.put_counts(ids([2]), np.zeros((1, len(COUNTS)), np.float32), clock.ms + 50_000)
    facts.renew(0, 5)
    assert origin.renewed == []
    clock.ms += UNSURE_MS + 1_000
    facts.of(ids([2]), 0, 5)
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


def test_a_place_that_is_lost_clears_everything(facts: Facts, feed: ChangeFeed, offsets: MemoryLog) -> None:
    log = OneEpochReader(offsets)
    changes = pin_changes(facts, feed, log)
    log.away = True
    with pytest.raises(Unavailable):
        changes.shard.positions(AT)
    log.away = False
    connect(changes)
    facts.of(ids([1]), 0, 5)
    for at in AT * 4:
        offsets.append_to(Topic.OBJECTS, at[1], events(1, action=Action.CLICK, pin=1))
    assert changes.shard.positions(AT) == dict.fromkeys(AT, 5), "a log that was away goes on where it was"
    assert len(facts.cache) == 1
    offsets.drop_before(dict.fromkeys(AT, 7))
    assert changes.shard.positions(AT) == dict.fromkeys(AT, 9)
    assert len(facts.cache) == 0
    assert changes.shard.applied_events() == 4 * PARTITIONS


def test_many_threads_get_what_they_asked_for(facts: Facts, origin: Origin, clock: Time) -> None:
    stop = threading.Event()

    def change() -> None:
        rng = np.random.default_rng(0)
        while not stop.is_set():
            facts.drop(rng.integers(1, 400, 3, np.uint64))
            clock.ms += 300

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(300):
            pins = rng.integers(1, 400, 40, np.uint64)
            known = facts.of(pins, 0, 20)
            assert not known.lost
            np.testing.assert_array_equal(known.facts.values[:, 0], pins)
            np.testing.assert_array_equal(known.facts.interests[:, 5], pins)

    changing = Asking(change)
    asking = [Asking(lambda seed=seed: ask(seed)) for seed in range(4)]  # type: ignore[misc]
    for thread in asking:
        thread.result()
    stop.set()
    changing.result()
    assert not facts._flights
    assert len(COUNTS) == 20
