"""A hash table from objects to their buckets, all in a few arrays: adding to many objects and summing windows of many.

An object's buckets are one ascending run of `runs`, uint64[r], each `code << 32 | count`. `slots`, uint64[s, 2], is the
table: the object, and where its run is (start << 28 | length << 8 | size class << 3 | kind; 0: an empty slot). A run has
room for 2^class buckets; one that is full moves to a run of twice the size, and its old run becomes the head of a list of free
runs of its class, `free`, int64[32], each of which begins with the next. `state`, int64[2]: objects, and the end of
the used part of `runs`.

An object's slot is the first free one from a place that grows with its hash, so equal high bits of hashes, a page, are
neighbours, and a page can be written by itself. Every look-up misses the processor's caches twice, in `slots` and in
`runs`; so objects are taken 64 at a time, and what all of them need is asked for before the first is looked at.
"""

from typing import Any

import numpy as np

from counters.layout import ACTION_SHIFT, DAY, EVER, HOUR, LEVEL_SHIFT, MOST, NUMBER_MASK, WHAT_ACTION, WHAT_KIND
from services.core.columns import I64, U8, U32, U64, Array
from services.kernels.bloom import mix
from services.kernels.jit import kernel
from services.kernels.prefetch import prefetch

PAGES = 256  # of a table: the high 8 bits of the hash
OBJECTS, END = 0, 1  # of `state`
CLASSES = 32
SMALLEST = 2  # size class of an object's first run: the three buckets of one increment, and one more
_AHEAD = 64

_START, _LENGTH, _CLASS = np.uint64(28), np.uint64(8), np.uint64(3)
_LENGTH_MASK, _CLASS_MASK, _KIND_MASK = np.uint64((1 << 20) - 1), np.uint64(31), np.uint64(7)
_HALF, _LOW, _PAGE = np.uint64(32), np.uint64(0xFFFF_FFFF), np.uint64(56)
_GOLDEN = np.uint64(0x9E37_79B9_7F4A_7C15)
_MOST = np.uint64(MOST)


@kernel
def _hashed(object_: Any, kind: Any) -> Any:
    return mix(object_ + np.uint64(kind) * _GOLDEN)


@kernel
def _home(slots: Any, hashed: Any) -> Any:
    """The slot from which an object is looked for: even over any number of slots, and ascending with the hash."""
    return np.int64(((hashed >> _HALF) * np.uint64(len(slots))) >> _HALF)


@kernel
def _find(slots: Any, hashed: Any, object_: Any, kind: Any) -> Any:
    """The slot of an object, or the empty one that it would take."""
    slot = _home(slots, hashed)
    while slots[slot, 1] != 0 and (slots[slot, 0] != object_ or slots[slot, 1] & _KIND_MASK != np.uint64(kind)):
        slot = slot + 1 if slot + 1 < len(slots) else 0
    return slot


@kernel
def _run(where: Any) -> Any:
    """(start, length, size class)."""
    start, length = np.int64(where >> _START), np.int64((where >> _LENGTH) & _LENGTH_MASK)
    return start, length, np.int64((where >> _CLASS) & _CLASS_MASK)


@kernel
def _where(start: Any, length: Any, size_class: Any, kind: Any) -> Any:
    packed = np.uint64(start) << _START | np.uint64(length) << _LENGTH
    return packed | np.uint64(size_class) << _CLASS | np.uint64(kind)


@kernel
def _take(runs: Any, free: Any, state: Any, size_class: Any) -> Any:
    """The start of a run of 2^class buckets: a free one, else at the end, where the caller has made sure of space."""
    start = free[size_class]
    if start >= 0:
        free[size_class] = np.int64(runs[start]) - 1
        return start
    start = state[END]
    state[END] += np.int64(1) << size_class
    return start


@kernel
def _give(runs: Any, free: Any, start: Any, size_class: Any) -> None:
    runs[start] = np.uint64(free[size_class] + 1)
    free[size_class] = start


@kernel
def _first_from(runs: Any, start: Any, end: Any, code: Any) -> Any:
    """Where in runs[start:end] the first bucket of this code or a higher one is, or would be."""
    while start < end:
        middle = (start + end) >> 1
        if runs[middle] >> _HALF < code:
            start = middle + 1
        else:
            end = middle
    return start


@kernel
def _has_expired(code: Any, first_day: Any, first_hour: Any) -> Any:
    level, number = (np.int64(code) >> LEVEL_SHIFT) & 3, np.int64(code) & NUMBER_MASK
    return (level == DAY and number < first_day) or (level == HOUR and number < first_hour)


