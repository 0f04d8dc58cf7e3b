"""The arrays of the cache and the arithmetic on them: an id table by open addressing, slots of rows, and their order of
use as a list that is linked through arrays. Whoever calls holds the cache's lock.
"""

from typing import Any, NamedTuple

import numpy as np

from scorpion.kernel import I32
from services.columns import F32, I64, U8, U64
from services.jit import kernel

#: What `get` found of a pin: all of it; all but its counts are good; nothing.
HIT, EXPIRED, MISS = 0, 1, 2
#: Of Slots.state.
NEWEST, OLDEST, FREE, TAKEN, USED = range(5)
TOUCHED = 1 << 16  # buckets that remember when a pin was last changed; two pins of one bucket cost a fetch, no more
NEVER = -(1 << 62)


class Slots(NamedTuple):
    """Of `capacity` rows of `width` floats and `k` interests; the table has a power of two of places."""

    keys: U64  # [table] pin
    at: I32  # [table] its slot; -1: no pin
    pins: U64  # [capacity]
    newer: I32  # [capacity] the slot used next after this; -1: none
    older: I32  # [capacity] the slot used last before this; also the next free slot
    values: F32  # [capacity, width]
    interests: U64  # [capacity, k]
    counted: I64  # [capacity] the moment of its counts, ms
    unsure: U8  # [capacity] 1: fetched so soon after a change that it may not show it
    touched: I64  # [TOUCHED] when a pin of the bucket was last changed, ms
    state: I64  # [5]


def make(capacity: int, places: int, width: int, interests: int) -> Slots:
    """Empty slots. Memory is taken as rows come."""
    return Slots(
        np.zeros(places, np.uint64),
        np.full(places, -1, np.int32),
        np.zeros(capacity, np.uint64),
        np.zeros(capacity, np.int32),
        np.zeros(capacity, np.int32),
        np.zeros((capacity, width), np.float32),
        np.zeros((capacity, interests), np.uint64),
        np.zeros(capacity, np.int64),
        np.zeros(capacity, np.uint8),
        np.full(TOUCHED, NEVER, np.int64),
        np.array([-1, -1, -1, 0, 0], np.int64),
    )


