"""Bytes on disk of aperture. All keys begin with the partition (u2), all integers in keys are big-endian.

| family  | key                                           | value                                              |
|---------|-----------------------------------------------|----------------------------------------------------|
| days    | partition, user u8, day u4, kind u1, sequence u8 | rows of that user and day, as columns           |
| pending | partition, day u4, user u8                    | u4: recent keys written since this day was frozen  |

A day counts from 1970-01-01, UTC. A value of `days` is n rows as columns back to back: pin u8[n], board u8[n],
at_ms i8[n], action u1[n], surface u1[n], ascending by at_ms, equals in order of arrival.

kind RECENT: the rows of one applied chunk; its sequence is the log offset of the first record they came from, so no
two chunks share a key and keys ascend in order of arrival. kind FROZEN: recent keys, merged; its
sequence is that of its first, and there is more than one only in a day of over SEGMENT_BYTES.

Recent and frozen rows share one family because an iterator is a consistent state of one family only: whatever a
freeze moves meanwhile, one scan sees each row once. The day stands before the kind so that one range of keys is a span
of time, and the frozen key of a day, which lives, before the recent ones, which leave tombstones: a scan that ends at
the next user's first key passes no tombstones but its own. `pending` says what there is to freeze, oldest day first,
without a scan of `days`, after a restart too.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from services.core.clock import DAY_MS
from services.core.columns import I64, U8, U32, U64, Array
from services.kernels.bloom import read_only
from services.kernels.jit import kernel
from services.state.stored import check_key, check_rows, check_size, ends_of, refuse

FORMAT = "aperture 1"
FAMILIES = ("days", "pending")

FROZEN, RECENT = 0, 1  # kinds of keys in `days`
SEGMENT_BYTES = 64 << 10  # a frozen value that is larger is not merged into again
LAST_DAY = 2**32 - 2
LAST_MS = LAST_DAY * DAY_MS

_USER_DAY = struct.Struct(">HQI")
_PENDING = struct.Struct(">HIQ")
_KEY = np.dtype([("partition", ">u2"), ("user", ">u8"), ("day", ">u4"), ("kind", "u1"), ("sequence", ">u8")])
_PENDING_KEY = np.dtype([("partition", ">u2"), ("day", ">u4"), ("user", ">u8")])
_KIND_AT = _USER_DAY.size
_NO_COUNT = bytes(4)
_NEWEST = struct.Struct("<q")
NEWEST_KEY = b"newest"  # without a family: when the newest record that was applied had been accepted
_STORE = "aperture"
WIDTHS = np.array([8, 8, 8, 1, 1])  # bytes of each column of EventRows
WIDTHS.flags.writeable = False
ROW_BYTES = int(WIDTHS.sum())


@dataclass(frozen=True, slots=True, eq=False)
class EventRows:
    """n events of one or more users, as columns."""

    pins: U64
    boards: U64
    at_ms: I64
    actions: U8
    surfaces: U8

    def __len__(self) -> int:
        return len(self.pins)

    def take(self, at: Array) -> "EventRows":
        """The rows at int[m] positions or a bool[n] mask."""
        if at.dtype == bool and at.all():
            return self
        return EventRows(*(column[at] for column in self.columns()))

    def columns(self) -> list[Any]:
        """The columns in the order of their bytes."""
        return [getattr(self, field.name) for field in fields(self)]

    @staticmethod
    def concat(parts: "Sequence[EventRows]") -> "EventRows":
        """All rows of all parts, in order."""
        if len(parts) == 1:
            return parts[0]
        return EventRows(*(np.concatenate(columns) for columns in zip(*(p.columns() for p in parts), strict=True)))


def day_key(partition: int, user: int, day: int) -> bytes:
    """The prefix of the keys of a user and day; also the bound before them, and after those of the day before."""
    return _USER_DAY.pack(partition, user, day)


def day_end(prefix: bytes) -> bytes:
    """The bound after all keys with this `day_key`."""
    return prefix + b"\xff" * (_KEY.itemsize - _KIND_AT)


def user_end(partition: int, user: int) -> bytes:
    """The bound after all keys of a user."""
    return day_end(_USER_DAY.pack(partition, user, 2**32 - 1))


def day_of(key: bytes) -> tuple[int, int, int]:
    """(partition, user, day) of a key of `days`. Raises Damaged for another key."""
    check_key(_STORE, "days", key, _KEY.itemsize)
    partition, user, day = _USER_DAY.unpack_from(key)
    return partition, user, day


def prefix_of(key: bytes) -> bytes:
    """The `day_key` of a key of `days`."""
    return key[:_KIND_AT]


def is_frozen(key: bytes) -> bool:
    """Whether this key of `days` holds frozen rows."""
    return key[_KIND_AT] == FROZEN


def frozen_key(recent: bytes) -> bytes:
    """The frozen key that rows move to whose first recent key this is."""
    return recent[:_KIND_AT] + bytes([FROZEN]) + recent[_KIND_AT + 1 :]


def recent_keys(partitions: Array, users: U64, days: I64, sequences: I64) -> list[bytes]:
    """Keys of recent rows, one each."""
    keys = np.empty(len(users), _KEY)
    keys["partition"], keys["user"], keys["day"], keys["sequence"] = partitions, users, days, sequences
    keys["kind"] = RECENT
    return _cut(keys.tobytes(), _KEY.itemsize)


def pending_key(partition: int, day: int, user: int) -> bytes:
    """Key of `pending`; with user 0 the bound before those of a day."""
    return _PENDING.pack(partition, day, user)


def pending_keys(partitions: Array, days: I64, users: U64) -> list[bytes]:
    """Keys of `pending`, one each."""
    keys = np.empty(len(users), _PENDING_KEY)
    keys["partition"], keys["day"], keys["user"] = partitions, days, users
    return _cut(keys.tobytes(), _PENDING_KEY.itemsize)


def pending_of(key: bytes) -> tuple[int, int, int]:
    """(partition, day, user) of a key of `pending`. Raises Damaged for another key."""
    check_key(_STORE, "pending", key, _PENDING.size)
    partition, day, user = _PENDING.unpack(key)
    return partition, day, user


def counts_of(keys: Sequence[bytes], values: Sequence[bytes | None]) -> U32:
    """uint32[n]: the recent keys that each value of `pending` counts; 0 for none. Raises Damaged for another length."""
    data = b"".join(value or _NO_COUNT for value in values)
    if len(data) != 4 * len(values) or any(value is not None and len(value) != 4 for value in values):
        for key, value in zip(keys, values, strict=True):
            check_size(_STORE, "pending", key, value if value is not None else _NO_COUNT, 4)
    return np.frombuffer(data, "<u4")


def count_values(counts: U32) -> list[bytes]:
    """The value of each count."""
    return _cut(counts.astype("<u4").tobytes(), 4)


def _cut(data: bytes, width: int) -> list[bytes]:
    return [data[start : start + width] for start in range(0, len(data), width)]


def rows_in(value: bytes) -> int:
    """How many rows a value of `days` holds."""
    return len(value) // ROW_BYTES


def pack(rows: EventRows, ends: I64) -> list[bytes]:
    """Values of `days`: that of run i holds the rows up to ends[i] (int64[values])."""
    whole = np.frombuffer(b"".join(column.tobytes() for column in rows.columns()), np.uint8)
    ends = ends * ROW_BYTES
    out = np.empty(len(whole), np.uint8)
    _transpose(whole, read_only(ends, np.int64), WIDTHS, out, False)
    data, stops = out.tobytes(), ends.tolist()
    return [data[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]


def unpack(keys: Sequence[bytes], values: Sequence[bytes]) -> EventRows:
    """The rows of all values, in order. Raises Damaged for a value that is not whole rows."""
    _, ends = ends_of(_STORE, "days", keys, values, ROW_BYTES)
    data = np.frombuffer(b"".join(values), np.uint8)
    if len(values) > 1:
        out = np.empty(len(data), np.uint8)
        ends = ends * ROW_BYTES
        ends.flags.writeable = False  # as `pack` has it: a kernel is compiled for one kind of array
        _transpose(data, ends, WIDTHS, out, True)
        data = out
    n = len(data) // ROW_BYTES
    pins, boards, at_ms = (data[8 * n * i : 8 * n * (i + 1)] for i in range(3))
    return EventRows(
        pins.view(np.uint64), boards.view(np.uint64), at_ms.view(np.int64), data[24 * n : 25 * n], data[25 * n :]
    )


def pins_of(keys: Sequence[bytes], values: Sequence[bytes]) -> U64:
    """The pins alone of the rows of all values, in order: a third of the bytes, and no more is read than those.

    Raises Damaged for a value that is not whole rows.
    """
    sizes = [len(value) for value in values]
    if any(size % ROW_BYTES for size in sizes):
        ends_of(_STORE, "days", keys, values, ROW_BYTES)  # which names it
    pins = [value[: size // ROW_BYTES * 8] for value, size in zip(values, sizes, strict=True)]
    return np.frombuffer(b"".join(pins), np.uint64)


def check(family: str, key: bytes, value: bytes) -> None:
    """Raise Damaged for a value that the store can't have written."""
    if family == "pending":
        pending_of(key)
        check_size(_STORE, family, key, value, 4)
        return
    _, _, day = day_of(key)
    if key[_KIND_AT] not in (FROZEN, RECENT):
        refuse(_STORE, family, key, f"its kind is {key[_KIND_AT]}, expected {FROZEN} or {RECENT}")
    check_rows(_STORE, family, key, value, ROW_BYTES)
    at_ms = unpack([key], [value]).at_ms
    if len(at_ms) and (
        (at_ms[1:] < at_ms[:-1]).any() or not day * DAY_MS <= at_ms[0] <= at_ms[-1] < (day + 1) * DAY_MS
    ):
        refuse(_STORE, family, key, f"its rows do not ascend within day {day}")