@kernel
def _add_bucket(
    runs: Any, free: Any, state: Any, run: Any, code: Any, times: Any, first_day: Any, first_hour: Any
) -> Any:
    """Add to one bucket of a run: the run as it is then, and the count. A new bucket drops those that have expired."""
    start, length, size_class = run
    at = _first_from(runs, start, start + length, code)
    if at < start + length and runs[at] >> _HALF == code:
        count = min((runs[at] & _LOW) + times, _MOST)
        runs[at] = code << _HALF | count
        return (start, length, size_class), count
    kept = start
    for old in range(start, start + length):
        if not _has_expired(runs[old] >> _HALF, first_day, first_hour):
            runs[kept] = runs[old]
            kept += 1
    length = kept - start
    if length == 1 << size_class:
        roomy = _take(runs, free, state, size_class + 1)
        runs[roomy : roomy + length] = runs[start : start + length]
        _give(runs, free, start, size_class)
        start, size_class = roomy, size_class + 1
    at = _first_from(runs, start, start + length, code)
    for i in range(start + length, at, -1):
        runs[i] = runs[i - 1]
    runs[at] = code << _HALF | min(times, _MOST)
    return (start, length + 1, size_class), min(times, _MOST)


@kernel
def _ask_ahead(slots: Any, runs: Any, objects: Any, kinds: Any) -> None:
    """Begin to load the slots of these objects, then their runs."""
    for i in range(len(objects)):
        prefetch(slots, 2 * _home(slots, _hashed(objects[i], kinds[i])))
    for i in range(len(objects)):
        slot = _find(slots, _hashed(objects[i], kinds[i]), objects[i], kinds[i])
        prefetch(runs, np.int64(slots[slot, 1] >> _START))


