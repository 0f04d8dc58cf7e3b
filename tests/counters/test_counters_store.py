"""Counts: apply these increments, ask these windows. No process, no network; the clock is an argument."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counters import layout, partition, store
from counters.kernel import PAGES
from counters.store import CountersStore
from services.core.columns import ids
from services.core.errors import Exhausted, Unavailable
from services.core.events import ENGAGEMENTS, Action, Kind
from services.core.helpers import Helpers
from services.state.shard import Shard
from tests.counters.reference import DAY_MS, HOUR_MS, QUARTER, WEEK, Increment, Increments, Slow

PARTITIONS = 3
NOW = 1_750_000_000_000 // DAY_MS * DAY_MS + 5 * HOUR_MS + 1_234_567
WINDOWS = [0, HOUR_MS, 3 * HOUR_MS, DAY_MS, 7 * DAY_MS, 8 * DAY_MS, 90 * DAY_MS]
A = Action
PIN, BOARD, USER, INTEREST = Kind


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


class Opened:
    """A store, its clock, and the slow reference with the same increments."""

    def __init__(self, folder: Path, recent: int = 4_000) -> None:
        self.clock, self.slow, self._folder, self._recent = Clock(), Slow(partitions=PARTITIONS), folder, recent
        self._increments = Increments(PARTITIONS)
        self.open()

    def open(self) -> None:
        shard = Shard(self._folder, layout.FORMAT, layout.FAMILIES, 1, 1)
        self.store = CountersStore(shard, range(PARTITIONS), PARTITIONS, self.clock, self._recent)

    def apply(self, *increments: Increment) -> None:
        self.slow.happened += increments
        self.store.apply(self.store.shard.fresh(self._increments.records(increments)))

    def count(self, kind: int, object_: int, action: int, window: int, now: int = 0) -> float:
        found = self.store.counts(kind, ids([object_]), np.array([action], np.uint8), np.array([window]), now)
        return float(found[0, 0, 0])

    def agrees(self, windows: list[int], now: int = 0) -> None:
        """The store answers as the reference does, all together."""
        objects = sorted({(kind, object_) for kind, object_, *_ in self.slow.happened})
        kinds, found = np.array([k for k, _ in objects], np.uint8), ids([o for _, o in objects])
        actions = np.array([*ENGAGEMENTS[::-1], A.SAVE], np.uint8)
        counts = self.store.counts(kinds, found, actions, np.array(windows), now)
        assert counts.shape == (len(objects), len(actions), len(windows))
        moment, clock = now or self.clock(), self.clock()
        for i, (kind, object_) in enumerate(objects):
            for j, action in enumerate(actions.tolist()):
                expected = [self.slow.count(kind, object_, action, window, moment, clock) for window in windows]
                assert counts[i, j].tolist() == expected, (kind, object_, action)

    def close(self) -> None:
        self.store.shard.close()


@contextmanager
def opened(folder: Path, recent: int = 4_000) -> Iterator[Opened]:
    made = Opened(folder, recent)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def counting(tmp_path: Path) -> Iterator[Opened]:
    with opened(tmp_path / "0of1") as made:
        yield made


hours_ago = st.one_of(st.integers(-1, 6), st.integers(160, 175), st.integers(89 * 24 - 6, 91 * 24), st.just(9_999))
increment = st.tuples(
    st.sampled_from(list(Kind)), st.integers(1, 3), st.sampled_from(ENGAGEMENTS), hours_ago, st.integers(1, 40)
)


@settings(max_examples=25)
@given(
    st.lists(increment, min_size=1, max_size=30),
    st.lists(st.tuples(st.integers(1, 29), st.integers(0, 200)), max_size=4),
    st.integers(-100, 100),
    st.booleans(),
)
def test_any_increments_in_any_chunks_at_any_time(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: list[Increment],
    cuts: list[tuple[int, int]],
    asked_hours: int,
    reopened: bool,
) -> None:
    """cuts: where a chunk begins, and how many hours later than the one before it is applied."""
    increments = [(k, o, a, NOW - ago * HOUR_MS, times) for k, o, a, ago, times in drawn]
    with opened(tmp_path_factory.mktemp("counters")) as counting:
        later = dict(cuts)
        edges = [0, *sorted(cut for cut in later if cut < len(increments)), len(increments)]
        for start, stop in pairwise(edges):
            counting.clock.now += later.get(start, 0) * HOUR_MS
            counting.apply(*increments[start:stop])
        if reopened:
            counting.close()
            counting.open()
        counting.agrees(WINDOWS)
        counting.agrees(WINDOWS, now=counting.clock.now + asked_hours * HOUR_MS)
        for kind, action in ((PIN, A.SAVE), (INTEREST, A.IMPRESSION)):
            now = counting.clock.now
            for window in (0, 7 * DAY_MS, 90 * DAY_MS):
                objects, counts = counting.store.top(kind, action, window, 2)
                found = list(zip(objects.tolist(), counts.tolist(), strict=True))
                assert found == counting.slow.top(kind, action, window, 2, now, now)


def test_a_large_question_is_answered_alike_with_helpers(counting: Opened) -> None:
    pins = range(1, 2_001)
    counting.apply(*((PIN, pin, ENGAGEMENTS[pin % len(ENGAGEMENTS)], NOW - pin % 50 * HOUR_MS, pin) for pin in pins))
    asked = np.full(len(pins), PIN, np.uint8), ids(pins), np.array(ENGAGEMENTS, np.uint8), np.array(WINDOWS)
    alone = counting.store.counts(*asked)
    assert alone.any()
    counting.store.helpers = Helpers(3)
    with patch.object(store, "LARGE", len(pins)):
        for _ in range(20):
            np.testing.assert_array_equal(counting.store.counts(*asked), alone)
    counting.store.helpers.close()


def test_a_window_is_its_newest_buckets_the_one_under_way_included(counting: Opened) -> None:
    hour = NOW - NOW % HOUR_MS
    counting.apply(*((PIN, 5, A.CLICK, hour - ago * HOUR_MS, 1) for ago in range(300)))
    for hours in (1, 2, 24, 168):
        assert counting.count(PIN, 5, A.CLICK, hours * HOUR_MS) == hours
        assert counting.count(PIN, 5, A.CLICK, hours * HOUR_MS, now=hour) == hours, "at its first moment"
        assert counting.count(PIN, 5, A.CLICK, hours * HOUR_MS, now=hour + HOUR_MS - 1) == hours, "at its last"
    assert counting.count(PIN, 5, A.CLICK, 3 * HOUR_MS, now=hour + HOUR_MS) == 2
    today = NOW % DAY_MS // HOUR_MS + 1
    assert counting.count(PIN, 5, A.CLICK, 8 * DAY_MS) == 7 * 24 + today
    assert counting.count(PIN, 5, A.CLICK, 0) == 300


def test_what_is_later_than_the_moment_asked_for_is_in_no_window(counting: Opened) -> None:
    counting.apply((PIN, 5, A.SAVE, NOW, 3), (PIN, 5, A.SAVE, NOW - 2 * HOUR_MS, 4))
    assert counting.count(PIN, 5, A.SAVE, 7 * DAY_MS, now=NOW - HOUR_MS) == 4
    assert counting.count(PIN, 5, A.SAVE, 0, now=NOW - HOUR_MS) == 7, "ever has no moment"


def buckets(counting: Opened) -> int:
    partitions = counting.store._own.values()
    return sum(len(partition.table.page(page).buckets) for partition in partitions for page in range(PAGES))


@pytest.mark.parametrize(("window", "kept"), [(7 * DAY_MS, WEEK), (90 * DAY_MS, QUARTER)])
def test_an_expired_bucket_is_not_served_and_goes_with_the_next_write(counting: Opened, window: int, kept: int) -> None:
    size = HOUR_MS if kept == WEEK else DAY_MS
    counting.clock.now = NOW - NOW % size  # the bucket's first moment
    counting.apply((PIN, 5, A.SAVE, counting.clock.now, 3))
    assert buckets(counting) == 3
    counting.clock.now += kept - 1
    assert counting.count(PIN, 5, A.SAVE, window) == 3
    counting.clock.now += 1
    assert counting.count(PIN, 5, A.SAVE, window) == 0
    assert counting.count(PIN, 5, A.SAVE, window, now=counting.clock.now - kept + 1) == 0, (
        "whatever moment is asked for"
    )
    assert buckets(counting) == 3
    counting.apply((PIN, 5, A.CLICK, counting.clock.now - 200 * DAY_MS, 1))
    assert buckets(counting) > 3, "the clock makes nothing go"
    counting.apply((PIN, 5, A.CLICK, counting.clock.now, 1), (PIN, 5, A.CLICK, counting.clock.now - 200 * DAY_MS, 1))
    assert buckets(counting) == (3 if kept == WEEK else 2) + 2, "what expired went, what came too late never was"
    assert counting.count(PIN, 5, A.SAVE, 0) == 3


def test_a_large_count_reads_as_the_largest_float16(counting: Opened) -> None:
    counting.apply((PIN, 5, A.SAVE, NOW, 65_503), (PIN, 6, A.SAVE, NOW, 65_519), (PIN, 7, A.SAVE, NOW, 2**32 - 1))
    counting.apply((PIN, 7, A.SAVE, NOW, 2**32 - 1), (PIN, 8, A.SAVE, NOW, 2_047))
    found = counting.store.counts(int(PIN), ids([5, 6, 7, 8, 9]), np.array([A.SAVE], np.uint8), np.array([0, HOUR_MS]))
    assert found.dtype == np.float16
    assert found[:, 0, 0].tolist() == [65_504, 65_504, 65_504, 2_047, 0]
    assert (found[:, 0, 0] == found[:, 0, 1]).all()
    assert counting.store.top(PIN, A.SAVE, 0, 1)[1].tolist() == [float(np.float32(2**32 - 1))], "a sum does not wrap"


def test_records_that_were_applied_are_not_applied_again(counting: Opened) -> None:
    records = Increments(PARTITIONS).records([(PIN, 5, A.SAVE, NOW, 3), (USER, 9, A.SAVE, NOW, 2)])
    counting.store.apply(counting.store.shard.fresh(records))
    counting.close()
    counting.open()
    assert counting.store.shard.fresh(records) == []
    assert (counting.count(PIN, 5, A.SAVE, 0), counting.count(USER, 9, A.SAVE, 0)) == (3, 2)


def test_what_is_no_engagement_of_a_known_kind_is_passed_over(counting: Opened) -> None:
    counting.apply((9, 5, A.SAVE, NOW, 3), (PIN, 5, A.TAKEDOWN, NOW, 3), (PIN, 5, A.SAVE, NOW, 1))
    assert buckets(counting) == 3
    counting.apply((9, 5, A.SAVE, NOW, 3))
    assert counting.store.shard.applied_events() == 4


def test_nothing_asked_is_nothing(counting: Opened) -> None:
    assert counting.store.counts(int(PIN), ids([]), np.array([A.SAVE], np.uint8), np.array([0])).shape == (0, 1, 1)
    assert len(counting.store.top(PIN, A.SAVE, 0, 10)[0]) == 0


def test_a_read_that_waited_for_a_write_sees_it_and_none_before(
    counting: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting.apply((PIN, 4, A.SAVE, NOW, 20))
    seen, write = [], counting.store.shard.write

    def writing(batch: Any) -> None:
        seen.append(counting.count(PIN, 4, A.SAVE, 0))
        write(batch)
        seen.append(counting.count(PIN, 4, A.SAVE, 0))

    class Watched(dict[Any, Any]):
        def update(self, *_: Any, **__: Any) -> None:
            seen.append(counting.count(PIN, 4, A.SAVE, 0))

    monkeypatch.setattr(counting.store.shard, "write", writing)
    monkeypatch.setattr(counting.store.shard, "_applied", Watched(counting.store.shard._applied))
    counting.apply((PIN, 4, A.SAVE, NOW, 1))
    assert seen == [20, 20, 21], "old until it is on disk, new before a waiting token is let go"


def test_a_write_that_fails_changes_nothing_and_may_be_tried_again(
    counting: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition, "LEAST_BEHIND", 0)
    increments, shard = Increments(PARTITIONS), counting.store.shard
    for turn in range(40):
        records = increments.records([(PIN, pin, A.SAVE, NOW, turn + pin) for pin in range(1, 60)])
        counting.slow.happened += [(PIN, pin, A.SAVE, NOW, turn + pin) for pin in range(1, 60)]
        with monkeypatch.context() as patched, pytest.raises(Exhausted):
            patched.setattr(shard, "write", _full)
            counting.store.apply(shard.fresh(records))
        counting.store.apply(shard.fresh(records))
    counting.agrees([0, DAY_MS])
    counting.close()
    counting.open()
    counting.agrees([0, DAY_MS])


def _full(_: object) -> None:
    raise Exhausted("the disk is full")


def test_memory_that_does_not_follow_the_disk_takes_no_more_until_it_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as counting:
        records = Increments(PARTITIONS).records([(PIN, 5, A.SAVE, NOW, 3)])
        with monkeypatch.context() as patched:
            patched.setattr(counting.store._leaders, "note", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                counting.store.apply(records)
        with pytest.raises(Unavailable, match="takes no writes since one failed"):
            counting.store.apply(records)
        counting.store.shard.dead = False  # so that closing flushes, as the end of the process would not
        counting.close()
        counting.open()
        assert counting.store.shard.fresh(records) == []
        assert counting.count(PIN, 5, A.SAVE, 0) == 3


@settings(max_examples=15)
@given(st.lists(st.lists(increment, max_size=40), min_size=1, max_size=12), st.integers(0, 3), st.data())
def test_whatever_pages_were_written_when_it_is_opened_again_all_is_there(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[list[Increment]], pace: int, data: st.DataObject
) -> None:
    """Pages are written from the first increment on, slowly or fast; it is opened again at any moment."""
    with pytest.MonkeyPatch.context() as patched, opened(tmp_path_factory.mktemp("counters")) as counting:
        patched.setattr(partition, "LEAST_BEHIND", 0)
        patched.setattr(partition, "PACE", pace * 50)
        for chunk in chunks:
            counting.apply(*((k, o, a, NOW - ago * HOUR_MS, times) for k, o, a, ago, times in chunk))
            if data.draw(st.booleans()):
                counting.close()
                counting.open()
        counting.agrees(WINDOWS)


def test_increments_that_are_in_all_pages_are_deleted(counting: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "LEAST_BEHIND", 0)
    most = 0
    for turn in range(150):
        counting.apply(*((PIN, 1 + (turn * 31 + pin) % 400, A.SAVE, NOW, 1) for pin in range(100)))
        stored = [len(value) for _, value in counting.store.shard.family("increments").items()]
        most = max(most, sum(stored))
    held = sum(part.table.stored_bytes() for part in counting.store._own.values())
    assert sum(stored) < most <= 3 * held + PARTITIONS * 4_096
    assert 4 * most < 150 * 100 * layout.INCREMENT_BYTES
    counting.close()
    counting.open()
    counting.agrees([0, DAY_MS])


# --- leaders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reopened", [False, True])
def test_the_top_of_all_time_is_exact_though_few_are_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reopened: bool
) -> None:
    monkeypatch.setattr(store, "LEADERS", 20)
    monkeypatch.setattr(store, "SCANNED", 7)
    chance = np.random.default_rng(3)
    with opened(tmp_path, recent=5) as counting:
        for _ in range(15):
            objects, times = chance.integers(1, 400, 60).tolist(), chance.integers(1, 9, 60).tolist()
            counting.apply(*((BOARD, o, A.SAVE, NOW, n) for o, n in zip(objects, times, strict=True)))
            if reopened:
                counting.close()
                counting.open()
            found, counts = counting.store.top(BOARD, A.SAVE, 0, 20)
            expected = counting.slow.top(BOARD, A.SAVE, 0, 20, NOW, NOW)
            assert list(zip(found.tolist(), counts.tolist(), strict=True)) == expected


def test_a_recent_leader_may_be_none_of_all_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LEADERS", 10)
    with opened(tmp_path, recent=10) as counting:
        counting.apply(*((PIN, old, A.SAVE, NOW - 200 * DAY_MS, 1_000) for old in range(1, 11)))
        counting.apply(*((PIN, new, A.SAVE, NOW, new - 90) for new in range(91, 120)))
        found, counts = counting.store.top(PIN, A.SAVE, 7 * DAY_MS, 3)
        assert (found.tolist(), counts.tolist()) == ([119, 118, 117], [29, 28, 27])
        assert counting.store.top(PIN, A.SAVE, 0, 2)[0].tolist() == [1, 2]


def test_recent_leaders_leave_as_their_days_expire(tmp_path: Path) -> None:
    with opened(tmp_path, recent=3) as counting:
        counting.apply(*((PIN, pin, A.SAVE, NOW, 100) for pin in (1, 2, 3)))
        counting.clock.now += 8 * DAY_MS
        counting.apply((PIN, 9, A.SAVE, counting.clock.now, 1))
        assert counting.store.top(PIN, A.SAVE, DAY_MS, 5)[0].tolist() == [9]
        assert counting.store._leaders.of(int(PIN), 3)[1].objects.tolist() == [9]
