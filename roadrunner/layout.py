"""Bytes on disk of the embedded log.

| family   | key                              | value                                                      |
|----------|----------------------------------|------------------------------------------------------------|
| records  | topic u1, partition u2, offset u8 (big-endian) | accepted_ms i8, n u4 (little-endian), serialised Batch |
| accepted | sequence u8 (big-endian)         | accepted_ms i8, then the ids of the events accepted, <u8[n] |
| ends     | topic u1, partition u2           | first u8, next u8, events u8, open_first u8, open_bytes u8  |
| segments | topic u1, partition u2, first offset u8 | next offset u8, newest accepted_ms i8, bytes u8     |
| aggregated | topic u1, partition u2         | next u8: offset that the aggregator reads next, events u8: those before it |
| interests | partition u2, pin u8 (big-endian) | <u8[n], at most 256: the interests that the pin is in at that offset |

A folder made before there was an aggregator lacks the last two; they are made when it is opened, and the aggregator
begins at the first record kept.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from services.columns import U64, Array, pack, unpack

FORMAT = "roadrunner 1"
FAMILIES = ("records", "accepted", "ends", "segments", "aggregated", "interests")
IN_ORDER = ("records", "accepted")  # read in the order of their keys

_AT = struct.Struct(">BH")
_RECORD_KEY = struct.Struct(">BHQ")
_RECORD_HEAD = struct.Struct("<qI")
_ACCEPTED_KEY = struct.Struct(">Q")
_ACCEPTED_HEAD = struct.Struct("<q")
_END = struct.Struct("<QQQQQ")
_SEGMENT = struct.Struct("<QqQ")
_AGGREGATED = struct.Struct("<QQ")
_PIN_KEY = np.dtype([("partition", ">u2"), ("pin", ">u8")])


class StoredEnd(NamedTuple):
    """Of one partition: offsets retained from `first`, `next` to be written, events ever appended, the open segment."""

    first: int = 0
    next: int = 0
    events: int = 0
    open_first: int = 0
    open_bytes: int = 0


class Aggregated(NamedTuple):
    """Of one input partition: the offset to aggregate next, and the events before it."""

    next: int = 0
    events: int = 0


class Segment(NamedTuple):
    """A run of records that retention drops together: offsets `first` to `next`, the newest's time, their bytes."""

    first: int
    next: int
    newest_ms: int
    bytes: int


def record_key(topic: int, partition: int, offset: int) -> bytes:
    """Key of a record."""
    return _RECORD_KEY.pack(topic, partition, offset)


def record_at(key: bytes) -> tuple[int, int, int]:
    """(topic, partition, offset) of a record's key."""
    topic, partition, offset = _RECORD_KEY.unpack(key)
    return topic, partition, offset


def record_value(accepted_ms: int, events: int, batch: bytes) -> bytes:
    """Value of a record."""
    return _RECORD_HEAD.pack(accepted_ms, events) + batch


def record_of(value: bytes) -> tuple[int, int, bytes]:
    """(accepted_ms, events, serialised Batch) of a record's value."""
    accepted_ms, events = _RECORD_HEAD.unpack_from(value)
    return accepted_ms, events, value[_RECORD_HEAD.size :]


def accepted_key(sequence: int) -> bytes:
    """Key of the ids accepted together."""
    return _ACCEPTED_KEY.pack(sequence)


def accepted_sequence(key: bytes) -> int:
    """The sequence number of such a key."""
    return int(_ACCEPTED_KEY.unpack(key)[0])


def accepted_value(accepted_ms: int, ids: U64) -> bytes:
    """The ids accepted together, and when."""
    return _ACCEPTED_HEAD.pack(accepted_ms) + pack(ids, "<u8")


def accepted_of(value: bytes) -> tuple[int, U64]:
    """(accepted_ms, ids uint64[n])."""
    return int(_ACCEPTED_HEAD.unpack_from(value)[0]), unpack(value[_ACCEPTED_HEAD.size :], "<u8", "accepted")


def at_key(topic: int, partition: int) -> bytes:
    """Key of a partition's end."""
    return _AT.pack(topic, partition)


def at_of(key: bytes) -> tuple[int, int]:
    """(topic, partition) of such a key."""
    topic, partition = _AT.unpack(key[: _AT.size])
    return topic, partition


def end_value(end: StoredEnd) -> bytes:
    """A partition's end."""
    return _END.pack(*end)


def end_of(value: bytes) -> StoredEnd:
    """The end that a value holds."""
    return StoredEnd(*_END.unpack(value))


def segment_value(segment: Segment) -> bytes:
    """A segment; its first offset is in its key, which is `record_key` of its first record."""
    return _SEGMENT.pack(segment.next, segment.newest_ms, segment.bytes)


def segment_of(key: bytes, value: bytes) -> Segment:
    """The segment that a key and value hold."""
    return Segment(record_at(key)[2], *_SEGMENT.unpack(value))


def aggregated_value(aggregated: Aggregated) -> bytes:
    """How far a partition has been aggregated; its key is `at_key`."""
    return _AGGREGATED.pack(*aggregated)


def aggregated_of(value: bytes) -> Aggregated:
    """How far, as a value holds it."""
    return Aggregated(*_AGGREGATED.unpack(value))


def interests_keys(partition: Array, pins: U64) -> list[bytes]:
    """Keys of the interests of pins, each with its partition."""
    packed = np.empty(len(pins), _PIN_KEY)
    packed["partition"], packed["pin"] = partition, pins
    data, size = packed.tobytes(), _PIN_KEY.itemsize
    return [data[start : start + size] for start in range(0, len(data), size)]


def interests_value(interests: U64) -> bytes:
    """The interests of one pin."""
    return pack(interests, "<u8")


def interests_of(values: Sequence[bytes | None]) -> tuple[Array, U64]:
    """Of several pins: how many interests each has (int64[n]; none without a value), and the interests back to back."""
    present = [value or b"" for value in values]
    return np.array([len(value) // 8 for value in present], np.int64), np.frombuffer(b"".join(present), "<u8")
