"""The arrays of the cache and the arithmetic on them: an id table by open addressing, slots of rows, and the order in
which they came as a list that is linked through them. The caller holds the cache's lock.

Nearly all of a hit's time is waiting for memory, so the fields that it reads and writes are in as few lines of memory as can
be, one after the other, and the lines of the pins to come are on their way while a row is copied.
Which row is evicted is chosen as services/kernels/sieve.py says.
"""

from typing import Any, NamedTuple

import numpy as np

from scorpion.kernel import I32
from scorpion.memory import copy
from services.core.columns import F32, I64, U8, U32, U64, Array
from services.kernels.jit import kernel
from services.kernels.prefetch import prefetch_address
from services.kernels.sieve import EMPTY, HAND, NEWEST, OLDEST, link_newest, next_to_leave, unlink

#: How much `get` found of a pin: all of it; all but its counts are good; nothing.
HIT, EXPIRED, MISS = 0, 1, 2
#: Of Slots.state, after the words of services/kernels/sieve.py.
FREE, TAKEN, USED = range(len(EMPTY), len(EMPTY) + 3)
NEVER = -(1 << 62)
LINE = 64  # bytes of memory that come together
PLACES_AHEAD, ROWS_AHEAD = 16, 8  # pins whose places in the table are on their way, then pins whose rows are
NO_ROW = np.uint64(0xFFFFFFFFFFFFFFFF)


class Slots(NamedTuple):
    """Of `capacity` rows of `width` floats and `k` interests; the table has a power of two of places.

    From `counted` to `older` they are fields of the rows that `row` describes: views of one memory.
    """

    table: U64  # [table, 2] a pin and its slot; NO_ROW: no pin
    counted: I64  # [capacity] the moment of its counts, ms
    marked: U8  # [capacity] 1: read since the hand last came by
    wanted: U8  # [capacity] 1: new, or read since its counts were last found to be old
    until_s: U32  # [capacity] of an unsure row: the second from which it is no longer good; 0: the row is sure
    interests: U64  # [capacity, k]
    values: F32  # [capacity, width]
    pins: U64  # [capacity]
    newer: I32  # [capacity] the slot that was taken next; -1: none
    older: I32  # [capacity] the slot that was taken before; also the next free slot
    state: I64  # [6]


def row(width: int, interests: int) -> "np.dtype[np.void]":
    """A row: first the fields that a hit reads and writes, then the others; a whole number of lines of memory."""
    values_at = 16 + 8 * interests
    pin_at = -(-(values_at + 4 * width) // 8) * 8
    fields: list[tuple[str, Any, int]] = [
        ("counted", np.int64, 0), ("marked", np.uint8, 8), ("wanted", np.uint8, 9), ("until_s", np.uint32, 12),
        ("interests", (np.uint64, (interests,)), 16), ("values", (np.float32, (width,)), values_at),
        ("pins", np.uint64, pin_at), ("newer", np.int32, pin_at + 8), ("older", np.int32, pin_at + 12),
    ]  # fmt: skip
    names, formats, offsets = zip(*fields, strict=True)
    size = -(-(pin_at + 16) // LINE) * LINE
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})


