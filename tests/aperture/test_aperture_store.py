"""The store against an obvious list, with freezing and reopening at any moment."""

import tempfile
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aperture import freezer, kernel, layout, store
from aperture.store import TOPICS, By
from services.core.clock import DAY_MS
from services.core.columns import ids
from services.core.events import EARLIEST_MS, ENGAGEMENTS, Action, flags
from services.log.memory import MemoryLog
from services.log.protocol import Record
from tests.aperture.reference import (
    NOON,
    PARTITIONS,
    TODAY,
    Event,
    batch_of,
    freeze_all,
    kinds,
    opened,
    records,
    saves,
    slow_counts,
    slow_history,
    tuples,
)

IDS = st.integers(1, 6) | st.just(2**64 - 1)
DATES = st.integers(-4, 1).map(lambda d: TODAY + d * DAY_MS) | st.integers(TODAY - 3 * DAY_MS, NOON)
DATES = DATES | st.just(946_684_800_000) | st.just(EARLIEST_MS)
EVENT = st.builds(
    Event,
    st.sampled_from([1, 2, 3, 2**64 - 1]),
    st.sampled_from([*map(int, ENGAGEMENTS), int(Action.FOLLOW_USER)]),
    IDS,
    st.integers(0, 3),
    DATES,
    st.integers(0, 9),
)
OPS = st.lists(
    st.one_of(
        st.tuples(st.just("apply"), st.lists(EVENT, min_size=1, max_size=12)),
        st.tuples(st.just("freeze"), st.integers(1, 4)),
        st.tuples(st.just("reopen"), st.integers(0, 5)),
        st.tuples(st.just("midnight"), st.just(0)),
    ),
    min_size=1,
    max_size=14,
)
ACTION_SETS = st.sets(st.sampled_from([int(a) for a in ENGAGEMENTS]), min_size=1)


class CheckedStore:
    """A store and the list that it must agree with."""

    def __init__(self, folder: Path, stack: ExitStack, recent_keys: int) -> None:
        self.folder, self.stack, self.recent_keys = folder, stack, recent_keys
        self.now, self.log = NOON, list[Event]()
        self.offsets, self.taken = MemoryLog(PARTITIONS), list[Record]()
        self._open()

    def _open(self) -> None:
        self.stack.close()
        self.store = self.stack.enter_context(opened(self.folder, lambda: self.now, self.recent_keys))

    def run(self, op: str, value: Any) -> None:
        if op == "apply":
            came = self.offsets.append(batch_of(value), TOPICS)
            self.taken += came
            self.log += [e for e in value if e.action != Action.FOLLOW_USER]
            self._apply(came)
        elif op == "freeze":
            for _ in range(value):
                self.store.freezer.step()
        elif op == "midnight":
            self.now += DAY_MS
        else:
            self._open()
            self._apply(self.taken[-value:] if value else [])

    def _apply(self, came: list[Record]) -> None:
        fresh = self.store.shard.fresh(came)
        half = len(fresh) // 2
        for part in (fresh[:half], fresh[half:]):
            self.store.apply(part)

    def check(self, since: int, until: int, actions: set[int], limit: int, windows: list[int]) -> None:
        wanted, now = flags(*map(Action, actions)), self.now
        for user in (1, 2, 3, 4, 2**64 - 1):
            rows = self.store.history(user, since, until, wanted, limit)
            assert tuples(rows, user) == slow_history(self.log, user, since, until, actions, limit)
            pins = {e.pin for e in slow_history(self.log, user, since, layout.LAST_MS, actions, 10**6)}
            assert self.store.seen(user, since, wanted).tolist() == sorted(pins)
            for by in By:
                ordered = sorted(actions, reverse=True)
                counts = self.store.counts(user, np.array(ordered, np.uint8), np.array(windows), by, now)
                slow = slow_counts(self.log, user, ordered, windows, by, now)
                assert counts.keys.tolist() == list(slow)
                assert counts.counts.tolist() == list(slow.values())


