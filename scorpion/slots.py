"""The arrays of the cache and the arithmetic on them: an id table by open addressing, slots of rows, and the order in
which they came as a list that is linked through arrays. Whoever calls holds the cache's lock.
Who makes room is chosen as services/sieve.py says.
"""

from typing import Any, NamedTuple

import numpy as np

from scorpion.kernel import I32
from scorpion.memory import copy
from services.columns import F32, I64, U8, U64
from services.jit import kernel
from services.prefetch import prefetch
from services.sieve import EMPTY, HAND, NEWEST, OLDEST, link_newest, next_to_leave, unlink

#: What `get` found of a pin: all of it; all but its counts are good; nothing.
HIT, EXPIRED, MISS = 0, 1, 2
#: Of Slots.state, after the words of services/sieve.py.
FREE, TAKEN, USED = range(len(EMPTY), len(EMPTY) + 3)
TOUCHED = 1 << 16  # buckets that remember when a pin was last changed; two pins of one bucket cost a fetch, no more
NEVER = -(1 << 62)
TOGETHER = 32  # pins whose lines of memory are on their way at the same time
LINE = 64  # bytes of memory that come together
NO_ROW = np.uint64(0xFFFFFFFFFFFFFFFF)


class Slots(NamedTuple):
    """Of `capacity` rows of `width` floats and `k` interests; the table has a power of two of places."""

    table: U64  # [table, 2] a pin and its slot; NO_ROW: no pin
    pins: U64  # [capacity]
    newer: I32  # [capacity] the slot that was taken next; -1: none
    older: I32  # [capacity] the slot that was taken before; also the next free slot
    values: F32  # [capacity, width]
    interests: U64  # [capacity, k]
    counted: I64  # [capacity] the moment of its counts, ms
    unsure: U8  # [capacity] 1: fetched so soon after a change that it may not show it
    marked: U8  # [capacity] 1: read since the hand last came by
    wanted: U8  # [capacity] 1: new, or read since its counts were last found to be old
    touched: I64  # [TOUCHED] when a pin of the bucket was last changed, ms
    state: I64  # [6]


def make(capacity: int, places: int, width: int, interests: int) -> Slots:
    """Empty slots. Memory is taken as rows come."""
    return Slots(
        np.full((places, 2), NO_ROW, np.uint64),
        np.zeros(capacity, np.uint64),
        np.zeros(capacity, np.int32),
        np.zeros(capacity, np.int32),
        np.zeros((capacity, width), np.float32),
        np.zeros((capacity, interests), np.uint64),
        np.zeros(capacity, np.int64),
        np.zeros(capacity, np.uint8),
        np.zeros(capacity, np.uint8),
        np.zeros(capacity, np.uint8),
        np.full(TOUCHED, NEVER, np.int64),
        np.array([*EMPTY, -1, 0, 0], np.int64),
    )


