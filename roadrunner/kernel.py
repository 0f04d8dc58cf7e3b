"""Arithmetic of the ingest API and of the aggregator.

Recent event ids are an exact set, as an open-addressing table: linear probing, keys and minutes in parallel arrays.
Id 0 marks an empty slot; it is not an id. An id that is older than the window counts as absent, and its slot is reused
when the table is next rebuilt. Sums of increments use a table of the same kind, made for each chunk.

Columns are those of a batch (`services/core/events.py`); one that was not stated is an empty array.
"""

import numpy as np
from numpy.typing import NDArray

from services.core.columns import F32, I64, U8, U32, U64, Array
from services.kernels.jit import kernel
from services.kernels.partition import partition_of_key

I32 = NDArray[np.int32]


@kernel
def _slot(key: np.uint64, mask: np.uint64) -> np.uint64:
    key = (key ^ (key >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)  # murmur3's finaliser: ids may be sequential
    return (key ^ (key >> np.uint64(29))) & mask


@kernel
def numbered(a: U64, b: U64) -> tuple[I64, U64]:
    """Number the different pairs (a[i], b[i]) from 0 as they come.

    Returns the first row of each pair, int64[pairs], and the number of each row's, uint64[n].
    """
    size = 2
    while size < 2 * len(a):
        size *= 2
    slots, mask, pairs = np.zeros(size, np.int32), np.uint64(size - 1), 0
    first, number = np.empty(len(a), np.int64), np.empty(len(a), np.uint64)
    for i in range(len(a)):
        at = _slot(a[i] ^ b[i] * np.uint64(0x9E3779B97F4A7C15), mask)
        while slots[at] != 0:
            row = first[slots[at] - 1]
            if a[row] == a[i] and b[row] == b[i]:
                break
            at = (at + np.uint64(1)) & mask
        if slots[at] == 0:
            first[pairs] = i
            pairs += 1
            slots[at] = pairs
        number[i] = slots[at] - 1
    return first[:pairs].copy(), number


@kernel
def add_new(keys: U64, minutes: U32, ids: U64, minute: int, oldest: int, fresh: Array) -> int:
    """Add `ids`; fresh[i] says whether ids[i] was absent or older than minute `oldest`. The slots newly used.

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


# --- the ingest API -------------------------------------------------------------------------------------------------

#: The columns that an action needs, as bits; that it goes to every partition of a topic; and that it is one.
USER, PIN, BOARD, TARGET, FANS_OUT, KNOWN = 1, 2, 4, 8, 16, 128


@kernel
def _lacks(column: U64, row: int) -> bool:
    return len(column) == 0 or column[row] == 0


@kernel
def _reaches(column: U64, row: int, reserved: np.uint64) -> bool:
    return len(column) > 0 and column[row] >= reserved


@kernel
def allowed(
    earliest: int,
    latest: int,
    reserved: np.uint64,
    most_everywhere: int,
    needs: U8,
    action: U8,
    user: U64,
    pin: U64,
    board: U64,
    target: U64,
    id: U64,
    at_ms: I64,
    quality: F32,
) -> bool:
    """Whether every row is one that `services.core.events.validate` lets pass, its runs apart. needs: uint8[256], bits.

    reserved: the first id that this writer may not name. most_everywhere: rows that go to every partition of a topic.
    """
    everywhere = 0
    for i in range(len(action)):
        need = needs[action[i]]
        everywhere += need & FANS_OUT != 0
        named = _reaches(user, i, reserved) or _reaches(pin, i, reserved)
        if named or _reaches(board, i, reserved) or _reaches(target, i, reserved):
            return False
        if not need & KNOWN or _lacks(id, i) or len(at_ms) == 0 or not earliest <= at_ms[i] <= latest:
            return False
        if (need & USER and _lacks(user, i)) or (need & PIN and _lacks(pin, i)):
            return False
        if (need & BOARD and _lacks(board, i)) or (need & TARGET and _lacks(target, i)):
            return False
        if len(quality) and (quality[i] < 0 or quality[i] > 1):
            return False
    return everywhere <= most_everywhere


@kernel
def runs_allowed(ends: U32, values: int, most: int) -> bool:
    """Whether uint32[n] ends never fall, end with `values`, and no run is longer than `most`."""
    before = np.int64(0)
    for end in ends:
        if end < before or end - before > most:
            return False
        before = np.int64(end)
    return bool(before == values)


USERS, SOURCES, OBJECTS, FEEDS = 0, 1, 2, 3  # of services.core.topics.Topic
#: Ways of an action to a topic by the key of a column, each a bit of `goes`: the topic, and the column among `keys`.
TOPIC_OF = (USERS, SOURCES, SOURCES, OBJECTS, OBJECTS, OBJECTS, OBJECTS, FEEDS)
KEY_OF = (0, 2, 3, 0, 1, 2, 3, 0)
BY_INTEREST = 1 << 8  # to SOURCES by each interest that the row states, as one that its pin joins
EVERYWHERE = 1 << 9  # to every partition of a topic: this bit, moved by the topic


@kernel
def _place(at: int, row: int, join: np.uint64, ends: I64, rows: I64, joins: U64) -> None:
    if len(rows):
        rows[ends[at]], joins[ends[at]] = row, join
    ends[at] += 1


@kernel
def route(
    goes: Array,
    partitions: int,
    chosen: I64,
    action: U8,
    keys: tuple[U64, U64, U64, U64],
    interest_ends: U32,
    interests: U64,
    ends: I64,
    rows: I64,
    joins: U64,
) -> None:
    """Place the chosen rows at every topic and partition where they belong, in order; `services.core.topics.split` is the rule.

    goes: uint16[256], bits by action. chosen: int64[m], rows of the columns. keys: user, pin, board, target.
    ends: int64[topics * partitions], by topic * partitions + partition: where the next row of each goes, counted up.
    rows: int64[], joins: uint64[]: empty, then rows are only counted; or with room for them: the row, and the interest
    that its pin joins if that is why it is there, else 0.
    """
    for i in chosen:
        to = goes[action[i]]
        for way in range(len(TOPIC_OF)):
            if to >> way & 1:
                at = TOPIC_OF[way] * partitions + partition_of_key(keys[KEY_OF[way]][i], partitions)
                _place(at, i, np.uint64(0), ends, rows, joins)
        if to & BY_INTEREST and len(interest_ends):
            for j in range(interest_ends[i - 1] if i else 0, interest_ends[i]):
                at = SOURCES * partitions + partition_of_key(interests[j], partitions)
                _place(at, i, interests[j], ends, rows, joins)
        for topic in range(4 if to >= EVERYWHERE else 0):
            if to & EVERYWHERE << topic:
                for partition in range(partitions):
                    _place(topic * partitions + partition, i, np.uint64(0), ends, rows, joins)


@kernel
def met(publish: I64, starts: I64, rows: I64, out: Array) -> None:
    """Which publishes have rows in which places: out[publish, place] is set.

    publish: int64[n], of each row of the columns. starts: int64[places + 1]: the rows of a place, as `route` put them.
    """
    for at in range(len(starts) - 1):
        for i in range(starts[at], starts[at + 1]):
            out[publish[rows[i]], at] = True


@kernel
def take_runs(ends: U32, values: Array, rows: I64, bare: Array, out_ends: U32, out: Array) -> int:
    """The runs of the rows, back to back; those of rows that are bare (bool[n]) are empty. How many values they are.

    out: empty, then only the ends are written.
    """
    n = 0
    for i in range(len(rows)):
        row = rows[i]
        if not bare[i]:
            start = np.int64(ends[row - 1]) if row else np.int64(0)
            length = int(ends[row]) - int(start)
            if len(out):
                out[n : n + length] = values[start : start + length]
            n += length
        out_ends[i] = n
    return n


# --- the aggregator -------------------------------------------------------------------------------------------------

ENGAGES, STATES, JOINS, LEAVES = (
    1,
    2,
    3,
    4,
)  # the effect of an action on counts, or on the interests of its pin; 0: none


@kernel
def reserve_interests(does: U8, action: U8, pin_of: I64, interest_ends: U32, lengths: I64, starts: I64) -> int:
    """Lay out the interests of pins with space for those that may join; the most increments that the rows can make.

    lengths: int64[m], of each pin now. starts: int64[m + 1], written: where each pin's begin.
    """
    starts[0] = 0
    starts[1:] = lengths
    for i in range(len(action)):
        what = does[action[i]]
        if what == JOINS:
            starts[pin_of[i] + 1] += 1
        elif what == STATES and len(interest_ends):
            starts[pin_of[i] + 1] += np.int64(interest_ends[i]) - (np.int64(interest_ends[i - 1]) if i else 0)
    most = 0
    for i in range(len(action)):
        if does[action[i]] == ENGAGES:
            most += 3 + starts[pin_of[i] + 1]
    for p in range(len(lengths)):
        starts[p + 1] += starts[p]
    return most


@kernel
def lay_out(stored: U64, lengths: I64, starts: I64, held: U64) -> None:
    """Copy the interests of pins, back to back in `stored`, to where `reserve_interests` placed each pin's."""
    at = 0
    for p in range(len(lengths)):
        held[starts[p] : starts[p] + lengths[p]] = stored[at : at + lengths[p]]
        at += lengths[p]


@kernel
def _join(interest: np.uint64, held: U64, start: int, length: int, most: int) -> int:
    for at in range(start, start + length):
        if held[at] == interest:
            return length
    if length >= most:
        return length
    held[start + length] = interest
    return length + 1


@kernel
def _leave(interest: np.uint64, held: U64, start: int, length: int) -> int:
    for at in range(start, start + length):
        if held[at] == interest:
            for behind in range(at + 1, start + length):
                held[behind - 1] = held[behind]
            return length - 1
    return length


@kernel
def _add(object_: np.uint64, what: int, slots: I32, objects: U64, whats: I64, counts: U32, groups: int) -> int:
    mask = np.uint64(len(slots) - 1)
    at = _slot(object_ ^ (np.uint64(what) * np.uint64(0x9E3779B97F4A7C15)), mask)
    while slots[at] != 0:
        group = slots[at] - 1
        if objects[group] == object_ and whats[group] == what:
            counts[group] += 1
            return groups
        at = (at + np.uint64(1)) & mask
    objects[groups], whats[groups], counts[groups] = object_, what, 1
    slots[at] = groups + 1
    return groups + 1


KIND_PIN, KIND_BOARD, KIND_USER, KIND_INTEREST = 1, 2, 3, 4  # of services.core.events.Kind
HOUR_MS = 3_600_000


@kernel
def increments(
    does: U8,
    action: U8,
    user: U64,
    pin: U64,
    board: U64,
    target: U64,
    at_ms: I64,
    interest_ends: U32,
    interests: U64,
    pin_of: I64,
    held: U64,
    starts: I64,
    lengths: I64,
    changed: Array,
    most: int,
    slots: I32,
    objects: U64,
    whats: I64,
    counts: U32,
) -> int:
    """Walk through rows in order and sum what they add, also to the interests their pins are in at that moment.

    held: uint64[]: the interests of pin p are held[starts[p] : starts[p] + lengths[p]], with room for what joins;
    changed in place, with lengths, and changed: bool[m] of the pins. To join what is joined, or beyond `most`, or to
    leave what is not joined does nothing. slots: int32[2^b] of zeros, more than there are increments. The number g of
    different sums; of each: objects, whats = hour << 16 | kind << 8 | action, and counts.
    """
    groups = 0
    for i in range(len(action)):
        p = pin_of[i]
        if p < 0:
            continue
        what = does[action[i]]
        if what == ENGAGES:
            done = at_ms[i] // HOUR_MS << 16 | np.int64(action[i])
            groups = _add(pin[i], done | KIND_PIN << 8, slots, objects, whats, counts, groups)
            if len(board) and board[i] != 0:
                groups = _add(board[i], done | KIND_BOARD << 8, slots, objects, whats, counts, groups)
            groups = _add(user[i], done | KIND_USER << 8, slots, objects, whats, counts, groups)
            for at in range(starts[p], starts[p] + lengths[p]):
                groups = _add(held[at], done | KIND_INTEREST << 8, slots, objects, whats, counts, groups)
            continue
        if what == STATES and len(interest_ends):
            for j in range(interest_ends[i - 1] if i else 0, interest_ends[i]):
                lengths[p] = _join(interests[j], held, starts[p], lengths[p], most)
        elif what == JOINS:
            lengths[p] = _join(target[i], held, starts[p], lengths[p], most)
        elif what == LEAVES:
            lengths[p] = _leave(target[i], held, starts[p], lengths[p])
        changed[p] = True
    return groups


@kernel
def by_partition(
    objects: U64, whats: I64, counts: U32, starts: I64, action: U8, kind: U8, target: U64, at_ms: I64, count: U32
) -> None:
    """Sums as columns of COUNTS, those of a partition together.

    starts: int64[partitions + 1] of zeros, written: where each partition's begin. The columns have the length of objects.
    """
    partitions = len(starts) - 1
    of = np.empty(len(objects), np.int32)
    for i in range(len(objects)):
        of[i] = partition_of_key(objects[i], partitions)
        starts[of[i] + 1] += 1
    for p in range(partitions):
        starts[p + 1] += starts[p]
    ends = starts[:-1].copy()
    for i in range(len(objects)):
        at = ends[of[i]]
        ends[of[i]] += 1
        action[at], kind[at] = whats[i] & 0xFF, whats[i] >> 8 & 0xFF
        target[at], at_ms[at], count[at] = objects[i], (whats[i] >> 16) * HOUR_MS, counts[i]
