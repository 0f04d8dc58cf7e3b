"""The kernels of counters equal the obvious, on examples that hypothesis draws."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counters import layout
from counters.kernel import PAGES
from counters.layout import ACTION_SHIFT, DAY, EVER, HOUR, LEVEL_SHIFT, MOST, Increments, what
from counters.leaders import EMPTY, offered
from counters.table import CountTable
from counters.windows import is_window, runs
from services.core.columns import ids
from services.core.events import Kind
from tests.counters.reference import DAY_MS, HOUR_MS

NOW = 20_000 * DAY_MS + 7 * HOUR_MS
TODAY, THIS_HOUR = NOW // DAY_MS, NOW // HOUR_MS

hours = st.one_of(st.integers(-3, 3), st.integers(160, 175), st.integers(89 * 24, 91 * 24), st.just(THIS_HOUR))
increments = st.tuples(
    st.sampled_from(list(Kind)), st.integers(1, 6), st.integers(0, 4), hours, st.integers(1, 9) | st.just(MOST)
)
Key = tuple[int, int]


def increments_of(drawn: Sequence[tuple[int, int, int, int, int]]) -> Increments:
    kinds, objects, actions, ago, times = (np.array([row[i] for row in drawn], np.int64) for i in range(5))
    of = what(kinds.astype(np.uint8), actions, THIS_HOUR - ago)
    return Increments(objects.astype(np.uint64), of, times.astype(np.uint32))


def expired(bucket: int) -> bool:
    level, number = bucket >> LEVEL_SHIFT & 3, bucket & layout.NUMBER_MASK
    return (level == DAY and number <= TODAY - 90) or (level == HOUR and number <= THIS_HOUR - 168)


def slow(drawn: Sequence[tuple[int, int, int, int, int]]) -> dict[Key, list[tuple[int, int]]]:
    """The buckets of each (kind, object), one increment after the other."""
    held: dict[Key, Counter[int]] = {}
    for kind, object_, action, ago, times in drawn:
        hour = THIS_HOUR - ago
        for level, number in ((EVER, 0), (DAY, hour // 24), (HOUR, hour)):
            code = action << ACTION_SHIFT | level << LEVEL_SHIFT | number
            if not expired(code):
                of = held.setdefault((kind, object_), Counter())
                of[code] = min(of[code] + times, MOST)
    return {key: sorted(of.items()) for key, of in held.items()}


def held_by(table: CountTable) -> dict[Key, list[tuple[int, int]]]:
    """The same, of a table, page by page."""
    found: dict[Key, list[tuple[int, int]]] = {}
    for number in range(PAGES):
        page, start = table.page(number), 0
        for object_, kind, length in zip(*(c.tolist() for c in (page.objects, page.kinds, page.lengths)), strict=True):
            assert (kind, object_) not in found
            run = page.buckets[start : start + length].tolist()
            found[kind, object_] = [(bucket >> 32, bucket & 0xFFFF_FFFF) for bucket in run]
            start += length
        assert start == len(page.buckets)
    return found


@settings(deadline=None)
@given(st.lists(increments, max_size=60), st.integers(1, 60))
def test_a_table_holds_what_was_added(drawn: list[tuple[int, int, int, int, int]], chunk: int) -> None:
    table = CountTable()
    for start in range(0, len(drawn), chunk):
        table.add(increments_of(drawn[start : start + chunk]), NOW)
    assert held_by(table) == slow(drawn)
    assert len(table) == len(slow(drawn))


def many(n: int, objects: int, seed: int) -> list[tuple[int, int, int, int, int]]:
    chance = np.random.default_rng(seed)
    columns = (
        chance.integers(1, 5, n),
        chance.integers(1, objects, n),
        chance.integers(0, 5, n),
        chance.integers(0, 200, n),
        chance.integers(1, 9, n),
    )
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("objects", [20, 4_000])
def test_a_table_that_grows_holds_what_was_added(objects: int) -> None:
    drawn, table, copy = many(20_000, objects, 1), CountTable(), CountTable()
    table.add(increments_of(drawn), NOW)
    assert held_by(table) == slow(drawn)
    for number in range(PAGES):
        offset, page = layout.unpack_page(b"", layout.pack_page(77, table.page(number)))
        assert offset == 77
        copy.load(number, page)
    assert held_by(copy) == slow(drawn)
    more = many(20_000, objects, 2)
    copy.add(increments_of(more), NOW)
    assert held_by(copy) == slow(drawn + more), "a copy that was read back can be added to"


def test_pages_that_hold_an_increment_pass_it_over() -> None:
    drawn, table = many(500, 100, 3), CountTable()
    watermarks = np.arange(PAGES, dtype=np.int64)
    table.add(increments_of(drawn), NOW, offset=100, watermarks=watermarks)
    whole = CountTable()
    whole.add(increments_of(drawn), NOW)
    for number in range(PAGES):
        assert len(table.page(number).objects) == (len(whole.page(number).objects) if number <= 100 else 0)


@settings(deadline=None)
@given(st.lists(increments, max_size=40), st.integers(1, 20))
def test_what_reaches_a_threshold_is_noted_and_found(drawn: list[tuple[int, int, int, int, int]], least: int) -> None:
    table, thresholds = CountTable(), np.full((8, 8), least)
    noted = set()
    for row in drawn:
        if len(table.add(increments_of([row]), NOW, thresholds)):
            noted.add(row[:3])
    ever: Counter[tuple[int, int, int]] = Counter()
    for kind, object_, action, _, times in drawn:
        ever[kind, object_, action] = min(ever[kind, object_, action] + times, MOST)
    expected = {key for key, count in ever.items() if count >= least}
    assert {tuple(key) for key in noted} == expected
    objects, pairs = table.leading(0, table.slots(), thresholds)
    assert {(p >> 3, o, p & 7) for o, p in zip(objects.tolist(), pairs.tolist(), strict=True)} == expected


@given(st.lists(increments, max_size=20))
def test_increments_are_read_back(drawn: list[tuple[int, int, int, int, int]]) -> None:
    made = increments_of(drawn)
    value = layout.pack_increments(made)
    assert len(value) == layout.INCREMENT_BYTES * len(drawn)
    again = layout.unpack_increments(b"", value)
    for column in ("objects", "what", "times"):
        assert getattr(made, column).tolist() == getattr(again, column).tolist()


pairs = st.dictionaries(st.integers(1, 30), st.integers(0, 9), max_size=20)


@given(st.lists(pairs, max_size=6), st.integers(1, 5))
def test_a_bounded_table_of_counts_that_grow_is_exact(rounds: list[dict[int, int]], size: int) -> None:
    truth: Counter[int] = Counter()
    table = EMPTY
    for grown in rounds:
        truth.update(grown)
        table = offered(table, ids(list(grown)), np.array([truth[o] for o in grown], np.int64), size)
        best = sorted((+truth).items(), key=lambda item: (-item[1], item[0]))[:size]
        found = zip(table.objects.tolist(), table.counts.tolist(), strict=True)
        assert sorted(found, key=lambda item: (-item[1], item[0])) == best


def test_which_windows_there_are() -> None:
    good = [0, HOUR_MS, 5 * HOUR_MS, 168 * HOUR_MS, 8 * DAY_MS, 90 * DAY_MS]
    bad = [-HOUR_MS, 1, HOUR_MS + 1, 169 * HOUR_MS, 7 * DAY_MS + 1, 91 * DAY_MS, 2**62]
    assert all(map(is_window, good))
    assert not any(map(is_window, bad))


def test_columns_of_unequal_lengths_are_refused() -> None:
    table, given = CountTable(), increments_of([(Kind.PIN, 1, 0, 0, 1), (Kind.PIN, 2, 0, 0, 1)])
    for name in ("what", "times"):
        with pytest.raises(ValueError, match=f"^{name}: 1 rows, expected 2$"):
            table.add(given._replace(**{name: getattr(given, name)[:1]}), NOW)
    with pytest.raises(ValueError, match=f"^watermarks: 9 rows, expected {PAGES}$"):
        table.add(given, NOW, watermarks=np.zeros(9, np.int64))
    table.add(given, NOW)
    page, number = next((page, i) for i in range(PAGES) if len((page := table.page(i)).objects))
    for name in ("kinds", "lengths"):
        with pytest.raises(ValueError, match=f"^{name}: 0 rows, expected {len(page.objects)}$"):
            CountTable().load(number, page._replace(**{name: getattr(page, name)[:0]}))
    with pytest.raises(ValueError, match=f"^buckets: 1 rows, expected {len(page.buckets)}$"):
        CountTable().load(number, page._replace(buckets=page.buckets[:1]))
    asked = np.zeros(1, np.uint8), np.zeros(2, np.int64), np.zeros(layout.ACTIONS, np.int64)
    with pytest.raises(ValueError, match="^kinds: 1 rows, expected 2$"):
        table.sums(given.objects, *asked, runs(np.zeros(1, np.int64), NOW, NOW), np.zeros((2, 1, 1), np.int64))
