"""The cache against a dictionary that does the same slowly."""

from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from features.pins import ATTRIBUTES, COUNTS, INTERESTS, KEPT
from scorpion import slots
from scorpion.cache import EARLY_MS, EXPIRED, HIT, LOOKED_AT, MISS, PLACE, UNSURE_MS, PinCache, row_bytes
from services.core.columns import F32, U64, Array, ids
from services.core.errors import InvalidArgument
from services.kernels.sieve import fitting

WIDTH = len(KEPT)
TTL = 60_000
START = 1_000_000_000
KB = 1 << 10


def rows(pins: U64, salt: float = 0.0, width: int = WIDTH) -> tuple[F32, U64]:
    """Rows that say whose they are."""
    values = (
        (pins[:, None] % np.uint64(1000)).astype(np.float32) + np.arange(width, dtype=np.float32) + np.float32(salt)
    )
    return values.astype(np.float32), np.repeat(pins[:, None], INTERESTS, axis=1)


class Time:
    def __init__(self) -> None:
        self.ms = START

    def __call__(self) -> int:
        return self.ms


def small(clock: Time, capacity: int, columns: tuple[str, ...] = ()) -> PinCache:
    """A cache for exactly `capacity` rows."""
    size = next(size for size in range(0, 64 * KB, 4) if fits(size, columns) >= capacity)
    made = PinCache(columns, size, TTL, clock)
    assert made.capacity == capacity
    return made


def fits(size: int, columns: tuple[str, ...]) -> int:
    try:
        return fitting(size, PLACE, row_bytes(len(columns)), "row")[0]
    except InvalidArgument:
        return 0


