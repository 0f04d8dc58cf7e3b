"""The cache of pins between requests: rows of their features, as many as fit. Those that are
asked for again stay, the others are evicted (`slots.py` says how).

Two ages: attributes and columns of datasets stay until an event drops their pin, counts until `ttl_ms` has passed. A
row is copied out, so the arrays of a request do not change under it. `pin_features.py` fetches the missing ones.

Which rows are sure is decided by `services/state/change_feed.py`. One that is not is kept for `UNSURE_MS` all the same, so
that a view which is behind is not asked for the same pins by every request; a read that must see a write does not take it.
"""

import threading
from typing import NamedTuple

import numpy as np

from features.pins import ATTRIBUTES, INTERESTS, KEPT
from scorpion import slots
from scorpion.slots import EXPIRED, HIT, MISS, USED
from services.core.checks import check_lengths, check_shapes
from services.core.clock import Clock, wall_clock
from services.core.columns import F32, U8, U64, Array, ids
from services.kernels.sieve import fitting

__all__ = ["EXPIRED", "HIT", "MISS", "Got", "PinCache"]

PLACE = 16  # bytes of the table
UNSURE_MS = 1_000  # so long at least an unsure row is good, and less than a second longer
LOOKED_AT = 10_000  # rows, while the lock is held, for those whose counts are old
EARLY_MS = 1_000  # the clocks of callers differ by less


class Got(NamedTuple):
    """Of n pins. values: float32[n, width]; interests: uint64[n, k]; found: uint8[n], HIT, EXPIRED (all but the counts is
    good) or MISS (its row is NaN and 0).
    """

    values: F32
    interests: U64
    found: U8


class PinCache:
    """Rows of features.pins.KEPT and of some columns of datasets. Thread-safe: its lock is held for microseconds."""

    def __init__(self, columns: tuple[str, ...], max_bytes: int, ttl_ms: int, clock: Clock = wall_clock) -> None:
        """columns: of datasets, after those of KEPT. Raises InvalidArgument when not one row fits."""
        self.columns, self._ttl_ms, self._clock = columns, ttl_ms, clock
        self._width = len(KEPT) + len(columns)
        self._row_bytes = row_bytes(len(columns))
        self.capacity, places = fitting(max_bytes, PLACE, self._row_bytes, "row")
        self._fixed_bytes = PLACE * places
        self._slots = slots.make(self.capacity, places, self._width, INTERESTS)
        self._lock = threading.Lock()

    def get(self, pins: U64, now_ms: int, certain: bool = False) -> Got:
        """The rows of these pins. now_ms: the moment of the counts that are wanted; 0: now.

        certain: the reader must see its own write, so rows that are not sure are passed over.
        """
        n = len(pins)
        got = Got(np.empty((n, self._width), np.float32), np.empty((n, INTERESTS), np.uint64), np.empty(n, np.uint8))
        early = min(EARLY_MS, self._ttl_ms)
        with self._lock:
            clock_ms = self._clock()
            slots.get(self._slots, pins, now_ms or clock_ms, self._ttl_ms, early, clock_ms // 1000, certain, *got)
        return got

    def put(self, pins: U64, values: F32, interests: U64, counted_ms: int, sure: Array) -> None:
        """Keep rows; those that are not sure (bool[n]) for UNSURE_MS, and only where no good row is kept.

        values: float32[n, width]; counted_ms: the moment of their counts; NEVER of `slots.py`: they have none. Raises
        ValueError for columns of other shapes.
        """
        check_shapes((len(pins), self._width), values=values)
        check_shapes((len(pins), INTERESTS), interests=interests)
        check_lengths(len(pins), sure=sure)
        with self._lock:
            clock_ms = self._clock()
            clock_s, until_s = clock_ms // 1000, -(-(clock_ms + UNSURE_MS) // 1000)
            slots.put(self._slots, pins, values, interests, counted_ms, sure, clock_s, until_s)

    def put_counts(self, pins: U64, counts: F32, counted_ms: int) -> None:
        """Renew the counts (float32[n, len(COUNTS)]) of those pins that are still kept, in sure rows. Raises ValueError for
        counts of another shape.
        """
        check_shapes((len(pins), len(KEPT) - len(ATTRIBUTES)), counts=counts)
        with self._lock:
            slots.put_counts(self._slots, pins, np.ascontiguousarray(counts), len(ATTRIBUTES), counted_ms)

    def due(self, age_ms: int) -> U64:
        """uint64[m]: pins that are asked for and whose counts are of that age by now; each once, until it is asked for."""
        found = [ids([])]
        for first in range(0, self.capacity, LOOKED_AT):
            with self._lock:
                found.append(slots.due(self._slots, first, first + LOOKED_AT, self._clock(), age_ms))
        return np.concatenate(found)

    def drop(self, pins: U64) -> None:
        """Forget these pins."""
        with self._lock:
            slots.drop(self._slots, pins)

    def clear(self) -> None:
        """Forget every pin."""
        with self._lock:
            slots.clear(self._slots)

    def __len__(self) -> int:
        return int(self._slots.state[USED])

    def bytes(self) -> int:
        """Bytes that its rows and its table take."""
        return self._fixed_bytes + len(self) * self._row_bytes

    def max_bytes(self) -> int:
        """Bytes that it takes when it is full."""
        return self._fixed_bytes + self.capacity * self._row_bytes


def warm() -> None:
    """Compile the kernels of a cache, or load them: the first request need not wait for it."""
    cache = PinCache((), 1 << 20, 1, wall_clock)
    pins, values, interests = ids([1]), np.zeros((1, len(KEPT)), np.float32), np.zeros((1, INTERESTS), np.uint64)
    cache.put(pins, values, interests, 0, np.ones(1, bool))
    cache.put_counts(pins, values[:, len(ATTRIBUTES) : len(KEPT)], 0)
    cache.get(pins, 0)
    cache.due(1)
    cache.drop(pins)


def row_bytes(columns: int) -> int:
    """Bytes that a row takes, with this many columns of datasets, besides its places in the table."""
    return slots.row(len(KEPT) + columns, INTERESTS).itemsize
