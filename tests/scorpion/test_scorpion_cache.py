"""The cache against a dictionary that does the same slowly."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from features.pins import COUNTS, FACTS, INTERESTS, KEPT
from scorpion import slots
from scorpion.cache import EARLY_MS, EXPIRED, HIT, LOOKED_AT, MISS, PLACE, UNSURE_MS, Cache, row_bytes
from services.core.columns import F32, U64, Array, ids
from services.core.errors import InvalidArgument
from services.kernels.sieve import fitting

WIDTH = len(KEPT)
TTL = 60_000
START = 1_000_000_000
KB = 1 << 10
FIXED = 8 * slots.TOUCHED


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


def small(clock: Time, room: int, columns: tuple[str, ...] = ()) -> Cache:
    """A cache with room for exactly `room` rows."""
    size = next(size for size in range(0, 64 * KB, 4) if fits(size, columns) >= room)
    made = Cache(columns, FIXED + size, TTL, clock)
    clock.ms += 1
    assert made.capacity == room
    return made


def fits(size: int, columns: tuple[str, ...]) -> int:
    try:
        return fitting(size, PLACE, row_bytes(len(columns)), "row")[0]
    except InvalidArgument:
        return 0


class Slow:
    """What the cache should do. A row: (values, interests, counted_ms, unsure)."""

    def __init__(self, room: int, now: int) -> None:
        self.room, self.of, self.touched = room, dict[int, Any](), dict[int, int]()
        self.order: list[int] = []  # as they came
        self.read: set[int] = set()  # since the hand last came by
        self.hand: int | None = None  # where it looks next; None: at the oldest
        self.cleared = now

    def changed(self, pin: int) -> int:
        return max(self.cleared, self.touched.get(bucket(pin), slots.NEVER))

    def get(self, pin: int, now: int, certain: bool) -> tuple[int, Any]:
        if pin not in self.of:
            return MISS, None
        values, interests, counted, unsure = self.of[pin]
        good = -EARLY_MS < now - counted < (UNSURE_MS if unsure else TTL)
        if unsure and (certain or not good):
            return MISS, None
        self.read.add(pin)
        return HIT if good else EXPIRED, (values, interests)

    def put(self, pin: int, values: Array, interests: Array, counted: int, began: int) -> None:
        if self.changed(pin) >= began:
            return
        if pin not in self.of:
            if len(self.of) == self.room:
                self.make_room()
            self.order.append(pin)
        self.of[pin] = [values.copy(), interests.copy(), counted, began - self.changed(pin) < UNSURE_MS]

    def make_room(self) -> None:
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

    def clear(self, now: int) -> None:
        self.of.clear()
        self.order.clear()
        self.read.clear()
        self.hand, self.cleared = None, now


def as_id(pin: int) -> Any:
    return np.uint64(pin)


def bucket(pin: int) -> int:
    return int(slots.hashed(as_id(pin))) & (slots.TOUCHED - 1)


PINS = st.lists(st.integers(1, 30), min_size=0, max_size=12)


class Both(RuleBasedStateMachine):
    """Everything that can be done to a cache, done to both."""

    @initialize(room=st.integers(1, 20))
    def begin(self, room: int) -> None:
        self.clock = Time()
        self.cache = small(self.clock, room)
        self.slow = Slow(room, self.clock.ms - 1)
        self.salt = 0.0

    @rule(ms=st.sampled_from([1, 500, 5_000, 10_000, 30_000, 70_000]))
    def wait(self, ms: int) -> None:
        self.clock.ms += ms

    @rule(pins=PINS, late=st.sampled_from([0, 1, 400]), ago=st.sampled_from([0, 20_000, -500, -5_000]))
    def put(self, pins: list[int], late: int, ago: int) -> None:
        self.salt += 0.25
        asked = ids(pins)
        values, interests = rows(asked, self.salt)
        began, counted = self.clock.ms - late, self.clock.ms - ago
        self.cache.put(asked, values, interests, counted, began)
        for i, pin in enumerate(pins):
            self.slow.put(pin, values[i], interests[i], counted, began)

    @rule(pins=PINS)
    def renew(self, pins: list[int]) -> None:
        self.salt += 0.25
        counts = rows(ids(pins), self.salt, len(COUNTS))[0]
        self.cache.put_counts(ids(pins), counts, self.clock.ms)
        for i, pin in enumerate(pins):
            if pin in self.slow.of:
                self.slow.of[pin][0][len(FACTS) :] = counts[i]
                self.slow.of[pin][2] = self.clock.ms

    @rule(pins=PINS)
    def drop(self, pins: list[int]) -> None:
        self.cache.drop(ids(pins))
        for pin in pins:
            self.slow.touched[bucket(pin)] = self.clock.ms
            self.slow.forget(pin)

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        self.slow.clear(self.clock.ms)

    @rule(pins=PINS, certain=st.booleans(), shift=st.sampled_from([None, -20_000, -500, 500, 90_000]))
    def get(self, pins: list[int], certain: bool, shift: int | None) -> None:
        now = self.clock.ms + (shift or 0)
        got = self.cache.get(ids(pins), 0 if shift is None else now, certain)
        for i, pin in enumerate(pins):
            found, row = self.slow.get(pin, now, certain)
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


def filled(clock: Time, cache: Cache, pins: U64, width: int = WIDTH) -> None:
    clock.ms += UNSURE_MS + 1
    cache.put(pins, *rows(pins, width=width), clock.ms, clock.ms)


def test_the_first_that_was_not_read_makes_room(clock: Time) -> None:
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
@given(size=st.integers(FIXED + 4 * KB, FIXED + 600 * KB), columns=st.integers(0, 40), seed=st.integers(0, 9))
def test_it_never_takes_more_than_it_may(size: int, columns: int, seed: int) -> None:
    clock = Time()
    cache = Cache(tuple(f"d.c{i}" for i in range(columns)), size, TTL, clock)
    width = WIDTH + columns
    of = cache._slots
    taken = of.table.nbytes + of.touched.nbytes + cache.capacity * of.values.strides[0]
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
    with pytest.raises(InvalidArgument, match="no room for a row"):
        Cache((), FIXED + 100, TTL)


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
    cache = Cache((), 16 << 20, TTL, clock)
    pins = ids(range(1, 2 * LOOKED_AT + 101))
    filled(clock, cache, pins)
    clock.ms += 1_000
    cache.put_counts(pins[5:10], np.zeros((5, len(COUNTS)), np.float32), clock.ms)
    assert np.array_equal(np.sort(cache.due(1_000)), np.delete(pins, range(5, 10)))
    cache.get(pins[-3:], 0)
    assert np.array_equal(cache.due(1_000), pins[-3:])


def test_a_row_lies_in_whole_lines_of_memory(clock: Time) -> None:
    for columns in (0, 1, 37):
        slots_ = Cache(tuple(f"d.c{i}" for i in range(columns)), FIXED + 64 * KB, TTL, clock)._slots
        assert slots_.counted.ctypes.data % slots.LINE == slots_.counted.strides[0] % slots.LINE == 0
        assert slots_.values.strides[0] == row_bytes(columns)


def test_a_row_asked_for_before_a_change_is_not_kept(clock: Time) -> None:
    cache = small(clock, 4)
    clock.ms += UNSURE_MS
    began = clock.ms
    clock.ms += 5
    cache.drop(ids([7]))
    cache.put(ids([7, 8]), *rows(ids([7, 8])), clock.ms, began)
    assert cache.get(ids([7, 8]), 0).found.tolist() == [MISS, HIT]


def test_a_row_asked_for_right_after_a_change_is_unsure(clock: Time) -> None:
    cache = small(clock, 4)
    filled(clock, cache, ids([8]))
    cache.drop(ids([7]))
    clock.ms += 1
    cache.put(ids([7]), *rows(ids([7])), clock.ms, clock.ms)
    assert cache.get(ids([7, 8]), 0).found.tolist() == [HIT, HIT]
    assert cache.get(ids([7, 8]), 0, certain=True).found.tolist() == [MISS, HIT]
    clock.ms += UNSURE_MS
    assert cache.get(ids([7, 8]), 0).found.tolist() == [MISS, HIT]


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
