"""What is kept of pins between requests: rows of their facts, as many as fit. Those that are
asked for again stay, the others make room (`slots.py` says how).

Two ages: attributes and columns of datasets stay until an event drops their pin, counts until `ttl_ms` has passed. A
row is copied out, so what a request holds does not change under it. Who fetches what is missing is in `facts.py`.

A change reaches this process and those that are asked for facts by the same log, but not at the same moment. So a row
that was asked for before a change is never kept after it, and one asked for within `UNSURE_MS` after a change is
*unsure*: it lives no longer than that, and a read that must see a write does not take it.
"""

import threading
from typing import NamedTuple

import numpy as np

from features.pins import FACTS, INTERESTS, KEPT
from scorpion import slots
from scorpion.slots import EXPIRED, HIT, MISS, USED
from services.core.clock import Clock, wall_clock
from services.core.columns import F32, U8, U64, ids
from services.kernels.sieve import fitting

__all__ = ["EXPIRED", "HIT", "MISS", "Cache", "Got"]

PLACE = 16  # bytes of the table
UNSURE_MS = 10_000  # a view that is asked for facts is no further behind this one than that
LOOKED_AT = 10_000  # rows, while the lock is held, for those whose counts are old
EARLY_MS = 1_000  # clocks of those who ask differ by less


class Got(NamedTuple):
    """Of n pins. values: float32[n, width]; interests: uint64[n, k]; found: uint8[n], HIT, EXPIRED (all but the counts is
    good) or MISS (its row is NaN and 0).
    """

    values: F32
    interests: U64
    found: U8


class Cache:
    """Rows of features.pins.KEPT and of some columns of datasets. Thread-safe: its lock is held for microseconds."""

    def __init__(self, columns: tuple[str, ...], max_bytes: int, ttl_ms: int, clock: Clock = wall_clock) -> None:
        """columns: of datasets, after those of KEPT. Raises InvalidArgument when not one row fits."""
        self.columns, self._ttl_ms, self._clock = columns, ttl_ms, clock
        self._width = len(KEPT) + len(columns)
        self._row_bytes = row_bytes(len(columns))
        self.capacity, places = fitting(max_bytes - 8 * slots.TOUCHED, PLACE, self._row_bytes, "row")
        self._fixed_bytes = PLACE * places + 8 * slots.TOUCHED
        self._slots = slots.make(self.capacity, places, self._width, INTERESTS)
        self._lock = threading.Lock()
        self.clear()  # what happened just before it was made may not have reached those who are asked

    def get(self, pins: U64, now_ms: int, certain: bool = False) -> Got:
        """What is known of these pins. now_ms: the moment of the counts that are wanted; 0: now.

        certain: the reader must see its own write, so rows that may lack a change are passed over.
        """
        n = len(pins)
        got = Got(np.empty((n, self._width), np.float32), np.empty((n, INTERESTS), np.uint64), np.empty(n, np.uint8))
        early = min(EARLY_MS, self._ttl_ms)
        with self._lock:
            now = now_ms or self._clock()
            slots.get(self._slots, pins, now, self._ttl_ms, UNSURE_MS, early, certain, *got)
        return got

    def put(self, pins: U64, values: F32, interests: U64, counted_ms: int, began_ms: int) -> None:
        """Keep rows that were asked for at began_ms (this clock), but of pins that changed since.

        values: float32[n, width]; counted_ms: the moment of their counts; NEVER of `slots.py`: they have none.
        """
        with self._lock:
            slots.put(self._slots, pins, values, interests, counted_ms, began_ms, self._clock(), UNSURE_MS)

    def put_counts(self, pins: U64, counts: F32, counted_ms: int) -> None:
        """Renew the counts (float32[n, len(COUNTS)]) of those pins that are still kept."""
        with self._lock:
            slots.put_counts(self._slots, pins, np.ascontiguousarray(counts), len(FACTS), counted_ms)

    def due(self, age_ms: int) -> U64:
        """uint64[m]: pins that are asked for and whose counts are of that age by now; each once, until it is asked for."""
        found = [ids([])]
        for first in range(0, self.capacity, LOOKED_AT):
            with self._lock:
                found.append(slots.due(self._slots, first, first + LOOKED_AT, self._clock(), age_ms))
        return np.concatenate(found)

    def drop(self, pins: U64) -> None:
        """These pins have changed."""
        with self._lock:
            slots.drop(self._slots, pins, self._clock())

    def clear(self) -> None:
        """Any pin may have changed."""
        with self._lock:
            slots.clear(self._slots, self._clock())

    def now(self) -> int:
        """This clock, as `put` wants it."""
        return self._clock()

    def __len__(self) -> int:
        return int(self._slots.state[USED])

    def bytes(self) -> int:
        """What its rows and its table take."""
        return self._fixed_bytes + len(self) * self._row_bytes

    def max_bytes(self) -> int:
        """What it takes when it is full."""
        return self._fixed_bytes + self.capacity * self._row_bytes


def warm() -> None:
    """Compile what a cache does, or load it: the first request need not wait for it."""
    cache = Cache((), 1 << 20, 1, wall_clock)
    pins, values, interests = ids([1]), np.zeros((1, len(KEPT)), np.float32), np.zeros((1, INTERESTS), np.uint64)
    cache.put(pins, values, interests, 0, cache.now() + 1)
    cache.put_counts(pins, values[:, len(FACTS) : len(KEPT)], 0)
    cache.get(pins, 0)
    cache.due(1)
    cache.drop(pins)


def row_bytes(columns: int) -> int:
    """What a row takes, with this many columns of datasets, besides its places in the table."""
    return slots.row(len(KEPT) + columns, INTERESTS).itemsize
