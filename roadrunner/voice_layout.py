"""Bytes on disk of voices, the family `voices` of the log: users counted for pins and actions (`roadrunner/voices.py`).

| key                                      | value                                                             |
|------------------------------------------|-------------------------------------------------------------------|
| day u4, 0 u2, user u8 (big-endian)       | pin u8, partition u2, action u1 of each that counted on that day  |
| 0 u4, partition u2, user u8 (big-endian) | the same of one partition, for good                               |
| 2^32 - 1 u4                              | <i8[partitions]: the newest date of an engagement of each         |
"""

import struct
from collections.abc import Sequence

import numpy as np

from services.core.columns import U64, Array, pack, split_bytes
from services.state.stored import check_key, check_rows, ends_of

_STORE = "roadrunner"
_KEY = np.dtype([("day", ">u4"), ("partition", ">u2"), ("user", ">u8")])
_VOICE = np.dtype([("pin", "<u8"), ("partition", "<u2"), ("action", "u1")])
_DAY = struct.Struct(">I")
NEWEST_KEY = _DAY.pack(2**32 - 1)


def keys_of(day: Array, partition: Array, user: U64) -> list[bytes]:
    """Keys of voices of users on days; of day 0, for good, in partitions."""
    packed = np.empty(len(user), _KEY)
    packed["day"], packed["partition"], packed["user"] = day, partition, user
    return split_bytes(packed.tobytes(), np.full(len(user), _KEY.itemsize))


def first_key(day: int) -> bytes:
    """Where the keys of a day begin."""
    return _DAY.pack(day)


def values_of(pin: U64, partition: Array, action: Array, lengths: Array) -> list[bytes]:
    """Voices as they are stored, the first lengths[0] of them in the first value, and so on."""
    packed = np.empty(len(pin), _VOICE)
    packed["pin"], packed["partition"], packed["action"] = pin, partition, action
    return split_bytes(packed.tobytes(), lengths * _VOICE.itemsize)


def voices_of(keys: Sequence[bytes], values: Sequence[bytes | None]) -> tuple[Array, U64, Array, Array]:
    """Of several values: how many voices each has (int64[n]), and pins, partitions and actions back to back.

    Raises Damaged for a value that is not whole voices.
    """
    present, ends = ends_of(_STORE, "voices", keys, values, _VOICE.itemsize)
    voices = np.frombuffer(b"".join(present), _VOICE)
    return np.diff(ends, prepend=0), voices["pin"], voices["partition"], voices["action"]


def newest_value(at_ms: Array) -> bytes:
    """The newest date of an engagement, of each partition."""
    return pack(at_ms, "<i8")


def newest_of(value: bytes | None) -> Array:
    """Those dates of a value, int64[partitions]; none of none. Raises Damaged for what is not whole dates."""
    check_rows(_STORE, "voices", NEWEST_KEY, value or b"", 8)
    return np.frombuffer(value or b"", "<i8")


def check(key: bytes, value: bytes) -> None:
    """Raise Damaged for an entry that the log can't have written."""
    if key == NEWEST_KEY:
        newest_of(value)
    else:
        check_key(_STORE, "voices", key, _KEY.itemsize)
        voices_of([key], [value])
