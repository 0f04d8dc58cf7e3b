"""Bytes on disk of counters. All keys begin with the partition (u2), all integers in keys are big-endian.

| family | key                             | value                                                        |
|--------|---------------------------------|--------------------------------------------------------------|
| counts | partition u2, kind u1, object u8 | buckets of what was done to the object, ascending by code    |

A bucket is two little-endian u4: its code, and its count (at most 2^32 - 1). The code is
`action index << 24 | level << 22 | number`: the index of the action among the engagements, the level EVER, DAY or HOUR,
and the days or hours from 1970 to its start (0 for EVER). Only buckets in which something happened are there: most
objects have few.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from services.clock import DAY_MS
from services.columns import I64, U8, U32, U64, Array
from services.events import ENGAGEMENTS

FORMAT = "counters 1"
FAMILIES = ("counts",)

EVER, DAY, HOUR = 0, 1, 2  # levels
HOUR_MS = 3_600_000
SIZE_MS = (0, DAY_MS, HOUR_MS)  # of a bucket, by level
KEPT = (0, 90, 168)  # buckets of a level before they expire: 90 days, 7 days
ACTIONS = len(ENGAGEMENTS)
ACTION_SHIFT, LEVEL_SHIFT = 24, 22
NUMBER_MASK = (1 << LEVEL_SHIFT) - 1
MOST = 2**32 - 1  # that a bucket can hold

BUCKET_BYTES = 8
_KEY = np.dtype([("partition", ">u2"), ("kind", "u1"), ("object", ">u8")])


class Buckets(NamedTuple):
    """The buckets of n objects back to back, ascending by code within each; those of object i end at ends[i]."""

    codes: U32
    counts: U32
    ends: I64


def keys(partitions: Array, kinds: U8, objects: U64) -> list[bytes]:
    """The key of each object."""
    packed = np.empty(len(objects), _KEY)
    packed["partition"], packed["kind"], packed["object"] = partitions, kinds, objects
    data, size = packed.tobytes(), _KEY.itemsize
    return [data[start : start + size] for start in range(0, len(data), size)]


def first_key(partition: int, kind: int) -> bytes:
    """The first key that an object of a kind in a partition can have."""
    return keys(np.array([partition]), np.array([kind], np.uint8), np.zeros(1, np.uint64))[0]


def same_kind(key: bytes, other: bytes) -> bool:
    """Whether two keys are of one partition and kind."""
    return key[:3] == other[:3]


def objects_of(found: Sequence[bytes]) -> U64:
    """The id of each key."""
    return np.frombuffer(b"".join(found), _KEY)["object"].astype(np.uint64)


def unpack(values: Sequence[bytes | None]) -> Buckets:
    """The buckets of several objects; one without a value has none."""
    present = [value or b"" for value in values]
    ends = np.cumsum([len(value) for value in present], dtype=np.int64) // BUCKET_BYTES
    packed = np.frombuffer(b"".join(present), "<u4").reshape(-1, 2)
    return Buckets(packed[:, 0], packed[:, 1], ends)


def pack(buckets: Buckets) -> list[bytes]:
    """The value of each object."""
    packed = np.empty((len(buckets.codes), 2), "<u4")
    packed[:, 0], packed[:, 1] = buckets.codes, buckets.counts
    data, values, start = packed.tobytes(), [], 0
    for end in (buckets.ends * BUCKET_BYTES).tolist():
        values.append(data[start:end])
        start = end
    return values
