"""Adds increments to the buckets of many objects, and sums the buckets of windows: pure arithmetic on arrays."""

import numpy as np

from counters.layout import ACTION_SHIFT, DAY, EVER, HOUR, LEVEL_SHIFT, MOST, NUMBER_MASK
from services.columns import I64, U8, U32, Array
from services.jit import kernel


@kernel
def spread(
    owner: I64,
    action: U8,
    hour: I64,
    count: I64,
    first_day: int,
    first_hour: int,
    out_codes: U32,
    out_counts: U32,
    out_ends: I64,
) -> int:
    """Turn increments into the buckets they belong to: ever, a day, an hour; the number of buckets written.

    owner: int64[e] row of the object, from 0 without a gap; action: uint8[e], its index; hour: int64[e] since 1970;
    count: int64[e]. Ordered by (owner, action, hour). Days before first_day, hours before first_hour have expired.
    out columns: room for 3 * e buckets, ascending by code within an object; out_ends: int64[objects].
    """
    n, event = 0, 0
    while event < len(owner):
        stop, total = event, np.int64(0)
        while stop < len(owner) and owner[stop] == owner[event] and action[stop] == action[event]:
            total += count[stop]
            stop += 1
        base = np.int64(action[event]) << ACTION_SHIFT
        out_codes[n], out_counts[n] = base | EVER << LEVEL_SHIFT, np.minimum(total, MOST)
        n += 1
        for level in (DAY, HOUR):
            first = first_day if level == DAY else first_hour
            before, total = np.int64(-1), np.int64(0)
            for i in range(event, stop):
                number = hour[i] // 24 if level == DAY else hour[i]
                if number < first:
                    continue
                if number != before:
                    before, total = number, np.int64(0)
                    n += 1
                total += count[i]
                out_codes[n - 1], out_counts[n - 1] = base | level << LEVEL_SHIFT | number, np.minimum(total, MOST)
        out_ends[owner[event]] = n
        event = stop
    return n


@kernel
def merge(
    codes: U32,
    counts: U32,
    ends: I64,
    more_codes: U32,
    more_counts: U32,
    more_ends: I64,
    first_day: int,
    first_hour: int,
    out_codes: U32,
    out_counts: U32,
    out_ends: I64,
) -> int:
    """Add the second buckets of each object to its first, and leave out what has expired; the number written.

    Columns of s objects as in `layout.Buckets`. out columns: room for both. A sum above MOST is MOST.
    """
    n, old, new = 0, 0, 0
    for row in range(len(ends)):
        while old < ends[row] or new < more_ends[row]:
            if new == more_ends[row] or (old < ends[row] and codes[old] < more_codes[new]):
                code, count = codes[old], np.int64(counts[old])
                old += 1
            elif old == ends[row] or more_codes[new] < codes[old]:
                code, count = more_codes[new], np.int64(more_counts[new])
                new += 1
            else:
                code, count = codes[old], np.int64(counts[old]) + np.int64(more_counts[new])
                old, new = old + 1, new + 1
            level, number = (code >> LEVEL_SHIFT) & 3, code & NUMBER_MASK
            if (level == DAY and number < first_day) or (level == HOUR and number < first_hour):
                continue
            out_codes[n], out_counts[n] = code, np.minimum(count, MOST)
            n += 1
        out_ends[row] = n
    return n


@kernel
def window_sums(
    codes: U32, counts: U32, ends: I64, column: I64, level: I64, first: I64, last: I64, sums: Array
) -> None:
    """Add up the buckets of windows. sums: int64[n, a, w], zeros, written; columns of n objects as in `layout.Buckets`.

    column: int64[actions], where an action's sums go by its index, or -1. level, first, last: int64[w], the buckets of
    each window: of this level, from number first to number last, both included.
    """
    start = 0
    for row in range(len(ends)):
        for at in range(start, ends[row]):
            code = np.int64(codes[at])
            to = column[code >> ACTION_SHIFT]
            if to < 0:
                continue
            of, number = (code >> LEVEL_SHIFT) & 3, code & NUMBER_MASK
            for window in range(len(level)):
                if of == level[window] and first[window] <= number <= last[window]:
                    sums[row, to, window] += counts[at]
        start = ends[row]