@settings(max_examples=60)
@given(
    ops=OPS,
    recent_keys=st.integers(1, 3),
    segment=st.sampled_from([1, 100, layout.SEGMENT_BYTES]),
    step=st.integers(1, 3),
    max_due=st.integers(0, 3),
    span=st.tuples(DATES, DATES),
    actions=ACTION_SETS,
    limit=st.integers(1, 8),
    windows=st.lists(st.integers(1, 5 * DAY_MS) | st.just(2**62), min_size=1, max_size=3),
)
def test_it_answers_as_a_list_would_whatever_is_frozen_when(
    ops: list[tuple[str, Any]],
    recent_keys: int,
    segment: int,
    step: int,
    max_due: int,
    span: tuple[int, int],
    actions: set[int],
    limit: int,
    windows: list[int],
) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack, ExitStack() as sizes:
        for module, name, value in (
            (layout, "SEGMENT_BYTES", segment),
            (freezer, "STEP_DAYS", step),
            (freezer, "MAX_DUE", max_due),
            (store, "_BLOCK_ROWS", 2),
        ):
            sizes.enter_context(patch.object(module, name, value))
        model = CheckedStore(Path(folder), stack, recent_keys)
        for op, value in ops:
            model.run(op, value)
        model.check(min(span), max(span), actions, limit, windows)
        model.check(0, layout.LAST_MS, actions, 10**6, windows)
        model.now += 2 * DAY_MS
        freeze_all(model.store)
        assert kinds(model.store)[1] == model.store.freezer.recent == 0
        assert not list(model.store.shard.family("pending").keys())
        model.check(0, layout.LAST_MS, actions, limit, windows)


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), st.integers(0, 2)), max_size=30),
    windows=st.lists(st.integers(1, 31), min_size=1, max_size=4),
)
def test_a_tally_counts_each_row_in_every_window_that_reaches_it(
    rows: list[tuple[int, int, int]], windows: list[int]
) -> None:
    slow = np.zeros((4, len(windows), 3), np.uint32)
    for key, age, slot in rows:
        for w, window in enumerate(windows):
            slow[key, w, slot] += age < window
    keys, ages, slots = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    assert np.array_equal(kernel.tally(keys, 4, ages, np.array(windows), slots, 3), slow)


@given(st.lists(st.integers(0, 300) | st.integers(0, 2**64 - 1) | st.just(2**64 - 1), max_size=60))
def test_the_distinct_are_each_id_once_and_ascend(drawn: list[int]) -> None:
    given_ids = ids(drawn)
    assert kernel.distinct(given_ids).tolist() == sorted(set(drawn))
    assert given_ids.tolist() == drawn


@given(st.integers(0, 63), st.integers(0, 63), st.lists(st.integers(0, 999), min_size=1, max_size=300))
def test_ids_that_differ_in_few_bits_are_told_apart(first: int, second: int, drawn: list[int]) -> None:
    """Of the digits an id is sorted by, any may be the only ones that differ."""
    found = [(1 << 40) ^ ((i & 1) << first) ^ ((i & 2) >> 1 << second) for i in drawn]
    assert kernel.distinct(ids(found)).tolist() == sorted(set(found))


@given(st.lists(st.integers(0, 5), max_size=8))
def test_values_hold_rows_as_they_were(lengths: list[int]) -> None:
    n = sum(lengths)
    random = np.random.default_rng(n)
    pins, boards = (random.integers(0, 2**64, n, np.uint64) for _ in range(2))
    codes = random.integers(0, 256, n).astype(np.uint8)
    rows = layout.EventRows(pins, boards, random.integers(0, 2**62, n), codes, codes[::-1])
    ends = np.cumsum(lengths, dtype=np.int64)
    values = layout.pack(rows, ends)
    assert [layout.rows_in(value) for value in values] == lengths
    for value, (start, end) in zip(values, pairwise([0, *ends.tolist()]), strict=True):
        assert tuples(layout.unpack([b""], [value]), 1) == tuples(rows, 1)[start:end]
    assert tuples(layout.unpack([b""] * len(values), values), 1) == tuples(rows, 1)
    assert layout.pins_of([b""] * len(values), values).tolist() == pins.tolist()


def test_equal_dates_show_the_later_arrival_first_and_duplicates_are_two_rows(tmp_path: Path) -> None:
    with opened(tmp_path) as found:
        found.apply(records(saves(1, [NOON, NOON]), saves(1, [NOON]), saves(1, [NOON - 1], pin=9)))
        assert found.history(1).pins.tolist() == [1, 2, 1, 9]
        assert found.history(1, limit=2).pins.tolist() == [1, 2]
        assert found.seen(1).tolist() == [1, 2, 9]


def test_follows_are_passed_over_but_their_offsets_are_not(tmp_path: Path) -> None:
    follow = Event(1, Action.FOLLOW_BOARD, 0, 3, NOON, 0)
    with opened(tmp_path) as found:
        came = records([follow], [follow, *saves(1, [NOON])])
        found.apply(came)
        assert found.shard.fresh(came) == []
        assert found.shard.applied_events() == 3
        assert kinds(found) == (0, 1)
        found.apply([])


def test_counts_beyond_what_can_be_answered_are_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as found, patch.object(store, "MAX_CELLS", 5):
        found.apply(records(saves(1, [NOON] * 3)))
        with pytest.raises(Exception, match="3 keys x 2 windows x 1 actions are more than 5 counts"):
            found.counts(1, np.array([Action.SAVE], np.uint8), np.array([10, DAY_MS]), By.PIN)
