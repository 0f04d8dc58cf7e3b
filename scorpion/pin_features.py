"""Features of pins for a request: from the cache, and the missing ones from rockstore and counters, each pin fetched once.

Requests that lack the same pin at the same time share one fetch: the first to lack it asks, the others wait for that
answer. A request that lacks nothing never waits: not for the cache, whose lock no fetch holds, and not for a thread, since
only so many requests may wait at a time. One that lacks something while so many wait is answered immediately with the rows
that there are, as if the services were away; that many wait only when they are slow. Values that can't be fetched are
missing (NaN) in this request and are not kept; counts that had expired stay as they were.

Which of the fetched rows are sure follows from how far rockstore had applied the log (`services/state/change_feed.py`).

Counts that expire are asked for again by the request that needs them, and few should need to: `renew` does so before.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from features.pins import ATTRIBUTES, KEPT, PinFeatures
from scorpion.cache import EXPIRED, HIT, MISS, Got, PinCache
from scorpion.origin import COUNTERS, ROCKSTORE, STANDING, Fetched, PinOrigin, of_standing
from scorpion.slots import NEVER
from services.core.clock import Clock, wall_clock
from services.core.columns import F32, I64, U8, U32, U64, ids
from services.state.change_feed import ChangeFeed

COUNTS = slice(len(ATTRIBUTES), len(KEPT))
BOTH = frozenset({ROCKSTORE, COUNTERS})
RENEWED = 10_000  # pins whose counts are renewed in one call
FETCHING = 0.8  # of a request's time; the rest is for scoring


class KnownPins(NamedTuple):
    """Features of n pins. hits: rows that the cache had whole; lost: the services that could not be asked."""

    features: PinFeatures
    datasets: dict[str, F32]  # [n] by `dataset.column`
    status: U8  # [n] UP, TAKEN_DOWN or UNDESCRIBED of scorpion/origin.py; UP where it is not known
    creators: U32  # [n] marks of the creators of the pins, features/pins.py; 0: not known
    hits: int
    misses: int
    lost: list[str]


@dataclass(slots=True, eq=False)
class Flight:
    """One fetch under way: of pins, and of pins whose counts alone are asked."""

    cache: PinCache
    deadline: float
    whole: list[int] = field(default_factory=list)
    counted: list[int] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)
    fetched: Fetched | None = None  # once done, unless it failed

    def add(self, pin: int, whole: bool) -> "Seat":
        """Fetch this pin too."""
        pins = self.whole if whole else self.counted
        pins.append(pin)
        return Seat(self, whole, len(pins) - 1)


class Seat(NamedTuple):
    """Where a flight has a pin."""

    flight: Flight
    whole: bool
    at: int

    def row(self) -> int:
        """Its row in the answer of the fetch."""
        return self.at if self.whole else len(self.flight.whole) + self.at


class PinFeatureLoader:
    """The cache, and the services that it is filled from. Thread-safe."""

    def __init__(
        self,
        origin: PinOrigin,
        feed: ChangeFeed,
        max_bytes: int,
        ttl_ms: int,
        clock: Clock = wall_clock,
        waiting: int = 256,
    ) -> None:
        """feed: of the pins; its changes call `drop` and `clear`. max_bytes: of cache and feed; ttl_ms: how long counts are good;
        waiting: how many requests may wait for a fetch.
        """
        self._waiting = threading.Semaphore(waiting)
        self._origin, self._feed, self._ttl_ms, self._clock = origin, feed, ttl_ms, clock
        self._max_bytes = max_bytes - feed.nbytes
        self._cache = PinCache((STANDING,), self._max_bytes, ttl_ms, clock)
        self._lock = threading.Lock()  # of the flights, of the gauges, and of changing the cache for another
        self._flights: dict[int, Seat] = {}  # by pin
        self.hits = self.expired = self.misses = 0  # rows asked for, by the state of the cache

    @property
    def cache(self) -> PinCache:
        """The one in use."""
        return self._cache

    def widen(self, columns: Sequence[str]) -> None:
        """Keep these columns of datasets too, from now on. It takes a new, empty cache, so it is seldom."""
        with self._lock:
            more = tuple(sorted({*self._cache.columns, *columns}))
            if more != self._cache.columns:
                self._cache = PinCache(more, self._max_bytes, self._ttl_ms, self._clock)
                self._flights.clear()

    def drop(self, pins: U64) -> None:
        """These pins have changed: requests from now on fetch them anew."""
        with self._lock:
            self._cache.drop(pins)
            if self._flights:
                for pin in self._flights.keys() & set(pins.tolist()):
                    del self._flights[pin]

    def clear(self) -> None:
        """Any pin may have changed."""
        with self._lock:
            self._cache.clear()
            self._flights.clear()

    def of(self, pins: U64, now_ms: int, timeout: float, certain: bool = False) -> KnownPins:
        """Features of pins (uint64[n]) within `timeout` seconds.

        now_ms: the moment of the counts, 0: now. certain: see every write that this process has had a notice of.
        """
        cache, deadline = self._cache, time.monotonic() + timeout * FETCHING
        pins = pins if pins.flags.writeable else pins.copy()  # kernels are compiled for one kind of array
        got = cache.get(pins, now_ms, certain)
        lacking, expired = np.flatnonzero(got.found), 0  # all but HIT, which is 0
        lost: set[str] = set()
        if len(lacking):
            expired = int((got.found == EXPIRED).sum())
            if self._waiting.acquire(blocking=False):
                try:
                    self._complete(cache, got, pins, lacking, now_ms, deadline, certain, lost)
                finally:
                    self._waiting.release()
            else:
                lost = {COUNTERS} if expired == len(lacking) else set(BOTH)
        with self._lock:
            self.hits += len(pins) - len(lacking)
            self.expired += expired
            self.misses += len(lacking) - expired
        columns = {name: got.values[:, len(KEPT) + i] for i, name in enumerate(cache.columns)}
        status, creators = of_standing(columns.pop(STANDING))
        features = PinFeatures(got.values[:, : len(KEPT)], got.interests)
        return KnownPins(features, columns, status, creators, len(pins) - len(lacking), len(lacking), sorted(lost))

    def renew(self, age_ms: int, timeout: float) -> None:
        """Ask again for counts of that age, of all pins that requests want, in as few calls as will do: no request has to."""
        cache, now_ms = self._cache, self._clock()
        due = cache.due(age_ms)
        for start in range(0, len(due), RENEWED):
            pins = due[start : start + RENEWED]
            fetched = self._origin.fetch(ids([]), pins, (), now_ms, timeout)
            if COUNTERS not in fetched.lost:
                cache.put_counts(pins, fetched.values[:, COUNTS], now_ms)

    def _complete(
        self,
        cache: PinCache,
        got: Got,
        pins: U64,
        still: I64,
        now_ms: int,
        deadline: float,
        certain: bool,
        lost: set[str],
    ) -> None:
        """Fetch the values that the rows `still` lack, or wait for their flight. `lost` gets the services that failed."""
        for last in (False, True):
            if not len(still):
                break
            flight, seats = self._claim(cache, got, pins, still, now_ms, deadline, certain)
            self._fly(flight, now_ms or self._clock())
            still = _land(got, flight, seats, deadline, last, lost)

    def _claim(
        self, cache: PinCache, got: Got, pins: U64, lacking: I64, now_ms: int, deadline: float, certain: bool
    ) -> tuple[Flight, dict[int, Seat]]:
        """A flight of the pins that no other flight has, and the seat of each row: there, or in a flight of another's.

        The cache is asked again first: a flight may have landed since. A read that must see a write shares no flight
        that others began: its service may not have applied that write.
        """
        with self._lock:
            again = cache.get(pins[lacking], now_ms, certain)
            got.values[lacking], got.interests[lacking], got.found[lacking] = again
            flight = Flight(cache, deadline)
            seats: dict[int, Seat] = {}
            for row in lacking[again.found != HIT].tolist():
                pin, whole = int(pins[row]), bool(got.found[row] == MISS)
                seat = self._flights.get(pin)
                foreign = certain and seat is not None and seat.flight is not flight
                if seat is None or foreign or seat.flight.cache is not cache or (whole and not seat.whole):
                    seat = self._flights[pin] = flight.add(pin, whole)
                seats[row] = seat
        return flight, seats

    def _fly(self, flight: Flight, now_ms: int) -> None:
        if not flight.whole and not flight.counted:
            return
        whole, counted = ids(flight.whole), ids(flight.counted)
        try:
            left = max(0.0, flight.deadline - time.monotonic())
            fetched = self._origin.fetch(whole, counted, flight.cache.columns, now_ms, left)
            n, missed = len(whole), COUNTERS in fetched.lost
            if n and ROCKSTORE not in fetched.lost:
                rows = fetched.values[:n], fetched.interests[:n], NEVER if missed else now_ms
                self._feed.fill(
                    self._feed.places(whole), fetched.position, lambda sure: flight.cache.put(whole, *rows, sure)
                )
            if not missed:
                flight.cache.put_counts(counted, fetched.values[n:, COUNTS], now_ms)
            flight.fetched = fetched
        finally:
            with self._lock:
                for pin in (*flight.whole, *flight.counted):
                    if (seat := self._flights.get(pin)) and seat.flight is flight:
                        del self._flights[pin]
            flight.done.set()


def _land(got: Got, own: Flight, seats: dict[int, Seat], deadline: float, last: bool, lost: set[str]) -> I64:
    """Write the fetched values into the rows; those to try again, as their fetch had less time than this request."""
    by_flight: dict[Flight, list[int]] = {}
    for row, seat in seats.items():
        by_flight.setdefault(seat.flight, []).append(row)
    again: list[int] = []
    for flight, rows in by_flight.items():
        flight.done.wait(max(0.0, deadline - time.monotonic()))
        fetched = flight.fetched
        failed = fetched is None or fetched.lost
        if failed and not last and flight is not own and flight.deadline < deadline and time.monotonic() < deadline:
            again += rows
            continue
        lost |= BOTH if fetched is None else fetched.lost
        if fetched is not None:
            _take(got, np.array(rows), np.array([seats[row].row() for row in rows]), fetched)
    return np.array(again, np.int64)


def _take(got: Got, rows: I64, at: I64, fetched: Fetched) -> None:
    missing = got.found[rows] == MISS
    got.values[rows[missing]] = fetched.values[at[missing]]
    got.interests[rows[missing]] = fetched.interests[at[missing]]
    if COUNTERS not in fetched.lost:
        got.values[rows[~missing], COUNTS] = fetched.values[at[~missing], COUNTS]
