"""Merging and capping posting lists beside obvious slow references in plain Python."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polaris import postings
from polaris.kernel import Light
from polaris.layout import PUT, REMOVE, Rows
from polaris.postings import Postings
from services.columns import I64, U64

NAN = float("nan")
PINS = st.integers(0, 12) | st.integers(2**64 - 3, 2**64 - 1)
QUALITY = st.sampled_from([0.0, 0.25, 0.5, 1.0, NAN])
POSTING = st.tuples(
    PINS, st.integers(-3, 9).map(lambda days: days * 86_400_000) | st.integers(-(10**9), 10**11), QUALITY
)
LIGHT = st.builds(Light, st.sampled_from([0.0, 1.0, 2.5]), st.sampled_from([1.0, 86_400_000.0]), st.just(0.5))
EVENT = st.tuples(PINS, st.integers(0, 99), QUALITY, st.sampled_from([PUT, PUT, PUT, REMOVE]))
Row = tuple[int, int, float]
Event = tuple[int, int, float, int]


def columns(lists: list[list[Row]]) -> tuple[U64, I64, Any, I64]:
    rows = [row for one in lists for row in one]
    pins, at_ms, quality = zip(*rows, strict=True) if rows else ((), (), ())
    ends = np.cumsum([len(one) for one in lists], dtype=np.int64)
    return np.array(pins, np.uint64), np.array(at_ms, np.int64), np.array(quality, np.float32), ends


def rows_of(lists: Postings) -> list[list[Row]]:
    rows = list(zip(lists.pins.tolist(), lists.at_ms.tolist(), lists.quality.tolist(), strict=True))
    assert len(rows) == (lists.ends[-1] if len(lists.ends) else 0)
    return [rows[start:stop] for start, stop in pairwise([0, *lists.ends.tolist()])]


def unique(rows: list[Row]) -> list[Row]:
    return list({row[0]: row for row in rows}.values())


def same(a: list[Any], b: list[Any]) -> bool:
    """Equal rows, with NaN equal to NaN."""
    return repr(a) == repr(b)


# --- merge ----------------------------------------------------------------------------------------------------------


def slow_merge(lists: list[list[Row]], events: list[list[Event]]) -> list[list[Row]]:
    merged = []
    for one, changes in zip(lists, events, strict=True):
        table = {pin: (at_ms, quality) for pin, at_ms, quality in one}
        for pin, at_ms, quality, change in changes:
            _, before = table.pop(pin, (0, NAN))
            if change == PUT:
                table[pin] = (at_ms, before if math.isnan(quality) else quality)
        merged.append([(pin, *value) for pin, value in table.items()])
    return merged


def run_merge(lists: list[list[Row]], events: list[list[Event]]) -> list[list[Row]]:
    pins, at_ms, quality, ends = columns([[e[:3] for e in of] for of in events])
    changes = np.array([e[3] for of in events for e in of], np.uint8)
    return rows_of(postings.merge(Postings(*columns(lists)), Rows(pins, at_ms, quality, changes, ends)))


LISTS_AND_EVENTS = st.lists(
    st.tuples(st.lists(POSTING, max_size=12).map(unique), st.lists(EVENT, max_size=30)), max_size=5
)


@settings(deadline=None, max_examples=300)
@given(LISTS_AND_EVENTS)
def test_merge_equals_the_slow_one(drawn: list[tuple[list[Row], list[Event]]]) -> None:
    lists, events = [one for one, _ in drawn], [of for _, of in drawn]
    assert same(run_merge(lists, events), slow_merge(lists, events))


@settings(deadline=None, max_examples=200)
@given(LISTS_AND_EVENTS)
def test_changes_that_are_in_the_lists_already_leave_pins_and_qualities(
    drawn: list[tuple[list[Row], list[Event]]],
) -> None:
    lists, events = [one for one, _ in drawn], [of for _, of in drawn]
    once = run_merge(lists, events)
    assert same([sorted(one) for one in run_merge(once, events)], [sorted(one) for one in once])


def test_merging_in_steps_is_merging_at_once() -> None:
    rng = np.random.default_rng(3)
    drawn = zip(rng.integers(0, 500, 5_000), rng.integers(0, 9, 5_000) / 8, rng.random(5_000) < 0.3, strict=True)
    events = [(int(pin), at_ms, float(q), int(change)) for at_ms, (pin, q, change) in enumerate(drawn)]
    lists: list[list[Row]] = [[]]
    for start in range(0, len(events), 700):
        lists = run_merge(lists, [events[start : start + 700]])
    assert same(lists, run_merge([[]], [events]))
    assert same(lists, slow_merge([[]], [events]))


def test_merge_of_nothing() -> None:
    assert run_merge([], []) == []
    assert run_merge([[], []], [[], []]) == [[], []]
    assert run_merge([[(1, 2, 0.5)], []], [[], []]) == [[(1, 2, 0.5)], []]


def test_a_put_without_quality_keeps_the_one_there_was_but_not_over_a_removal() -> None:
    before: list[list[Row]] = [[(1, 10, 0.5), (2, 10, 0.25)]]
    again = (1, 20, NAN, PUT)
    assert same(run_merge(before, [[again]]), [[(2, 10, 0.25), (1, 20, 0.5)]])
    assert same(run_merge(before, [[(1, 0, NAN, REMOVE), again]]), [[(2, 10, 0.25), (1, 20, NAN)]])


def test_changes_to_another_number_of_lists_are_refused() -> None:
    with pytest.raises(ValueError, match="changes to 1 lists, postings of 2"):
        run_merge([[], []], [[]])


# --- keeping some ---------------------------------------------------------------------------------------------------


def slow_keep_best(rows: list[Row], cap: int, light: Light) -> list[int]:
    newest = max((at_ms for _, at_ms, _ in rows), default=0)

    def rank(row: int) -> tuple[float, int, int]:
        pin, at_ms, quality = rows[row]
        value = light.default_quality if math.isnan(quality) else quality
        return light.quality * value - (newest - at_ms) / light.scale_ms, at_ms, pin

    return sorted(sorted(range(len(rows)), key=rank, reverse=True)[:cap])


@settings(deadline=None, max_examples=300)
@given(st.lists(POSTING, max_size=40).map(unique), st.integers(0, 50), LIGHT)
def test_keep_best_equals_the_slow_one(rows: list[Row], cap: int, light: Light) -> None:
    pins, at_ms, quality, _ = columns([rows])
    assert postings.keep_best(pins, at_ms, quality, cap, light).tolist() == slow_keep_best(rows, cap, light)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.lists(POSTING, max_size=12).map(unique), max_size=5), st.integers(0, 8), LIGHT)
def test_each_list_is_capped_for_itself(lists: list[list[Row]], cap: int, light: Light) -> None:
    expected = [[one[row] for row in slow_keep_best(one, cap, light)] for one in lists]
    assert same(rows_of(postings.capped(Postings(*columns(lists)), cap, light)), expected)


@given(st.lists(PINS), st.lists(PINS))
def test_in_sorted(values: list[int], sought: list[int]) -> None:
    held = postings.in_sorted(np.array(sorted(values), np.uint64), np.array(sought, np.uint64))
    assert held.tolist() == [value in values for value in sought]


def test_lists_know_their_counts_and_keep_rows() -> None:
    lists = Postings(*columns([[(1, 1, 0.5), (2, 1, 0.5)], [], [(3, 1, 0.5)]]))
    assert lists.counts().tolist() == [2, 0, 1]
    assert rows_of(lists.keep(np.array([False, True, True]))) == [[(2, 1, 0.5)], [], [(3, 1, 0.5)]]