@kernel
def hashed(pin: int) -> Any:
    """uint64: the finalizer of splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    h = np.uint64(pin) + np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


@kernel
def _home(slots: Slots, pin: int) -> Any:
    """int64: where the table has the pin if nobody was there before it."""
    return np.int64(hashed(pin) & np.uint64(len(slots.table) - 1))


@kernel
def _place(slots: Slots, pin: int) -> Any:
    """int64: where the table has the pin, or the empty place where it would be."""
    mask, place = len(slots.table) - 1, _home(slots, pin)
    while slots.table[place, 1] != NO_ROW and slots.table[place, 0] != pin:
        place = (place + 1) & mask
    return place


@kernel
def _slot(slots: Slots, place: int) -> Any:
    """int64: the slot of a place; -1: it is empty."""
    return np.int64(slots.table[place, 1])


@kernel
def _remove(slots: Slots, place: int) -> Any:
    """Take a pin out of the table and of the order; its slot. Pins behind it move up, so that no probe ends early."""
    slot, mask, hole, at = _slot(slots, place), len(slots.table) - 1, place, place
    unlink(slots.newer, slots.older, slots.state, slot)
    slots.state[USED] -= 1
    while True:
        at = (at + 1) & mask
        if slots.table[at, 1] == NO_ROW:
            break
        if ((at - _home(slots, slots.table[at, 0])) & mask) >= ((at - hole) & mask):
            slots.table[hole, 0], slots.table[hole, 1] = slots.table[at, 0], slots.table[at, 1]
            hole = at
    slots.table[hole, 1] = NO_ROW
    return slot


@kernel
def _free_slot(slots: Slots) -> Any:
    slot = slots.state[FREE]
    if slot >= 0:
        slots.state[FREE] = slots.older[slot]
        return slot
    if slots.state[TAKEN] < len(slots.pins):
        slots.state[TAKEN] += 1
        return slots.state[TAKEN] - 1
    slot = next_to_leave(slots.newer, slots.marked, slots.state)
    return _remove(slots, _place(slots, slots.pins[slot]))


@kernel
def get(
    slots: Slots, pins: U64, now_ms: int, ttl_ms: int, unsure_ms: int, early_ms: int, certain: bool,
    values: F32, interests: U64, found: U8,
) -> None:  # fmt: skip
    """Copy out what is known of each pin, and say in `found` how good it is; what is found is marked as read.

    Counts are good while their age is below ttl_ms (unsure_ms of an unsure row) and above -early_ms. certain: take no
    row that is unsure. values: float32[n, width], interests: uint64[n, k], found: uint8[n] are written; of a MISS,
    NaN and 0. A few pins at a time: first their places in the table are on their way from memory, then their rows.
    """
    at, table = np.empty(TOGETHER, np.int64), slots.table.reshape(slots.table.size)
    kept, kept_interests = slots.values.reshape(slots.values.size), slots.interests.reshape(slots.interests.size)
    width, most = slots.values.shape[1], slots.interests.shape[1]
    to, of, to_interests = values.ctypes.data, slots.values.ctypes.data, interests.ctypes.data
    of_interests = slots.interests.ctypes.data
    for first in range(0, len(pins), TOGETHER):
        n = min(TOGETHER, len(pins) - first)
        for i in range(n):
            prefetch(table, 2 * _home(slots, pins[first + i]))
        for i in range(n):
            at[i] = _slot(slots, _place(slots, pins[first + i]))
            if at[i] >= 0:
                for float_at in range(0, width + LINE // 4 - 1, LINE // 4):
                    prefetch(kept, at[i] * width + float_at)
                for id_at in range(0, most + LINE // 8 - 1, LINE // 8):
                    prefetch(kept_interests, at[i] * most + id_at)
        for i in range(n):
            slot, row = at[i], first + i
            found[row] = MISS
            if slot >= 0:
                found[row] = _goodness(slots, slot, now_ms, ttl_ms, unsure_ms, early_ms, certain)
            if found[row] == MISS:
                values[row] = np.nan
                interests[row] = 0
            else:
                copy(to + 4 * width * row, of + 4 * width * slot, 4 * width)
                copy(to_interests + 8 * most * row, of_interests + 8 * most * slot, 8 * most)
                slots.marked[slot] = slots.wanted[slot] = 1


@kernel
def _goodness(
    slots: Slots, slot: int, now_ms: int, ttl_ms: int, unsure_ms: int, early_ms: int, certain: bool
) -> int:  # fmt: skip
    unsure = slots.unsure[slot] == 1
    age = now_ms - slots.counted[slot]
    good = -early_ms < age < (min(ttl_ms, unsure_ms) if unsure else ttl_ms)
    if unsure and (certain or not good):
        return MISS
    return HIT if good else EXPIRED


@kernel
def put(
    slots: Slots, pins: U64, values: F32, interests: U64, counted_ms: int, began_ms: int, now_ms: int, unsure_ms: int
) -> None:
    """Keep the rows that were asked for at began_ms, but those of pins that changed since; others make room.

    A row asked for within unsure_ms after a change is unsure: the one who answered may not have known of the change.
    """
    for i in range(len(pins)):
        changed = slots.touched[np.int64(hashed(pins[i]) & np.uint64(TOUCHED - 1))]
        if changed >= began_ms:
            continue
        slot = _slot(slots, _place(slots, pins[i]))
        if slot < 0:
            slot = _free_slot(slots)
            place = _place(slots, pins[i])  # making room may have moved what stood here
            slots.table[place, 0], slots.table[place, 1], slots.pins[slot] = pins[i], slot, pins[i]
            slots.marked[slot], slots.wanted[slot] = 0, 1
            slots.state[USED] += 1
            link_newest(slots.newer, slots.older, slots.state, slot)
        slots.values[slot] = values[i]
        slots.interests[slot] = interests[i]
        slots.counted[slot] = counted_ms
        slots.unsure[slot] = 1 if changed > NEVER and began_ms - changed < unsure_ms else 0


@kernel
def put_counts(slots: Slots, pins: U64, counts: F32, first: int, counted_ms: int) -> None:
    """Replace columns first.. of the rows of these pins, where they are still kept."""
    for i in range(len(pins)):
        slot = _slot(slots, _place(slots, pins[i]))
        if slot >= 0:
            for j in range(counts.shape[1]):
                slots.values[slot, first + j] = counts[i, j]
            slots.counted[slot] = counted_ms


@kernel
def due(slots: Slots, now_ms: int, age_ms: int) -> Any:
    """uint64[m]: the pins that are wanted and whose counts are of that age; each is said once, until it is read again."""
    pins, n = np.empty(slots.state[USED], np.uint64), 0
    for slot in range(slots.state[TAKEN]):
        if slots.wanted[slot] == 1 and slots.unsure[slot] == 0 and now_ms - slots.counted[slot] >= age_ms:
            slots.wanted[slot] = 0
            pins[n] = slots.pins[slot]
            n += 1
    return pins[:n]


@kernel
def drop(slots: Slots, pins: U64, now_ms: int) -> None:
    """Forget these pins, and remember that they changed now."""
    for i in range(len(pins)):
        slots.touched[np.int64(hashed(pins[i]) & np.uint64(TOUCHED - 1))] = now_ms
        place = _place(slots, pins[i])
        if _slot(slots, place) >= 0:
            slot = _remove(slots, place)
            slots.wanted[slot] = 0
            slots.older[slot] = slots.state[FREE]
            slots.state[FREE] = slot


@kernel
def clear(slots: Slots, now_ms: int) -> None:
    """Forget every pin; any may have changed now."""
    slots.table[:] = NO_ROW
    slots.touched[:] = now_ms
    slots.state[NEWEST] = slots.state[OLDEST] = slots.state[HAND] = slots.state[FREE] = -1
    slots.state[TAKEN] = slots.state[USED] = 0
