"""Bytes on disk of apiary. All keys begin with the partition (u2), all integers in keys are big-endian.

| family    | key                              | value                                             |
|-----------|----------------------------------|---------------------------------------------------|
| follows   | partition, user u8               | entries of what the user follows, by (kind, id)   |
| boards    | partition, owner u8              | entries of the boards the user owns, by id        |
| followers | partition, kind u1, target u8    | u4: how many users of this partition follow it    |

An entry is two little-endian u8: the id, and `at_ms << 8 | kind`. One packed value a user: a read decodes it in place.
"""

import struct
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from services.columns import I64, U8, U64, Array
from services.jit import kernel

FORMAT = "apiary 1"
FAMILIES = ("follows", "boards", "followers")

USER, BOARD, INTEREST = 1, 2, 3  # kinds of entries; as FollowKind on the wire

_USER_KEY = struct.Struct(">HQ")
_USER_KEYS = np.dtype([("partition", ">u2"), ("user", ">u8")])
_TARGET_KEY = struct.Struct(">HBQ")
_COUNT = struct.Struct("<I")
ENTRY_BYTES = 16


class Entries(NamedTuple):
    """n entries as columns, ascending by (kind, id)."""

    ids: U64
    kinds: U8
    at_ms: I64


class Lists(NamedTuple):
    """The entries of several users back to back; those of user i end at ends[i] (int64[users])."""

    entries: Entries
    ends: I64


def user_key(partition: int, user: int) -> bytes:
    """Key of a user in `follows` and `boards`."""
    return _USER_KEY.pack(partition, user)


def user_keys(partitions: Array, users: U64) -> list[bytes]:
    """Keys of users in `follows` and `boards`, each with its partition."""
    packed = np.empty(len(users), _USER_KEYS)
    packed["partition"], packed["user"] = partitions, users
    data, size = packed.tobytes(), _USER_KEYS.itemsize
    return [data[start : start + size] for start in range(0, len(data), size)]


def target_key(partition: int, kind: int, target: int) -> bytes:
    """Key of a follower count."""
    return _TARGET_KEY.pack(partition, kind, target)


def count_value(count: int) -> bytes:
    """A follower count."""
    return _COUNT.pack(count)


def count_of(value: bytes | None) -> int:
    """The count that a value holds; 0 for none."""
    return int(_COUNT.unpack(value)[0]) if value else 0


def pack_entries(entries: Entries) -> bytes:
    """The entries of one or more users back to back, ENTRY_BYTES each."""
    packed = np.empty((len(entries.ids), 2), "<u8")
    packed[:, 0] = entries.ids
    packed[:, 1] = entries.at_ms.astype(np.uint64) << np.uint64(8) | entries.kinds
    return packed.tobytes()


def unpack_entries(data: bytes) -> Entries:
    """The entries that one or more values, joined, hold."""
    return Entries(*_columns(np.frombuffer(data, np.uint64)))


@kernel
def _columns(packed: U64) -> tuple[U64, U8, I64]:
    n = len(packed) // 2
    ids, kinds, at_ms = np.empty(n, np.uint64), np.empty(n, np.uint8), np.empty(n, np.int64)
    for i in range(n):
        meta = packed[2 * i + 1]
        ids[i], kinds[i], at_ms[i] = packed[2 * i], meta & np.uint64(0xFF), meta >> np.uint64(8)
    return ids, kinds, at_ms


def unpack_lists(values: Sequence[bytes | None]) -> Lists:
    """The entries of several users; a user without a value has none."""
    present = [value or b"" for value in values]
    ends = np.array([*accumulate(map(len, present))], np.int64) // ENTRY_BYTES
    return Lists(unpack_entries(b"".join(present)), ends)
