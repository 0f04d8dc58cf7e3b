"""Arithmetic of the front door and of the aggregator.

Recent event ids are an exact set, as an open-addressing table: linear probing, keys and minutes in parallel arrays.
Id 0 marks an empty slot; it is not an id. An id that is older than the window counts as absent, and its slot is reused
when the table is next rebuilt. Sums by key use a table of the same kind, made for each call.
"""

import numpy as np

from services.columns import I64, U8, U32, U64, Array
from services.jit import kernel


@kernel
def _slot(key: np.uint64, mask: np.uint64) -> np.uint64:
    key = (key ^ (key >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)  # murmur3's finaliser: ids may be sequential
    return (key ^ (key >> np.uint64(29))) & mask


@kernel
def add_new(keys: U64, minutes: U32, ids: U64, minute: int, oldest: int, fresh: Array) -> int:
    """Add `ids`; fresh[i] tells whether ids[i] was absent or older than minute `oldest`. The slots newly used.

    keys: uint64[2^b], minutes: uint32[2^b], with room for all ids. ids: uint64[n]. fresh: bool[n], written.
    """
    mask, used = np.uint64(len(keys) - 1), 0
    for i in range(len(ids)):
        at = _slot(ids[i], mask)
        while keys[at] != 0 and keys[at] != ids[i]:
            at = (at + np.uint64(1)) & mask
        fresh[i] = keys[at] == 0 or minutes[at] < oldest
        if fresh[i]:
            used += keys[at] == 0
            keys[at], minutes[at] = ids[i], minute
    return used


@kernel
def forget(keys: U64, minutes: U32, ids: U64) -> None:
    """Make `ids`, all of them in the table, older than any window."""
    mask = np.uint64(len(keys) - 1)
    for i in range(len(ids)):
        at = _slot(ids[i], mask)
        while keys[at] != ids[i]:
            at = (at + np.uint64(1)) & mask
        minutes[at] = 0


@kernel
def rebuild(keys: U64, minutes: U32, into: U64, into_minutes: U32, oldest: int) -> int:
    """Copy the ids that are not older than minute `oldest` into another, empty table. How many they are."""
    mask, used = np.uint64(len(into) - 1), 0
    for i in range(len(keys)):
        if keys[i] != 0 and minutes[i] >= oldest:
            at = _slot(keys[i], mask)
            while into[at] != 0:
                at = (at + np.uint64(1)) & mask
            into[at], into_minutes[at] = keys[i], minutes[i]
            used += 1
    return used


ENGAGES, JOINS, LEAVES = 0, 1, 2  # what a step does


@kernel
def follow_interests(
    does: U8,
    pin: I64,
    interest: U64,
    held: U64,
    starts: I64,
    lengths: I64,
    most: int,
    out_step: I64,
    out_interest: U64,
) -> int:
    """Walk through steps in order; the number of (engagement, interest of its pin at that moment) pairs met.

    does: uint8[s] ENGAGES, JOINS or LEAVES; pin: int64[s], row of the pin; interest: uint64[s].
    held: uint64[m]: the interests of pin p are held[starts[p]:starts[p] + lengths[p]], with room for as many more as join;
    changed in place, with lengths. To join what is joined, or beyond `most`, or to leave what is not joined does nothing.
    out columns: empty, then the pairs are only counted; or with room for all of them.
    """
    n, telling = 0, len(out_step) > 0
    for step in range(len(does)):
        row = pin[step]
        start, stop = starts[row], starts[row] + lengths[row]
        if does[step] == ENGAGES:
            if telling:
                for at in range(start, stop):
                    out_step[n + at - start], out_interest[n + at - start] = step, held[at]
            n += stop - start
            continue
        at = start
        while at < stop and held[at] != interest[step]:
            at += 1
        if does[step] == JOINS and at == stop and stop - start < most:
            held[at] = interest[step]
            lengths[row] += 1
        elif does[step] == LEAVES and at < stop:
            for behind in range(at + 1, stop):
                held[behind - 1] = held[behind]
            lengths[row] -= 1
    return n


@kernel
def sum_by_key(ids: U64, what: I64, slots: I64, first: I64, counts: I64) -> int:
    """How often each pair (ids[i], what[i]) occurs; the number g of different pairs.

    slots: int64[2^b] of zeros, more than there are pairs. first: int64[n], counts: int64[n], written up to g: the row at
    which a pair came first, in the order of these rows, and how often it came.
    """
    mask, groups = np.uint64(len(slots) - 1), 0
    for i in range(len(ids)):
        at = _slot(ids[i] ^ (np.uint64(what[i]) * np.uint64(0x9E3779B97F4A7C15)), mask)
        while slots[at] != 0:
            group = slots[at] - 1
            if ids[first[group]] == ids[i] and what[first[group]] == what[i]:
                counts[group] += 1
                break
            at = (at + np.uint64(1)) & mask
        else:
            first[groups], counts[groups] = i, 1
            groups += 1
            slots[at] = groups
    return groups