@kernel
def hashed(pin: int) -> Any:
    """uint64: the finalizer of splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    h = np.uint64(pin) + np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


@kernel
def _place(slots: Slots, pin: int) -> Any:
    """int64: where the table has the pin, or the empty place where it would be."""
    mask = len(slots.at) - 1
    place = np.int64(hashed(pin) & np.uint64(mask))
    while slots.at[place] >= 0 and slots.keys[place] != pin:
        place = (place + 1) & mask
    return place


@kernel
def _unlink(slots: Slots, slot: int) -> None:
    newer, older = slots.newer[slot], slots.older[slot]
    if newer >= 0:
        slots.older[newer] = older
    else:
        slots.state[NEWEST] = older
    if older >= 0:
        slots.newer[older] = newer
    else:
        slots.state[OLDEST] = newer


@kernel
def _link_newest(slots: Slots, slot: int) -> None:
    newest = slots.state[NEWEST]
    slots.newer[slot], slots.older[slot] = -1, newest
    if newest >= 0:
        slots.newer[newest] = slot
    else:
        slots.state[OLDEST] = slot
    slots.state[NEWEST] = slot


@kernel
def _remove(slots: Slots, place: int) -> Any:
    """Take a pin out of the table and of the order; its slot. Pins behind it move up, so that no probe ends early."""
    slot, mask, hole, at = slots.at[place], len(slots.at) - 1, place, place
    _unlink(slots, slot)
    slots.state[USED] -= 1
    while True:
        at = (at + 1) & mask
        if slots.at[at] < 0:
            break
        home = np.int64(hashed(slots.keys[at]) & np.uint64(mask))
        if ((at - home) & mask) >= ((at - hole) & mask):
            slots.keys[hole], slots.at[hole] = slots.keys[at], slots.at[at]
            hole = at
    slots.at[hole] = -1
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
    return _remove(slots, _place(slots, slots.pins[slots.state[OLDEST]]))


@kernel
def get(
    slots: Slots, pins: U64, now_ms: int, ttl_ms: int, unsure_ms: int, early_ms: int, certain: bool,
    values: F32, interests: U64, found: U8,
) -> None:  # fmt: skip
    """Copy out what is known of each pin, and say in `found` how good it is; what is found becomes the newest used.

    Counts are good while their age is below ttl_ms (unsure_ms of an unsure row) and above -early_ms. certain: take no
    row that is unsure. values: float32[n, width], interests: uint64[n, k], found: uint8[n] are written.
    """
    for i in range(len(pins)):
        place = _place(slots, pins[i])
        slot = slots.at[place]
        found[i] = MISS
        if slot < 0:
            continue
        unsure = slots.unsure[slot] == 1
        age = now_ms - slots.counted[slot]
        good = -early_ms < age < (min(ttl_ms, unsure_ms) if unsure else ttl_ms)
        if unsure and (certain or not good):
            continue
        found[i] = HIT if good else EXPIRED
        for j in range(values.shape[1]):
            values[i, j] = slots.values[slot, j]
        for j in range(interests.shape[1]):
            interests[i, j] = slots.interests[slot, j]
        if slots.state[NEWEST] != slot:
            _unlink(slots, slot)
            _link_newest(slots, slot)


@kernel
def put(
    slots: Slots, pins: U64, values: F32, interests: U64, counted_ms: int, began_ms: int, now_ms: int, unsure_ms: int
) -> None:
    """Keep the rows that were asked for at began_ms, but those of pins that changed since; the oldest used make room.

    A row asked for within unsure_ms after a change is unsure: the one who answered may not have known of the change.
    """
    for i in range(len(pins)):
        changed = slots.touched[np.int64(hashed(pins[i]) & np.uint64(TOUCHED - 1))]
        if changed >= began_ms:
            continue
        place = _place(slots, pins[i])
        slot = slots.at[place]
        if slot >= 0:
            _unlink(slots, slot)
        else:
            slot = _free_slot(slots)
            place = _place(slots, pins[i])  # making room may have moved what stood here
            slots.keys[place], slots.at[place], slots.pins[slot] = pins[i], slot, pins[i]
            slots.state[USED] += 1
        _link_newest(slots, slot)
        slots.values[slot] = values[i]
        slots.interests[slot] = interests[i]
        slots.counted[slot] = counted_ms
        slots.unsure[slot] = 1 if changed > NEVER and began_ms - changed < unsure_ms else 0


@kernel
def put_counts(slots: Slots, pins: U64, counts: F32, first: int, counted_ms: int) -> None:
    """Replace columns first.. of the rows of these pins, where they are still kept."""
    for i in range(len(pins)):
        slot = slots.at[_place(slots, pins[i])]
        if slot >= 0:
            for j in range(counts.shape[1]):
                slots.values[slot, first + j] = counts[i, j]
            slots.counted[slot] = counted_ms


@kernel
def drop(slots: Slots, pins: U64, now_ms: int) -> None:
    """Forget these pins, and remember that they changed now."""
    for i in range(len(pins)):
        slots.touched[np.int64(hashed(pins[i]) & np.uint64(TOUCHED - 1))] = now_ms
        place = _place(slots, pins[i])
        if slots.at[place] >= 0:
            slot = _remove(slots, place)
            slots.older[slot] = slots.state[FREE]
            slots.state[FREE] = slot


@kernel
def clear(slots: Slots, now_ms: int) -> None:
    """Forget every pin; any may have changed now."""
    slots.at[:] = -1
    slots.touched[:] = now_ms
    slots.state[NEWEST] = slots.state[OLDEST] = slots.state[FREE] = -1
    slots.state[TAKEN] = slots.state[USED] = 0
