"""The kernels of counters equal the obvious, on examples that hypothesis draws."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from counters import kernel, layout
from counters.layout import ACTION_SHIFT, DAY, EVER, HOUR, LEVEL_SHIFT, MOST, Buckets
from counters.leaders import EMPTY, offered
from counters.windows import is_window
from services.columns import ids
from tests.counters.reference import DAY_MS, HOUR_MS

FIRST_DAY, FIRST_HOUR = 4, 100


def code(action: int, level: int, number: int) -> int:
    return action << ACTION_SHIFT | level << LEVEL_SHIFT | number


numbers = {EVER: st.just(0), DAY: st.integers(2, 7), HOUR: st.integers(97, 103)}
codes = st.integers(0, 4).flatmap(
    lambda action: st.sampled_from([EVER, DAY, HOUR]).flatmap(
        lambda level: numbers[level].map(lambda number: code(action, level, number))
    )
)
times = st.one_of(st.integers(1, 9), st.just(MOST))
objects = st.lists(st.dictionaries(codes, times, max_size=8), max_size=5)


def expired(bucket: int) -> bool:
    level, number = bucket >> LEVEL_SHIFT & 3, bucket & layout.NUMBER_MASK
    return (level == DAY and number < FIRST_DAY) or (level == HOUR and number < FIRST_HOUR)


def packed(held: Sequence[dict[int, int]]) -> Buckets:
    flat = [item for one in held for item in sorted(one.items())]
    ends = np.cumsum([len(one) for one in held], dtype=np.int64)
    of, counts = (np.array([item[i] for item in flat], np.uint32) for i in (0, 1))
    return Buckets(of, counts, ends)


def unpacked(buckets: Buckets, n: int) -> list[list[tuple[int, int]]]:
    flat = list(zip(buckets.codes[:n].tolist(), buckets.counts[:n].tolist(), strict=True))
    ends = buckets.ends.tolist()
    return [flat[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)] if ends else []


def room(buckets: int, n: int) -> Buckets:
    return Buckets(np.empty(buckets, np.uint32), np.empty(buckets, np.uint32), np.empty(n, np.int64))


@given(objects, st.data())
def test_merge(held: list[dict[int, int]], data: st.DataObject) -> None:
    more = [data.draw(st.dictionaries(codes, times, max_size=8)) for _ in held]
    old, new = packed(held), packed(more)
    out = room(len(old.codes) + len(new.codes), len(held))
    n = kernel.merge(*old, *new, FIRST_DAY, FIRST_HOUR, *out)
    sums = [Counter(a) + Counter(b) for a, b in zip(held, more, strict=True)]
    assert unpacked(out, n) == [[(c, min(k, MOST)) for c, k in sorted(s.items()) if not expired(c)] for s in sums]


increments = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(90, 200), st.integers(1, 9) | st.just(MOST)),
    max_size=20,
)


@given(increments)
def test_spread(drawn: list[tuple[int, int, int, int]]) -> None:
    owners = sorted({owner for owner, *_ in drawn})
    ordered = sorted((owners.index(owner), *rest) for owner, *rest in drawn)
    owner_of, action_of, hours, many_times = (
        np.array([row[i] for row in ordered], dtype) for i, dtype in enumerate(("i8", "u1", "i8", "i8"))
    )
    out = room(3 * len(drawn), len(owners))
    n = kernel.spread(owner_of, action_of, hours, many_times, FIRST_DAY, FIRST_HOUR, *out)
    sums: list[Counter[int]] = [Counter() for _ in owners]
    for owner, action, hour, many in ordered:
        sums[owner].update(
            {code(action, EVER, 0): many, code(action, DAY, hour // 24): many, code(action, HOUR, hour): many}
        )
    assert unpacked(out, n) == [[(c, min(k, MOST)) for c, k in sorted(s.items()) if not expired(c)] for s in sums]


@given(objects)
def test_values_are_read_back(held: list[dict[int, int]]) -> None:
    buckets = packed(held)
    values = layout.pack(buckets)
    again = layout.unpack([value or None for value in values])
    assert unpacked(again, len(again.codes)) == [sorted(one.items()) for one in held]
    assert max(map(len, values), default=0) <= layout.BUCKET_BYTES * 8


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
