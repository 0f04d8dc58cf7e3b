"""Merging and capping posting lists beside obvious slow references in plain Python."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polaris import postings
from polaris.kernel import Light
from polaris.layout import CREATED, DELETED, PUT, REMOVE, PostingRows
from polaris.postings import Postings
from services.core.columns import I64, U64, among

NAN = float("nan")
PINS = st.integers(1, 12) | st.integers(2**64 - 3, 2**64 - 1)
QUALITY = st.sampled_from([0.0, 0.25, 0.5, 1.0, NAN])
POSTING = st.tuples(
    PINS, st.integers(-3, 9).map(lambda days: days * 86_400_000) | st.integers(-(10**9), 10**11), QUALITY
)
LIGHT = st.builds(Light, st.sampled_from([0.0, 1.0, 2.5]), st.sampled_from([1.0, 86_400_000.0]), st.just(0.5))
OF_PINS = st.tuples(PINS, st.integers(0, 9), QUALITY, st.sampled_from([PUT, PUT, PUT, REMOVE]))
OF_BOARDS = st.tuples(st.just(0), st.integers(0, 9), st.just(NAN), st.sampled_from([DELETED, CREATED]))
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


def slow_list(events: list[Event], dated: bool) -> list[Row]:
    """The pins on a list after all its events, one by one."""
    last: dict[int, tuple[int, float, bool]] = {}
    created = deleted = -1
    gone = False
    for pin, at_ms, quality, change in events:
        if change == CREATED:
            gone, created = gone and at_ms < deleted, max(created, at_ms)
        elif change == DELETED:
            gone, deleted = gone or at_ms >= created, max(deleted, at_ms)
            last = {p: said for p, said in last.items() if said[0] > at_ms}
        elif not dated or (at_ms >= deleted and at_ms >= last.get(pin, (-1,))[0]):
            _, before, there = last.pop(pin, (0, NAN, False))
            kept = before if there and math.isnan(quality) else quality
            last[pin] = (at_ms, kept if change == PUT else NAN, change == PUT)
        elif pin in last and change == PUT and last[pin][2] and math.isnan(last[pin][1]):
            last[pin] = (last[pin][0], quality, True)
    return [] if gone else [(pin, at_ms, quality) for pin, (at_ms, quality, there) in last.items() if there]


def packed(lists: list[list[Event]]) -> PostingRows:
    pins, at_ms, quality, ends = columns([[e[:3] for e in one] for one in lists])
    return PostingRows(pins, at_ms, quality, np.array([e[3] for one in lists for e in one], np.uint8), ends)


def in_steps(events: list[list[Event]], dated: list[bool], cuts: list[float]) -> list[list[Row]]:
    """Each list frozen at these parts of its events, and read with what came after as its head."""
    which, frozen = np.array(dated, bool), packed([[] for _ in events])
    for start, stop in pairwise([0.0, *cuts]):
        here = packed([one[int(start * len(one)) : int(stop * len(one))] for one in events])
        frozen = postings.merge(frozen, here, which)
    head = packed([one[int(([0.0, *cuts])[-1] * len(one)) :] for one in events])
    found = rows_of(postings.standing(frozen, head, which))
    assert same(
        found, rows_of(postings.standing(postings.merge(frozen, head, which), packed([[] for _ in events]), which))
    )
    return found


BOARD = st.tuples(st.lists(OF_PINS | OF_PINS | OF_BOARDS, max_size=30), st.just(True))
INTEREST = st.tuples(st.lists(OF_PINS, max_size=30), st.just(False))
CUTS = st.lists(st.floats(0, 1), max_size=4).map(sorted)


@settings(deadline=None, max_examples=400)
@given(st.lists(BOARD | INTEREST, max_size=5), CUTS)
def test_R07_lists_are_what_the_slow_ones_are_however_often_they_were_frozen(
    drawn: list[tuple[list[Event], bool]], cuts: list[float]
) -> None:
    events, dated = [of for of, _ in drawn], [is_dated for _, is_dated in drawn]
    assert same(in_steps(events, dated, cuts), [slow_list(of, is_dated) for of, is_dated in drawn])


SAID = st.tuples(PINS, st.sampled_from([PUT, REMOVE])) | st.tuples(st.just(0), st.sampled_from([DELETED, CREATED]))


@settings(deadline=None, max_examples=200)
@given(st.lists(SAID, max_size=30), st.data())
def test_R07_a_board_holds_the_same_in_whatever_order_its_events_come(said: list[Any], data: st.DataObject) -> None:
    events: list[Event] = [(pin, at_ms, NAN, change) for at_ms, (pin, change) in enumerate(said)]
    shuffled = data.draw(st.permutations(events))
    assert same(*(sorted(in_steps([of], [True], [0.3, 0.6])[0]) for of in (events, shuffled)))


def test_merging_in_steps_is_merging_at_once() -> None:
    rng = np.random.default_rng(3)
    drawn = zip(rng.integers(1, 500, 5_000), rng.integers(0, 9, 5_000) / 8, rng.random(5_000) < 0.3, strict=True)
    events = [(int(pin), at_ms, float(q), int(change)) for at_ms, (pin, q, change) in enumerate(drawn)]
    for dated in (True, False):
        steps = in_steps([events], [dated], [i / 7 for i in range(1, 7)])
        assert same(steps, in_steps([events], [dated], []))
        assert same(steps, [slow_list(events, dated)])


def test_merge_of_nothing() -> None:
    assert in_steps([], [], []) == []
    assert in_steps([[], []], [True, False], [0.5]) == [[], []]
    assert in_steps([[(1, 2, 0.5, PUT)], []], [True, False], [1.0]) == [[(1, 2, 0.5)], []]


def test_a_put_without_quality_keeps_the_one_there_was_but_not_over_a_removal() -> None:
    before, again = [(1, 10, 0.5, PUT), (2, 10, 0.25, PUT)], (1, 20, NAN, PUT)
    assert same(in_steps([[*before, again]], [True], [0.67]), [[(2, 10, 0.25), (1, 20, 0.5)]])
    assert same(in_steps([[*before, (1, 15, NAN, REMOVE), again]], [True], [0.5]), [[(2, 10, 0.25), (1, 20, NAN)]])
    assert same(
        in_steps([[*before, (0, 15, NAN, DELETED), (0, 16, NAN, CREATED), again]], [True], [0.4]), [[(1, 20, NAN)]]
    )


def test_changes_to_another_number_of_lists_are_refused() -> None:
    with pytest.raises(ValueError, match="^changes: 1 rows, expected 2$"):
        postings.merge(packed([[], []]), packed([[]]), np.ones(2, bool))
    with pytest.raises(ValueError, match="^dated: 1 rows, expected 2$"):
        postings.merge(packed([[], []]), packed([[], []]), np.ones(1, bool))


@pytest.mark.parametrize("column", ["at_ms", "quality", "changes"])
def test_rows_of_unequal_lengths_are_refused(column: str) -> None:
    right = packed([[(1, 10, 0.5, PUT), (2, 10, 0.5, PUT)]])
    wrong = right._replace(**{column: getattr(right, column)[:1]})
    for frozen, changes in ((wrong, right), (right, wrong)):
        with pytest.raises(ValueError, match=f"^{column}: 1 rows, expected 2$"):
            postings.standing(frozen, changes, np.ones(1, bool))
    with pytest.raises(ValueError, match="^ends: the last list ends at row 3, expected 2$"):
        postings.standing(right, right._replace(ends=right.ends + 1), np.ones(1, bool))


def test_lists_are_woven_in_where_there_are_places_for_them() -> None:
    lists = Postings(*columns([[], [(1, 1, 0.5)], []]))
    others = Postings(*columns([[(2, 2, 0.5)], [(3, 3, 0.5)]]))
    woven = postings.woven(lists, others, np.array([0, 2]))
    assert rows_of(woven) == [[(2, 2, 0.5)], [(1, 1, 0.5)], [(3, 3, 0.5)]]
    for rows, message in (
        ([0], "rows: 1 rows, expected 2"),
        ([2, 0], "rows: row 1 is 0, not above 2 before it"),
        ([2, 3], "rows: 2 to 3, expected 0 to 2"),
        ([-1, 2], "rows: -1 to 2, expected 0 to 2"),
    ):
        with pytest.raises(ValueError, match=f"^{message}$"):
            postings.woven(lists, others, np.array(rows))
    with pytest.raises(ValueError, match="^at_ms: 1 rows, expected 2$"):
        postings.woven(lists, replace(others, at_ms=others.at_ms[:1]), np.array([0, 2]))


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
    found = postings.capped(packed([[(*row, PUT) for row in one] for one in lists]), cap, light)
    assert same(rows_of(Postings(found.pins, found.at_ms, found.quality, found.ends)), expected)


def test_a_capped_board_remembers_the_latest_removals_and_its_own_life() -> None:
    life: list[Event] = [(0, 1, NAN, DELETED), (0, 2, NAN, CREATED)]
    gone: list[Event] = [(pin, 10 + pin, NAN, REMOVE) for pin in range(1, 5)]
    put: list[Event] = [(pin, 30, 0.5, PUT) for pin in range(11, 14)]
    found = postings.capped(packed([[*life, *gone, *put]]), 2, Light(1.0, 1.0, 0.5))
    assert found.pins.tolist() == [0, 0, 3, 4, 12, 13]


@given(st.lists(PINS), st.lists(PINS))
def test_which_are_among_sorted_ids(values: list[int], sought: list[int]) -> None:
    held = among(np.array(sought, np.uint64), np.array(sorted(values), np.uint64))
    assert held.tolist() == [value in values for value in sought]


def test_lists_know_their_counts_and_keep_rows() -> None:
    lists = Postings(*columns([[(1, 1, 0.5), (2, 1, 0.5)], [], [(3, 1, 0.5)]]))
    assert lists.counts().tolist() == [2, 0, 1]
    assert rows_of(lists.keep(np.array([False, True, True]))) == [[(2, 1, 0.5)], [], [(3, 1, 0.5)]]