class Slow:
    """The cache as a dictionary. A row: (values, interests, counted_ms, the second until which it is good, 0 of a sure one)."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.of = capacity, dict[int, Any]()
        self.order: list[int] = []  # as they came
        self.read: set[int] = set()  # since the hand last came by
        self.hand: int | None = None  # where it looks next; None: at the oldest

    def get(self, pin: int, now: int, clock_ms: int, certain: bool) -> tuple[int, Any]:
        if pin not in self.of:
            return MISS, None
        values, interests, counted, until = self.of[pin]
        good = -EARLY_MS < now - counted < TTL
        if until and (certain or not good or clock_ms // 1000 >= until):
            return MISS, None
        self.read.add(pin)
        return HIT if good else EXPIRED, (values, interests)

    def put(self, pin: int, values: Array, interests: Array, counted: int, sure: bool, clock_ms: int) -> None:
        if not sure and pin in self.of and (not (until := self.of[pin][3]) or clock_ms // 1000 < until):
            return
        if pin not in self.of:
            if len(self.of) == self.capacity:
                self.evict()
            self.order.append(pin)
        until = 0 if sure else ceil((clock_ms + UNSURE_MS) / 1000)
        self.of[pin] = [values.copy(), interests.copy(), counted, until]

    def evict(self) -> None:
        at = 0 if self.hand is None else self.order.index(self.hand)
        while self.order[at] in self.read:
            self.read.remove(self.order[at])
            at = (at + 1) % len(self.order)
        self.hand = self.order[at]
        self.forget(self.order[at])

    def forget(self, pin: int) -> None:
        if pin not in self.of:
            return
        at = self.order.index(pin)
        if self.hand == pin:
            self.hand = self.order[at + 1] if at + 1 < len(self.order) else None
        del self.order[at], self.of[pin]
        self.read.discard(pin)

    def clear(self) -> None:
        self.of.clear()
        self.order.clear()
        self.read.clear()
        self.hand = None


def as_id(pin: int) -> Any:
    return np.uint64(pin)


PINS = st.lists(st.integers(1, 30), min_size=0, max_size=12)


class Both(RuleBasedStateMachine):
    """Everything that can be done to a cache, done to both."""

    @initialize(capacity=st.integers(1, 20))
    def begin(self, capacity: int) -> None:
        self.clock = Time()
        self.cache = small(self.clock, capacity)
        self.slow = Slow(capacity)
        self.salt = 0.0

    @rule(ms=st.sampled_from([1, 500, 1_000, 5_000, 10_000, 30_000, 70_000]))
    def wait(self, ms: int) -> None:
        self.clock.ms += ms

    @rule(pins=PINS, sure=st.integers(0, 2**12 - 1), ago=st.sampled_from([0, 20_000, -500, -5_000]))
    def put(self, pins: list[int], sure: int, ago: int) -> None:
        self.salt += 0.25
        asked = ids(pins)
        values, interests = rows(asked, self.salt)
        counted, which = self.clock.ms - ago, [bool(sure >> i & 1) for i in range(len(pins))]
        self.cache.put(asked, values, interests, counted, np.array(which, bool))
        for i, pin in enumerate(pins):
            self.slow.put(pin, values[i], interests[i], counted, which[i], self.clock.ms)

    @rule(pins=PINS)
    def renew(self, pins: list[int]) -> None:
        self.salt += 0.25
        counts = rows(ids(pins), self.salt, len(COUNTS))[0]
        self.cache.put_counts(ids(pins), counts, self.clock.ms)
        for i, pin in enumerate(pins):
            if pin in self.slow.of and not self.slow.of[pin][3]:
                self.slow.of[pin][0][len(ATTRIBUTES) :] = counts[i]
                self.slow.of[pin][2] = self.clock.ms

    @rule(pins=PINS)
    def drop(self, pins: list[int]) -> None:
        self.cache.drop(ids(pins))
        for pin in pins:
            self.slow.forget(pin)

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        self.slow.clear()

    @rule(pins=PINS, certain=st.booleans(), shift=st.sampled_from([None, -20_000, -500, 500, 90_000]))
    def get(self, pins: list[int], certain: bool, shift: int | None) -> None:
        now = self.clock.ms + (shift or 0)
        got = self.cache.get(ids(pins), 0 if shift is None else now, certain)
        for i, pin in enumerate(pins):
            found, row = self.slow.get(pin, now, self.clock.ms, certain)
            assert got.found[i] == found
            if row is None:
                assert np.isnan(got.values[i]).all()
                assert not got.interests[i].any()
            else:
                np.testing.assert_array_equal(got.values[i], row[0])
                np.testing.assert_array_equal(got.interests[i], row[1])

    @invariant()
    def as_many(self) -> None:
        assert len(self.cache) == len(self.slow.of) <= self.cache.capacity


TestBoth = Both.TestCase
TestBoth.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.fixture
def clock() -> Time:
    return Time()


def filled(clock: Time, cache: PinCache, pins: U64, width: int = WIDTH, sure: bool = True) -> None:
    cache.put(pins, *rows(pins, width=width), clock.ms, np.full(len(pins), sure))


def test_the_first_that_was_not_read_is_evicted(clock: Time) -> None:
    cache = small(clock, 3)
    filled(clock, cache, ids([1, 2, 3]))
    cache.get(ids([1]), 0)
    filled(clock, cache, ids([4]))
    assert cache.get(ids([1, 2, 3, 4]), 0).found.tolist() == [HIT, MISS, HIT, HIT]
    filled(clock, cache, ids([5]))  # all were read: the hand goes round and takes the mark of each
    assert cache.get(ids([1, 3, 4, 5]), 0).found.tolist() == [HIT, MISS, HIT, HIT]


def test_what_is_asked_for_once_does_not_push_out_what_is_asked_for_again(clock: Time) -> None:
    cache = small(clock, 20)
    again = ids(range(1, 11))
    filled(clock, cache, again)
    for once in range(100, 400, 10):
        cache.get(again, 0)
        filled(clock, cache, ids(range(once, once + 10)))
    assert (cache.get(again, 0).found != MISS).all()


@settings(max_examples=25, deadline=None)
@given(size=st.integers(4 * KB, 600 * KB), columns=st.integers(0, 40), seed=st.integers(0, 9))
def test_it_never_takes_more_than_it_may(size: int, columns: int, seed: int) -> None:
    clock = Time()
    cache = PinCache(tuple(f"d.c{i}" for i in range(columns)), size, TTL, clock)
    width = WIDTH + columns
    of = cache._slots
    taken = of.table.nbytes + cache.capacity * of.values.strides[0]
    assert cache.max_bytes() == taken <= size
    pins = np.random.default_rng(seed).integers(1, 2**64 - 1, 3 * cache.capacity, np.uint64, endpoint=True)
    pins = np.unique(pins)
    for part in np.array_split(np.random.default_rng(seed).permutation(pins), 5):
        filled(clock, cache, part, width)
    assert len(cache) == cache.capacity
    assert cache.bytes() == cache.max_bytes()
    got = cache.get(pins, 0)
    assert int((got.found == HIT).sum()) == cache.capacity
    np.testing.assert_array_equal(got.values[got.found == HIT], rows(pins, width=width)[0][got.found == HIT])


def test_one_row_too_big_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="too small for a row"):
        PinCache((), 100, TTL)


def test_counts_have_an_age_and_attributes_none(clock: Time) -> None:
    cache = small(clock, 4)
    filled(clock, cache, ids([7]))
    clock.ms += TTL - 1
    assert cache.get(ids([7]), 0).found.tolist() == [HIT]
    clock.ms += 1
    got = cache.get(ids([7]), 0)
    assert got.found.tolist() == [EXPIRED]
    np.testing.assert_array_equal(got.values, rows(ids([7]))[0])
    cache.put_counts(ids([7]), np.full((1, len(COUNTS)), 5, np.float32), clock.ms)
    assert cache.get(ids([7]), 0).found.tolist() == [HIT]
    assert cache.get(ids([7]), clock.ms - TTL).found.tolist() == [EXPIRED], (
        "of a moment that the counts know nothing of"
    )


def test_old_counts_are_found_wherever_they_lie_and_once(clock: Time) -> None:
    cache = PinCache((), 16 << 20, TTL, clock)
    pins = ids(range(1, 2 * LOOKED_AT + 101))
    filled(clock, cache, pins)
    clock.ms += 1_000
    cache.put_counts(pins[5:10], np.zeros((5, len(COUNTS)), np.float32), clock.ms)
    assert np.array_equal(np.sort(cache.due(1_000)), np.delete(pins, range(5, 10)))
    cache.get(pins[-3:], 0)
    assert np.array_equal(cache.due(1_000), pins[-3:])


def test_a_row_lies_in_whole_lines_of_memory(clock: Time) -> None:
    for columns in (0, 1, 37):
        slots_ = PinCache(tuple(f"d.c{i}" for i in range(columns)), 64 * KB, TTL, clock)._slots
        assert slots_.counted.ctypes.data % slots.LINE == slots_.counted.strides[0] % slots.LINE == 0
        assert slots_.values.strides[0] == row_bytes(columns)


def test_an_unsure_row_is_good_for_a_while_and_never_certain(clock: Time) -> None:
    cache = small(clock, 4)
    clock.ms += 250
    filled(clock, cache, ids([8]))
    filled(clock, cache, ids([7, 8]), sure=False)
    for shift in (0, -30_000):  # how old an unsure row is does not follow from the moment that a request asks for
        assert cache.get(ids([7, 8]), shift and clock.ms + shift).found.tolist() == (
            [HIT, HIT] if not shift else [MISS, EXPIRED]
        )
    assert cache.get(ids([7, 8]), 0, certain=True).found.tolist() == [MISS, HIT]
    fixed = clock.ms
    clock.ms += UNSURE_MS
    assert cache.get(ids([7, 8]), 0).found.tolist() == [HIT, HIT]
    clock.ms += 1_000
    assert cache.get(ids([7, 8]), 0).found.tolist() == [MISS, HIT]
    assert cache.get(ids([7, 8]), fixed).found.tolist() == [MISS, HIT]


def test_an_unsure_row_replaces_no_good_one(clock: Time) -> None:
    cache, pins = small(clock, 4), ids([7])
    for sure, again, expected in [(True, False, 0), (False, False, 0), (False, True, 5)]:
        cache.clear()
        filled(clock, cache, pins, sure=sure)
        cache.put(pins, *rows(pins, 5), clock.ms, np.array([again]))
        assert cache.get(pins, 0).values[0, 0] == 7 + expected
    filled(clock, cache, ids([8]), sure=False)
    clock.ms += UNSURE_MS + 1_000
    cache.put(ids([8]), *rows(ids([8]), 5), clock.ms, np.array([False]))
    assert cache.get(ids([8]), 0).values[0, 0] == 13


def test_pins_that_meet_in_the_table_are_kept_apart(clock: Time) -> None:
    cache = small(clock, 40)
    mask = len(cache._slots.table) - 1
    home = [pin for pin in range(1, 60_000) if int(slots.hashed(as_id(pin))) & mask == mask - 1][:40]
    filled(clock, cache, ids(home))
    assert len(cache) == 40
    for gone in range(0, 40, 3):
        cache.drop(ids([home[gone]]))
    found = cache.get(ids(home), 0)
    assert (found.found == np.where(np.arange(40) % 3 == 0, MISS, HIT)).all()


def test_columns_that_are_no_rows_of_the_pins_are_refused(clock: Time) -> None:
    cache, pins, sure = small(clock, 4), ids([7, 8]), np.ones(2, bool)
    values, interests = rows(pins)
    with pytest.raises(ValueError, match=rf"^values: shape \(2, {WIDTH - 1}\), expected \(2, {WIDTH}\)$"):
        cache.put(pins, values[:, 1:], interests, START, sure)
    with pytest.raises(ValueError, match=rf"^interests: shape \(1, {INTERESTS}\), expected \(2, {INTERESTS}\)$"):
        cache.put(pins, values, interests[:1], START, sure)
    with pytest.raises(ValueError, match="^sure: 1 rows, expected 2$"):
        cache.put(pins, values, interests, START, sure[:1])
    counts = values[:, len(ATTRIBUTES) :]
    with pytest.raises(ValueError, match=rf"^counts: shape \(1, {len(COUNTS)}\), expected \(2, {len(COUNTS)}\)$"):
        cache.put_counts(pins, counts[:1], START)
    assert len(cache) == 0