def make(capacity: int, places: int, width: int, interests: int) -> Slots:
    """Empty slots. Memory is taken as rows come."""
    of = row(width, interests)
    memory = np.zeros(capacity * of.itemsize + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    rows: Array = memory[start : start + capacity * of.itemsize].view(of)
    assert of.names is not None
    fields: dict[str, Any] = {name: rows[name] for name in of.names}
    return Slots(
        table=np.full((places, 2), NO_ROW, np.uint64),
        state=np.array([*EMPTY, -1, 0, 0], np.int64),
        **fields,
    )


@kernel
def hashed(pin: int) -> Any:
    """uint64: the finalizer of splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    h = np.uint64(pin) + np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


@kernel
def _home(places: int, pin: int) -> Any:
    """int64: where a table of so many places has the pin if no other was there before it."""
    return np.int64(hashed(pin) & np.uint64(places - 1))


@kernel
def _place(table: U64, pin: int) -> Any:
    """int64: where the table has the pin, or the empty place where it would be."""
    mask, place = len(table) - 1, _home(len(table), pin)
    while table[place, 1] != NO_ROW and table[place, 0] != pin:
        place = (place + 1) & mask
    return place


@kernel
def _slot(table: U64, place: int) -> Any:
    """int64: the slot of a place; -1: it is empty."""
    return np.int64(table[place, 1])


@kernel
def _remove(slots: Slots, place: int) -> Any:
    """Take a pin out of the table and of the order; its slot. Pins behind it move up, so that no probe ends early."""
    slot, mask, hole, at = _slot(slots.table, place), len(slots.table) - 1, place, place
    unlink(slots.newer, slots.older, slots.state, slot)
    slots.state[USED] -= 1
    while True:
        at = (at + 1) & mask
        if slots.table[at, 1] == NO_ROW:
            break
        if ((at - _home(len(slots.table), slots.table[at, 0])) & mask) >= ((at - hole) & mask):
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
    return _remove(slots, _place(slots.table, slots.pins[slot]))


@kernel
def get(
    slots: Slots, pins: U64, now_ms: int, ttl_ms: int, early_ms: int, clock_s: int, certain: bool,
    values: F32, interests: U64, found: U8,
) -> None:  # fmt: skip
    """Copy out the row of each pin, and say in `found` how good it is; rows that are found are marked as read.

    Counts are good while their age is below ttl_ms and above -early_ms. clock_s: the second that it is now, for unsure rows;
    certain: take none of them. values: float32[n, width], interests: uint64[n, k], found: uint8[n] are written; of a MISS,
    NaN and 0.
    """
    n, width, most, at = len(pins), slots.values.shape[1], slots.interests.shape[1], np.empty(len(pins), np.int64)
    to, to_interests, stride = values.ctypes.data, interests.ctypes.data, slots.counted.strides[0]
    of_places, of_rows, of_values = slots.table.ctypes.data, slots.counted.ctypes.data, slots.values.ctypes.data
    of_interests, read = slots.interests.ctypes.data, of_values - of_rows + 4 * width
    for step in range(n + PLACES_AHEAD + ROWS_AHEAD):
        if step < n:
            prefetch_address(of_places + 16 * _home(len(slots.table), pins[step]))
        i = step - PLACES_AHEAD
        if 0 <= i < n:
            at[i] = _slot(slots.table, _place(slots.table, pins[i]))
            for line in range(0, read if at[i] >= 0 else 0, LINE):
                prefetch_address(of_rows + at[i] * stride + line)
        i -= ROWS_AHEAD
        if i < 0:
            continue
        slot, found[i] = at[i], MISS
        if slot >= 0:
            until_s = np.int64(slots.until_s[slot])
            gone = until_s > 0 and (certain or clock_s >= until_s)
            good = -early_ms < now_ms - slots.counted[slot] < ttl_ms
            found[i] = MISS if gone or (until_s > 0 and not good) else HIT if good else EXPIRED
        if found[i] == MISS:
            for j in range(width):
                values[i, j] = np.nan
            for j in range(most):
                interests[i, j] = 0
        else:
            copy(to + 4 * width * i, of_values + slot * stride, 4 * width)
            copy(to_interests + 8 * most * i, of_interests + slot * stride, 8 * most)
            slots.marked[slot] = slots.wanted[slot] = 1


@kernel
def put(
    slots: Slots, pins: U64, values: F32, interests: U64, counted_ms: int, sure: Any, clock_s: int, until_s: int
) -> None:
    """Keep rows; others are evicted. Those that are not sure (bool[n]) replace no good row, and are good until until_s."""
    for i in range(len(pins)):
        slot = _slot(slots.table, _place(slots.table, pins[i]))
        if slot >= 0 and not sure[i] and (slots.until_s[slot] == 0 or clock_s < np.int64(slots.until_s[slot])):
            continue
        if slot < 0:
            slot = _free_slot(slots)
            place = _place(slots.table, pins[i])  # an eviction may have moved the row that stood here
            slots.table[place, 0], slots.table[place, 1], slots.pins[slot] = pins[i], slot, pins[i]
            slots.marked[slot], slots.wanted[slot] = 0, 1
            slots.state[USED] += 1
            link_newest(slots.newer, slots.older, slots.state, slot)
        slots.values[slot] = values[i]
        slots.interests[slot] = interests[i]
        slots.counted[slot] = counted_ms
        slots.until_s[slot] = 0 if sure[i] else until_s


@kernel
def put_counts(slots: Slots, pins: U64, counts: F32, first: int, counted_ms: int) -> None:
    """Replace columns first.. of the rows of these pins, where they are still kept and sure."""
    for i in range(len(pins)):
        slot = _slot(slots.table, _place(slots.table, pins[i]))
        if slot >= 0 and slots.until_s[slot] == 0:
            for j in range(counts.shape[1]):
                slots.values[slot, first + j] = counts[i, j]
            slots.counted[slot] = counted_ms


@kernel
def due(slots: Slots, first: int, last: int, now_ms: int, age_ms: int) -> Any:
    """uint64[m]: of slots first..last - 1, the pins that are wanted and whose counts are of that age; each is said once,
    until it is read again.
    """
    last = min(last, slots.state[TAKEN])
    pins, n = np.empty(max(0, last - first), np.uint64), 0
    for slot in range(first, last):
        if slots.wanted[slot] == 1 and slots.until_s[slot] == 0 and now_ms - slots.counted[slot] >= age_ms:
            slots.wanted[slot] = 0
            pins[n] = slots.pins[slot]
            n += 1
    return pins[:n]


@kernel
def drop(slots: Slots, pins: U64) -> None:
    """Forget these pins."""
    for i in range(len(pins)):
        place = _place(slots.table, pins[i])
        if _slot(slots.table, place) >= 0:
            slot = _remove(slots, place)
            slots.wanted[slot] = 0
            slots.older[slot] = slots.state[FREE]
            slots.state[FREE] = slot


@kernel
def clear(slots: Slots) -> None:
    """Forget every pin."""
    slots.table[:] = NO_ROW
    slots.state[NEWEST] = slots.state[OLDEST] = slots.state[HAND] = slots.state[FREE] = -1
    slots.state[TAKEN] = slots.state[USED] = 0
