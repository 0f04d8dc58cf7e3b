"""The buckets of one partition's objects in memory: the arrays of `counters/kernel.py`, which grow as they fill.

One thread adds, any thread asks. The lock is held for some thousand increments or one question's objects at a time, so
readers see each increment whole.
"""

import threading
from collections.abc import Iterable
from typing import Any

import numpy as np

from counters import kernel
from counters.kernel import CLASSES, END, OBJECTS, PAGES
from counters.layout import ACTIONS, DAY, HOUR, Increments, Page, what
from counters.windows import Runs, first_kept, runs
from services.core.checks import check_lengths
from services.core.columns import I64, U8, U64, Array
from services.kernels.bloom import read_only

NEVER = 2**62  # a threshold that no count reaches
NOTHING_NOTABLE = np.full((8, 8), NEVER)
_NO_WATERMARKS = np.zeros(PAGES, np.int64)
_FULL = 0.7  # share of the slots taken before there are twice as many
_AT_ONCE = 4_096  # increments added under one hold of the lock
_COLUMNS = (np.empty(0, np.uint64), np.empty(0, np.uint8), np.empty(0, np.uint32), np.empty(0, np.uint64))


class CountTable:
    """Objects and their buckets."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots = np.zeros((1_024, 2), np.uint64)
        self._runs = np.empty(4_096, np.uint64)
        self._free = np.full(CLASSES, -1, np.int64)
        self._state = np.zeros(2, np.int64)

    def __len__(self) -> int:
        return int(self._state[OBJECTS])

    def stored_bytes(self) -> int:
        """About what all pages take."""
        return int(8 * self._state[END] + 13 * self._state[OBJECTS])

    def memory_bytes(self) -> int:
        """The size of the arrays."""
        return self._slots.nbytes + self._runs.nbytes

    def add(
        self,
        increments: Increments,
        newest_ms: int,
        thresholds: I64 = NOTHING_NOTABLE,
        offset: int = 0,
        watermarks: I64 = _NO_WATERMARKS,
    ) -> I64:
        """Add increments, to be called by one thread at a time; the notable rows, as `kernel.add` has it.

        newest_ms: the time by which buckets expire, which never falls. Raises ValueError for columns of unequal lengths.
        """
        check_lengths(len(increments.objects), what=increments.what, times=increments.times)
        check_lengths(PAGES, watermarks=watermarks)
        kept = first_kept(DAY, newest_ms), first_kept(HOUR, newest_ms)
        columns = _inputs(increments)
        found, start = [], 0
        while start < len(increments.objects):
            stop = min(start + _AT_ONCE, len(increments.objects))
            self._reserve(stop - start, 0)
            notable = np.empty(stop - start, np.int64)
            arrays: list[Any] = [self._slots, self._runs, self._free, self._state]
            arrays += [*(column[start:stop] for column in columns), *kept, offset, watermarks, thresholds, notable]
            with self._lock:
                added, n = kernel.add(*arrays)
            found.append(notable[:n] + start)
            start += added
            if start < stop:
                self._reserve(0, len(self._runs) // 2)
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def _reserve(self, objects: int, buckets: int) -> None:
        """Allocate memory for so many more. Readers meanwhile have the old arrays; there is one writer."""
        wanted = (len(self) + objects) / _FULL
        if wanted > len(self._slots):
            larger = np.zeros((max(2 * len(self._slots), int(wanted) + 1), 2), np.uint64)
            kernel.rehash(self._slots, larger)
            with self._lock:
                self._slots = larger
        end = int(self._state[END])
        if end + buckets > len(self._runs):
            longer = np.empty(max(end + buckets, 3 * len(self._runs) // 2), np.uint64)
            longer[:end] = self._runs[:end]
            with self._lock:
                self._runs = longer

    def sums(self, objects: U64, kinds: U8, rows: I64, column: I64, windows: Runs, sums: Array) -> None:
        """Write the sums of windows of these objects to `rows` of sums, as `kernel.window_sums` has it.

        Raises ValueError for columns of unequal lengths.
        """
        check_lengths(len(objects), kinds=kinds, rows=rows)
        asked = read_only(objects, np.uint64), read_only(kinds, np.uint8), read_only(rows, np.int64)
        with self._lock:
            kernel.window_sums(self._slots, self._runs, *asked, column, *windows, sums)

    def page(self, number: int) -> Page:
        """A page (0 to 255) as it is. By the thread that adds."""
        objects, buckets = kernel.page(self._slots, self._runs, number, *_COLUMNS)
        each = np.empty(objects, np.uint64), np.empty(objects, np.uint8), np.empty(objects, np.uint32)
        found = Page(*each, np.empty(buckets, np.uint64))
        if objects:
            kernel.page(self._slots, self._runs, number, *found)
        return found

    def load(self, number: int, page: Page) -> None:
        """Take the objects of a page. By the thread that adds.

        Raises ValueError naming an object that is of another page, or is there already, or a column whose length does not
        fit the others.
        """
        check_lengths(len(page.objects), kinds=page.kinds, lengths=page.lengths)
        check_lengths(int(page.lengths.sum()), buckets=page.buckets)
        self._reserve(len(page.objects), 2 * len(page.buckets) + 4 * len(page.objects))
        columns = _inputs(page)
        wrong = kernel.load(self._slots, self._runs, self._free, self._state, number, *columns)
        if wrong >= 0:
            raise ValueError(f"object {page.objects[wrong]} is of another page, or stands there twice")

    def leading(self, first: int, stop: int, thresholds: I64) -> tuple[U64, U8]:
        """(objects, kind << 3 | action) in slots first..stop that reach thresholds. By the thread that adds."""
        capacity = max(0, min(stop, len(self._slots)) - first) * ACTIONS
        objects, pairs = np.empty(capacity, np.uint64), np.empty(capacity, np.uint8)
        n = kernel.leading(self._slots, self._runs, first, min(stop, len(self._slots)), thresholds, objects, pairs)
        return objects[:n], pairs[:n]

    def slots(self) -> int:
        """How many slots there are."""
        return len(self._slots)


def _inputs(columns: Iterable[Any]) -> list[Any]:
    """Columns as a kernel's inputs."""
    return [read_only(column, column.dtype.type) for column in columns]


def warm() -> None:
    """Compile the kernels, or load them, before they are needed."""
    table, again, one = CountTable(), CountTable(), np.ones(1, np.uint64)
    table.add(
        Increments(
            one, what(np.ones(1, np.uint8), np.zeros(1, np.int64), np.zeros(1, np.int64)), np.ones(1, np.uint32)
        ),
        0,
    )
    table._reserve(table.slots(), 0)
    for number in range(PAGES):
        again.load(number, table.page(number))
    again.leading(0, again.slots(), NOTHING_NOTABLE)
    nothing = np.zeros(ACTIONS, np.int64)
    windows = runs(nothing[:1], 0, 0)
    again.sums(one, np.ones(1, np.uint8), nothing[:1], nothing, windows, np.zeros((1, 1, 1), np.int64))
