"""Bytes on disk of apiary. All keys begin with the partition (u2), all integers in keys are big-endian.

| family    | key                              | value                                             |
|-----------|----------------------------------|---------------------------------------------------|
| follows   | partition, user u8               | entries of the user's follows, by (kind, id)      |
| boards    | partition, owner u8              | entries of the boards the user owns, by id        |
| followers | partition, kind u1, target u8    | u4: how many users of this partition follow it    |

An entry is two little-endian u8: the id, and `at_ms << 8 | gone << 7 | kind`. One packed value a user: a read decodes it
in place, and leaves out entries that are gone. An entry that is gone stays, with its date, so that an older event which comes
late does not bring it back: 16 bytes for each thing that a user ever followed or owned.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from services.core.columns import I64, U8, U64, Array
from services.kernels.jit import kernel
from services.state.stored import check_key, check_rows, check_size, ends_of, refuse

FORMAT = "apiary 1"
FAMILIES = ("follows", "boards", "followers")

USER, BOARD, INTEREST = 1, 2, 3  # kinds of entries; as FollowKind on the wire
GONE = 0x80  # bit of a kind: unfollowed, or deleted

_USER_KEY = struct.Struct(">HQ")
_USER_KEYS = np.dtype([("partition", ">u2"), ("user", ">u8")])
_TARGET_KEY = struct.Struct(">HBQ")
_COUNT = struct.Struct("<I")
ENTRY_BYTES = 16
_STORE = "apiary"


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


def count_of(key: bytes, value: bytes | None) -> int:
    """The count that a value holds; 0 for none. Raises Damaged for another length."""
    if value is None:
        return 0
    check_size(_STORE, "followers", key, value, _COUNT.size)
    return int(_COUNT.unpack(value)[0])


def pack_entries(entries: Entries) -> bytes:
    """The entries of one or more users back to back, ENTRY_BYTES each."""
    packed = np.empty((len(entries.ids), 2), "<u8")
    packed[:, 0] = entries.ids
    packed[:, 1] = entries.at_ms.astype(np.uint64) << np.uint64(8) | entries.kinds
    return packed.tobytes()


def _unpack_entries(data: bytes) -> Entries:
    """The entries that one or more values, joined, hold: as `unpack_lists` checks them."""
    return Entries(*_columns(np.frombuffer(data, np.uint64)))


@kernel
def _columns(packed: U64) -> tuple[U64, U8, I64]:
    n = len(packed) // 2
    ids, kinds, at_ms = np.empty(n, np.uint64), np.empty(n, np.uint8), np.empty(n, np.int64)
    for i in range(n):
        meta = packed[2 * i + 1]
        ids[i], kinds[i], at_ms[i] = packed[2 * i], meta & np.uint64(0xFF), meta >> np.uint64(8)
    return ids, kinds, at_ms


def unpack_lists(family: str, keys: Sequence[bytes], values: Sequence[bytes | None], gone: bool = False) -> Lists:
    """The entries of several users; a user without a value has none. Raises Damaged for a value of another length.

    gone: also those that are gone, whose kinds have the bit GONE.
    """
    present, ends = ends_of(_STORE, family, keys, values, ENTRY_BYTES)
    data = b"".join(present)
    if gone:
        return Lists(_unpack_entries(data), ends)
    ids, kinds, at_ms, ends = _there(np.frombuffer(data, np.uint64), ends)
    return Lists(Entries(ids, kinds, at_ms), ends)


@kernel
def _there(packed: U64, ends: I64) -> tuple[U64, U8, I64, I64]:
    """The entries that are not gone, and where those of each user end."""
    capacity = len(packed) // 2
    ids, kinds, at_ms = np.empty(capacity, np.uint64), np.empty(capacity, np.uint8), np.empty(capacity, np.int64)
    out, n, entry = np.empty_like(ends), 0, 0
    for user in range(len(ends)):
        while entry < ends[user]:
            meta = packed[2 * entry + 1]
            if not meta & np.uint64(GONE):
                ids[n], kinds[n], at_ms[n] = packed[2 * entry], meta & np.uint64(0xFF), meta >> np.uint64(8)
                n += 1
            entry += 1
        out[user] = n
    return ids[:n], kinds[:n], at_ms[:n], out


def check(family: str, key: bytes, value: bytes) -> None:
    """Raise Damaged for a value that the store can't have written."""
    if family == "followers":
        check_key(_STORE, family, key, _TARGET_KEY.size)
        count_of(key, value)
        return
    check_key(_STORE, family, key, _USER_KEY.size)
    check_rows(_STORE, family, key, value, ENTRY_BYTES)
    ids, kinds, _ = _unpack_entries(value)
    kinds = kinds & np.uint8(0xFF ^ GONE)
    least, most = (BOARD, BOARD) if family == "boards" else (USER, INTEREST)
    if len(kinds) and not least <= int(kinds.min()) <= int(kinds.max()) <= most:
        refuse(_STORE, family, key, f"an entry is of kind {kinds.min()}, another of {kinds.max()}")
    if not ((kinds[1:] > kinds[:-1]) | ((kinds[1:] == kinds[:-1]) & (ids[1:] > ids[:-1]))).all():
        refuse(_STORE, family, key, "its entries do not ascend by kind and id")