@kernel
def _transpose(data: U8, ends: I64, widths: I64, out: U8, joining: bool) -> None:
    """Copy rows between values back to back that end at `ends` (bytes), each with its own columns, and the columns of all
    rows: from values `data` to columns `out` when joining, else from columns `data` to values `out`.
    """
    row_bytes = widths.sum()
    start, row, rows = 0, 0, len(data) // row_bytes
    for end in ends:
        n = (end - start) // row_bytes
        column = 0
        for width in widths:
            size, at = n * width, column + row * width
            if joining:
                _copy(data[start : start + size], out[at : at + size])
            else:
                _copy(data[at : at + size], out[start : start + size])
            start += size
            column += rows * width
        row += n


@kernel
def _copy(data: U8, out: U8) -> None:
    """Many bytes at a time; numba's own copy of a slice takes them one by one."""
    for i in range(len(data)):
        out[i] = data[i]


def warm() -> None:
    """Compile what reading and writing values needs, before it is asked for."""
    ones, codes = np.ones(2, np.uint64), np.ones(2, np.uint8)
    unpack([b"", b""], pack(EventRows(ones, ones, np.ones(2, np.int64), codes, codes), np.array([1, 2])))


def newest_value(accepted_ms: int) -> bytes:
    """The value of NEWEST_KEY."""
    return _NEWEST.pack(accepted_ms)


def newest_of(value: bytes | None) -> int:
    """When the newest record that was applied had been accepted, in ms; 0 where that is not noted. Raises Damaged."""
    if value is None:
        return 0
    check_size(_STORE, "", NEWEST_KEY, value, _NEWEST.size)
    return int(_NEWEST.unpack(value)[0])
