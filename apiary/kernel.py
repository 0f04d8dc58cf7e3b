"""Merges events into the packed lists of many users together, and puts results in order: pure arithmetic on arrays."""

from typing import Any

import numpy as np

from apiary import layout
from services.core.columns import F32, I64, U8, U64, Array
from services.kernels.jit import kernel
from services.kernels.partition import partition_of_key
from services.kernels.radix import in_order

GONE, _KIND = np.uint8(layout.GONE), np.uint8(0xFF ^ layout.GONE)


@kernel
def merge(
    ids: U64,
    kinds: U8,
    at_ms: I64,
    ends: I64,
    owner: I64,
    event_ids: U64,
    event_kinds: U8,
    event_at_ms: I64,
    put: Array,
    out_ids: U64,
    out_kinds: U8,
    out_at_ms: I64,
    out_ends: I64,
    change: Array,
) -> int:
    """Apply events to sorted lists; the number of entries written to the out columns, or -1 when events are left over,
    since `owner` does not ascend or names a list that is not there.

    ids, kinds, at_ms: the lists of s users back to back, each ascending by (kind, id); ends: int64[s].
    owner: int64[e], the list of each event; events are ordered by (owner, kind, id, arrival).
    put: bool[e], whether the event adds the entry or removes it. Of the events of an entry the latest decides, of equal
    dates the one that came last, and the entry has its date; one that is removed stays, with the bit GONE in its kind.
    out columns: room for len(ids) + e entries. change: int8[e], set to +1 or -1 at the last event of an entry that came
    or went, else 0.
    """
    n, event, start = 0, 0, 0
    for user in range(len(ends)):
        entry = start
        while entry < ends[user] or (event < len(owner) and owner[event] == user):
            old = entry < ends[user]
            new = event < len(owner) and owner[event] == user
            if old and (
                not new
                or kinds[entry] & _KIND < event_kinds[event]
                or (kinds[entry] & _KIND == event_kinds[event] and ids[entry] < event_ids[event])
            ):
                out_ids[n], out_kinds[n], out_at_ms[n] = ids[entry], kinds[entry], at_ms[entry]
                n, entry = n + 1, entry + 1
                continue
            kind, id_ = event_kinds[event], event_ids[event]
            was, at = False, np.int64(-1)
            if old and kinds[entry] & _KIND == kind and ids[entry] == id_:
                was, at, entry = kinds[entry] & GONE == 0, at_ms[entry], entry + 1
            there = was
            while (
                event < len(owner) and owner[event] == user and event_kinds[event] == kind and event_ids[event] == id_
            ):
                if event_at_ms[event] >= at:
                    at, there = event_at_ms[event], put[event]
                change[event] = 0
                event += 1
            change[event - 1] = np.int8(there) - np.int8(was)
            out_ids[n], out_kinds[n], out_at_ms[n] = id_, kind if there else kind | GONE, at
            n += 1
        start = ends[user]
        out_ends[user] = n
    return n if event == len(owner) else -1


@kernel
def newest(ids: U64, kinds: U8, at_ms: I64, limit: int) -> tuple[U64, I64, I64]:
    """The ids and dates of the `limit` newest entries of each kind, kind by kind, newest first, of equals the higher id.

    ids, kinds, at_ms: n entries ascending by (kind, id). Those of kind k end at ends[k]: int64[4], the last returned.
    """
    rows, ends, n, start = np.empty(len(kinds), np.int64), np.zeros(4, np.int64), 0, 0
    for kind in range(1, len(ends)):
        stop = start
        while stop < len(kinds) and kinds[stop] == kind:
            stop += 1
        for row in _by_date(at_ms, start, stop)[::-1][:limit]:
            rows[n] = row
            n += 1
        ends[kind] = n
        start = stop
    return ids[rows[:n]], at_ms[rows[:n]], ends


@kernel
def newest_of_each(at_ms: I64, ends: I64, limit: int) -> tuple[I64, I64]:
    """The `limit` newest of each of s lists, the later row first among equals: int64[s] how many, int64[m] rows, ascending.

    at_ms: int64[n], the lists back to back; ends: int64[s].
    """
    counts, rows, n, start = np.empty_like(ends), np.empty(len(at_ms), np.int64), 0, 0
    for i in range(len(ends)):
        counts[i] = min(ends[i] - start, limit)
        if counts[i] < ends[i] - start:
            rows[n : n + counts[i]] = np.sort(_by_date(at_ms, start, ends[i])[-limit:])
        else:
            rows[n : n + counts[i]] = np.arange(start, ends[i])
        n += counts[i]
        start = ends[i]
    return counts, rows[:n]


@kernel
def _by_date(at_ms: Any, start: Any, stop: Any) -> Any:
    """The rows from start to before stop by date, oldest first, equals as they stand. Dates are not negative."""
    return in_order(at_ms[start:stop].astype(np.uint64), np.arange(start, stop), 0)[1]


@kernel
def best(boards: U64, weights: F32, owners: U64, at_ms: I64, limit: int) -> tuple[U64, F32, U64, I64]:
    """The `limit` best of n boards as the columns that came: best weight first, then newest, then the highest id.

    Of a board that is there several times the best is taken. weights, at_ms: not negative.
    """
    _, rows = in_order(boards.copy(), np.arange(len(boards)), 0)
    n = 0
    for row in rows:
        last = rows[n - 1] if n else row
        if not n or boards[row] != boards[last]:
            rows[n] = row
            n += 1
        elif weights[row] > weights[last] or (weights[row] == weights[last] and at_ms[row] >= at_ms[last]):
            rows[n - 1] = row
    _, rows = in_order(at_ms[rows[:n]].astype(np.uint64), rows[:n], 0)
    _, rows = in_order(
        weights[rows].view(np.uint32).astype(np.uint64), rows, 0
    )  # bits of such floats ascend as they do
    rows = rows[::-1][:limit]
    return boards[rows], weights[rows], owners[rows], at_ms[rows]


@kernel
def split(users: U64, partitions: int, first: int, end: int) -> tuple[U64, I64, U64]:
    """Users of the partitions from `first` to before `end`, the partition of each, and the other users."""
    here, where, elsewhere, n = np.empty_like(users), np.empty(len(users), np.int64), np.empty_like(users), 0
    for i in range(len(users)):
        partition = partition_of_key(users[i], partitions)
        if first <= partition < end:
            here[n], where[n] = users[i], partition
            n += 1
        else:
            elsewhere[i - n] = users[i]
    return here[:n], where[:n], elsewhere[: len(users) - n]