@kernel
def add(
    slots: U64,
    runs: U64,
    free: I64,
    state: I64,
    objects: U64,
    what: U32,
    times: U32,
    first_day: int,
    first_hour: int,
    offset: int,
    watermarks: I64,
    thresholds: I64,
    notable: I64,
) -> tuple[int, int]:
    """Add e increments; how many were added before `runs` had no room for the next, and how many rows are notable.

    objects: uint64[e]; what: uint32[e], as `layout.what`; times: uint32[e]. Each is added to its object's bucket of all
    time, and to those of its day and hour unless they are before first_day, first_hour: they have expired. `slots` must
    have room for e more objects. Increments for a page (int64[256]) whose watermark is above `offset` are passed over.
    notable: int64[e], the rows after which the count of all time is at least thresholds[kind, action] (int64[8, 8]).
    """
    found = 0
    kinds = np.empty(_AHEAD, np.uint8)
    for base in range(0, len(objects), _AHEAD):
        stop = min(base + _AHEAD, len(objects))
        for i in range(base, stop):
            kinds[i - base] = np.int64(what[i]) >> WHAT_KIND
        _ask_ahead(slots, runs, objects[base:stop], kinds)
        for i in range(base, stop):
            kind, action = np.int64(kinds[i - base]), (np.int64(what[i]) >> WHAT_ACTION) & 7
            hour, count = np.int64(what[i]) & NUMBER_MASK, np.uint64(times[i])
            hashed = _hashed(objects[i], kinds[i - base])
            if watermarks[np.int64(hashed >> _PAGE)] > offset:
                continue
            slot = _find(slots, hashed, objects[i], kind)
            where = slots[slot, 1]
            run = _run(where)
            if state[END] + max(2 << run[2], 1 << SMALLEST) > len(runs):
                return i, found
            if where == 0:
                run = (_take(runs, free, state, SMALLEST), np.int64(0), np.int64(SMALLEST))
                slots[slot, 0] = objects[i]
                state[OBJECTS] += 1
            code = np.uint64(action << ACTION_SHIFT | EVER << LEVEL_SHIFT)
            run, ever = _add_bucket(runs, free, state, run, code, count, first_day, first_hour)
            if hour // 24 >= first_day:
                code = np.uint64(action << ACTION_SHIFT | DAY << LEVEL_SHIFT | hour // 24)
                run, _ = _add_bucket(runs, free, state, run, code, count, first_day, first_hour)
            if hour >= first_hour:
                code = np.uint64(action << ACTION_SHIFT | HOUR << LEVEL_SHIFT | hour)
                run, _ = _add_bucket(runs, free, state, run, code, count, first_day, first_hour)
            slots[slot, 1] = _where(run[0], run[1], run[2], kind)
            if np.int64(ever) >= thresholds[kind, action]:
                notable[found] = i
                found += 1
    return len(objects), found


@kernel
def window_sums(
    slots: U64,
    runs: U64,
    objects: U64,
    kinds: U8,
    rows: I64,
    column: I64,
    level: I64,
    first: I64,
    last: I64,
    sums: Array,
) -> None:
    """Add up the buckets of windows. sums: int64[n, a, w], zeros, of which `rows` (int64[m]) are written.

    objects: uint64[m]; kinds: uint8[m]. column: int64[actions], where an action's sums go by its index, or -1. level,
    first, last: int64[w], the buckets of each window: of this level, from number first to number last, both included.
    """
    for base in range(0, len(objects), _AHEAD):
        stop = min(base + _AHEAD, len(objects))
        _ask_ahead(slots, runs, objects[base:stop], kinds[base:stop])
        for i in range(base, stop):
            slot = _find(slots, _hashed(objects[i], kinds[i]), objects[i], kinds[i])
            start, length, _ = _run(slots[slot, 1])
            for at in range(start, start + length):
                code = np.int64(runs[at] >> _HALF)
                to = column[code >> ACTION_SHIFT]
                if to < 0:
                    continue
                of, number, count = (code >> LEVEL_SHIFT) & 3, code & NUMBER_MASK, np.int64(runs[at] & _LOW)
                for window in range(len(level)):
                    if of == level[window] and first[window] <= number <= last[window]:
                        sums[rows[i], to, window] += count


@kernel
def rehash(slots: U64, larger: U64) -> None:
    """Put the objects of a table into an empty one with more slots."""
    for old in range(len(slots)):
        if slots[old, 1]:
            kind = slots[old, 1] & _KIND_MASK
            slot = _find(larger, _hashed(slots[old, 0], kind), slots[old, 0], kind)
            larger[slot, 0], larger[slot, 1] = slots[old, 0], slots[old, 1]


@kernel
def page(
    slots: U64, runs: U64, number: int, out_objects: U64, out_kinds: U8, out_lengths: U32, out_buckets: U64
) -> Any:
    """Copy the objects of a page (number: 0 to 255) and their runs, back to back, and count both.

    The out columns have room for all; if they have none (length 0), it only counts.
    """
    objects = buckets = 0
    first = np.uint64(number) << _PAGE
    slot, last = _home(slots, first), _home(slots, first | ((np.uint64(1) << _PAGE) - np.uint64(1)))
    while slot <= last or slots[slot % len(slots), 1] != 0:  # beyond the page's own slots, objects pushed out of them
        object_, where = slots[slot % len(slots), 0], slots[slot % len(slots), 1]
        slot += 1
        kind = where & _KIND_MASK
        if where == 0 or np.int64(_hashed(object_, kind) >> _PAGE) != number:
            continue
        start, length, _ = _run(where)
        if len(out_objects):
            out_objects[objects], out_kinds[objects], out_lengths[objects] = object_, kind, length
            out_buckets[buckets : buckets + length] = runs[start : start + length]
        objects += 1
        buckets += length
    return objects, buckets


@kernel
def load(
    slots: U64, runs: U64, free: I64, state: I64, number: int, objects: U64, kinds: U8, lengths: U32, buckets: U64
) -> int:
    """Put the objects of page `number` into a table that has none of them, and room for all.

    Returns the first row that is of another page, or is there already; -1: there is none. Nothing after it is put in.
    """
    at = np.int64(0)
    for i in range(len(objects)):
        length, size_class = np.int64(lengths[i]), np.int64(SMALLEST)
        while length > 1 << size_class:
            size_class += 1
        hashed = _hashed(objects[i], kinds[i])
        slot = _find(slots, hashed, objects[i], kinds[i])
        if np.int64(hashed >> _PAGE) != number or slots[slot, 1] != 0:
            return i
        start = _take(runs, free, state, size_class)
        runs[start : start + length] = buckets[at : at + length]
        at += length
        slots[slot, 0], slots[slot, 1] = objects[i], _where(start, length, size_class, kinds[i])
        state[OBJECTS] += 1
    return -1


@kernel
def leading(slots: U64, runs: U64, first: int, stop: int, thresholds: I64, out_objects: U64, out_pairs: U8) -> int:
    """Of slots first..stop, the objects and pairs (kind << 3 | action) of which the count of all time reaches thresholds.

    thresholds: int64[8, 8]; the out columns have room for all actions of all slots. Returns how many there are.
    """
    found = 0
    for slot in range(first, stop):
        kind = np.int64(slots[slot, 1] & _KIND_MASK)
        start, length, _ = _run(slots[slot, 1])
        for at in range(start, start + length):
            code = np.int64(runs[at] >> _HALF)
            action = code >> ACTION_SHIFT
            if (code >> LEVEL_SHIFT) & 3 == EVER and np.int64(runs[at] & _LOW) >= thresholds[kind, action]:
                out_objects[found], out_pairs[found] = slots[slot, 0], kind << 3 | action
                found += 1
    return found
