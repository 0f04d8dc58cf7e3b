"""Bytes on disk of the embedded log.

| family   | key                              | value                                                      |
|----------|----------------------------------|------------------------------------------------------------|
| records  | topic u1, partition u2, offset u8 (big-endian) | accepted_ms i8, n u4 (little-endian), serialised Batch |
| accepted | sequence u8 (big-endian)         | accepted_ms i8, then the keys of the events accepted, <u8[n] |
| ends     | topic u1, partition u2           | first u8, next u8, events u8, open_first u8, open_bytes u8  |
| segments | topic u1, partition u2, first offset u8 | next offset u8, newest accepted_ms i8, bytes u8     |
| aggregated | topic u1, partition u2         | next u8: offset that the aggregator reads next, events u8: those before it |
| interests | partition u2, pin u8 (big-endian) | <u8[n], at most 256: the interests that the pin is in at that offset |
| voices   | `voice_layout.py`                | which users were counted for which pins and actions |
| boards   | partition u2, board u8 (big-endian) | owner u8, created_ms i8, deleted_ms i8, whether it is deleted u1 |
| qualities | partition u2, pin u8 (big-endian) | quality f4 as last stated, at_ms i8 of that |
| history  | "identity"                       | 16 random bytes: which log this is                           |
| history  | sequence u4 (big-endian)         | an epoch: its number u8, then (topic u1, partition u2, next offset u8) of each |

With 2^62 in accepted_ms a record was made of another one: before its batch stand the topic u1, partition u2 and offset u8 of
that one, and the part u4.

A folder made before there was an aggregator lacks what comes after `segments`; it is made when it is opened, and the
aggregator begins at the first record kept. One from before there were voices has counted without them until then. One
from before there were boards gets them from its records of `objects`.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from protos import events_pb2
from roadrunner import voice_layout
from services.core.batches import check_whole
from services.core.boards import Board
from services.core.columns import U64, Array, pack, split_bytes
from services.core.errors import InvalidArgument
from services.log.history import Epoch
from services.log.protocol import Provenance
from services.state.stored import check_key, check_rows, check_size, ends_of, refuse

HISTORY = "history"
IDENTITY_KEY = b"identity"
FORMAT = "roadrunner 1"
FAMILIES = (
    "records",
    "accepted",
    "ends",
    "segments",
    "aggregated",
    "interests",
    "voices",
    "boards",
    "qualities",
    HISTORY,
)
IN_ORDER = ("records", "accepted")  # read in the order of their keys

LAST_OFFSET = 2**64 - 1
_EPOCH_KEY = struct.Struct(">I")
_EPOCH_HEAD = struct.Struct("<Q")
_EPOCH_START = struct.Struct("<BHQ")
_AT = struct.Struct(">BH")
_RECORD_KEY = struct.Struct(">BHQ")
_RECORD_HEAD = struct.Struct("<qI")
_MADE_OF = struct.Struct("<BHQI")  # behind the head of a record that was made of another
_IS_MADE = 1 << 62  # in accepted_ms
_ACCEPTED_KEY = struct.Struct(">Q")
_ACCEPTED_HEAD = struct.Struct("<q")
_SCOPED = 1 << 62  # in accepted_ms
_END = struct.Struct("<QQQQQ")
_SEGMENT = struct.Struct("<QqQ")
_AGGREGATED = struct.Struct("<QQ")
_OBJECT_KEY = np.dtype([("partition", ">u2"), ("id", ">u8")])
_BOARD = struct.Struct("<Qqq?")
_QUALITY = struct.Struct("<fq")
_ID_BYTES = 8
_STORE = "roadrunner"


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


class Aggregate(NamedTuple):
    """The aggregator's result for a chunk of OBJECTS. One write: the counts, the table, and its position."""

    counts: list[tuple[int, int, bytes]]  # records of COUNTS: partition, events, serialised batch
    interests: dict[bytes, bytes]  # by key, as changed; empty: none
    reached: dict[tuple[int, int], Aggregated]  # by (topic, partition)
    voices: dict[bytes, bytes]
    forgotten: list[tuple[bytes, bytes]]  # ranges of keys of voices


class Segment(NamedTuple):
    """A run of records that retention drops as one: offsets `first` to `next`, the newest's time, their bytes."""

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


class StoredValue(NamedTuple):
    """The parts of a record, its batch still serialised."""

    accepted_ms: int
    events: int
    batch: bytes
    provenance: Provenance | None = None


def record_value(accepted_ms: int, events: int, batch: bytes, provenance: Provenance | None = None) -> bytes:
    """Value of a record."""
    if provenance is None:
        return _RECORD_HEAD.pack(accepted_ms, events) + batch
    return _RECORD_HEAD.pack(accepted_ms | _IS_MADE, events) + _MADE_OF.pack(*provenance) + batch


def record_of(key: bytes, value: bytes) -> StoredValue:
    """The parts of a record's value. Raises Damaged for one without its head."""
    head = _RECORD_HEAD.size
    if len(value) < head:
        refuse(_STORE, "records", key, f"{len(value)} bytes, expected at least {head}")
    accepted_ms, events = _RECORD_HEAD.unpack_from(value)
    if accepted_ms < _IS_MADE:
        return StoredValue(accepted_ms, events, value[head:])
    if len(value) < head + _MADE_OF.size:
        refuse(_STORE, "records", key, f"{len(value)} bytes, expected at least {head + _MADE_OF.size}")
    of = Provenance(*_MADE_OF.unpack_from(value, head))
    return StoredValue(accepted_ms & ~_IS_MADE, events, value[head + _MADE_OF.size :], of)


def message_of(key: bytes, batch: bytes) -> events_pb2.Batch:
    """The batch of a record, whose columns all have the length that it states. Raises Damaged for anything else.

    Code that reads columns without looking at their lengths again, as kernels do, reads them from here.
    """
    try:
        message = events_pb2.Batch.FromString(batch)
        check_whole(message)
    except (DecodeError, InvalidArgument) as error:
        refuse(_STORE, "records", key, f"its batch can't be read: {error}")
    return message


def accepted_key(sequence: int) -> bytes:
    """Key of the ids accepted in one publish."""
    return _ACCEPTED_KEY.pack(sequence)


def accepted_sequence(key: bytes) -> int:
    """The sequence number of such a key. Raises Damaged for another key."""
    check_key(_STORE, "accepted", key, _ACCEPTED_KEY.size)
    return int(_ACCEPTED_KEY.unpack(key)[0])


def accepted_value(accepted_ms: int, keys: U64) -> bytes:
    """The keys (`duplicates.keys_of`) accepted in one publish, and when."""
    return _ACCEPTED_HEAD.pack(accepted_ms | _SCOPED) + pack(keys, "<u8")


def is_scoped(value: bytes) -> bool:
    """Whether it has keys; a value from before ids had writers has the ids themselves."""
    return bool(_ACCEPTED_HEAD.unpack_from(value)[0] & _SCOPED)


def accepted_of(key: bytes, value: bytes) -> tuple[int, U64]:
    """(accepted_ms, keys uint64[n]). Raises Damaged for a value of another length."""
    check_rows(_STORE, "accepted", key, value, _ID_BYTES, _ACCEPTED_HEAD.size)
    accepted_ms = int(_ACCEPTED_HEAD.unpack_from(value)[0]) & ~_SCOPED
    return accepted_ms, np.frombuffer(value, "<u8", offset=_ACCEPTED_HEAD.size)


def at_key(topic: int, partition: int) -> bytes:
    """Key of a partition's end."""
    return _AT.pack(topic, partition)


def at_of(key: bytes) -> tuple[int, int]:
    """(topic, partition) of such a key, or of a record's. Raises Damaged for a shorter one."""
    if len(key) < _AT.size:
        refuse(_STORE, "ends", key, f"the key has {len(key)} bytes, expected at least {_AT.size}")
    topic, partition = _AT.unpack(key[: _AT.size])
    return topic, partition


def end_value(end: StoredEnd) -> bytes:
    """A partition's end."""
    return _END.pack(*end)


def end_of(key: bytes, value: bytes) -> StoredEnd:
    """The end that a value holds. Raises Damaged for another length."""
    check_size(_STORE, "ends", key, value, _END.size)
    return StoredEnd(*_END.unpack(value))


def segment_value(segment: Segment) -> bytes:
    """A segment; its first offset is in its key, which is `record_key` of its first record."""
    return _SEGMENT.pack(segment.next, segment.newest_ms, segment.bytes)


def segment_of(key: bytes, value: bytes) -> Segment:
    """The segment that a key and value hold. Raises Damaged for another length."""
    check_key(_STORE, "segments", key, _RECORD_KEY.size)
    check_size(_STORE, "segments", key, value, _SEGMENT.size)
    return Segment(record_at(key)[2], *_SEGMENT.unpack(value))


def aggregated_value(aggregated: Aggregated) -> bytes:
    """How far a partition has been aggregated; its key is `at_key`."""
    return _AGGREGATED.pack(*aggregated)


def aggregated_of(key: bytes, value: bytes) -> Aggregated:
    """How far, as a value holds it. Raises Damaged for another length."""
    check_size(_STORE, "aggregated", key, value, _AGGREGATED.size)
    return Aggregated(*_AGGREGATED.unpack(value))


def object_keys(partition: Array, ids: U64) -> list[bytes]:
    """Keys of pins in `interests` and `qualities` or of boards in `boards`, each with its partition."""
    packed = np.empty(len(ids), _OBJECT_KEY)
    packed["partition"], packed["id"] = partition, ids
    return split_bytes(packed.tobytes(), np.full(len(ids), _OBJECT_KEY.itemsize))


def board_value(board: Board) -> bytes:
    """The value of a board's state."""
    return _BOARD.pack(*board)


def board_of(key: bytes, value: bytes) -> Board:
    """A board's state of its value. Raises Damaged for another length."""
    check_size(_STORE, "boards", key, value, _BOARD.size)
    return Board(*_BOARD.unpack(value))


def quality_value(quality: float, at_ms: int) -> bytes:
    """The quality of a pin, and when it was stated."""
    return _QUALITY.pack(quality, at_ms)


def quality_of(key: bytes, value: bytes | None) -> tuple[float, int] | None:
    """The quality of a pin, and when it was stated; None of none. Raises Damaged for another length."""
    if value is None:
        return None
    check_size(_STORE, "qualities", key, value, _QUALITY.size)
    quality, at_ms = _QUALITY.unpack(value)
    return quality, at_ms


def interests_value(interests: U64) -> bytes:
    """The interests of one pin."""
    return pack(interests, "<u8")


def interests_of(keys: Sequence[bytes], values: Sequence[bytes | None]) -> tuple[Array, U64]:
    """Of several pins: how many interests each has (int64[n]; none without a value), and the interests back to back.

    Raises Damaged for a value that is not whole interests.
    """
    present, ends = ends_of(_STORE, "interests", keys, values, _ID_BYTES)
    return np.diff(ends, prepend=0), np.frombuffer(b"".join(present), "<u8")


def check(family: str, key: bytes, value: bytes) -> None:
    """Raise Damaged for what the log can't have written."""
    if family == "records":
        check_key(_STORE, family, key, _RECORD_KEY.size)
        stored = record_of(key, value)
        if (n := message_of(key, stored.batch).n) != stored.events:
            refuse(_STORE, family, key, f"its batch has {n} events, its head says {stored.events}")
    elif family == "accepted":
        accepted_sequence(key)
        accepted_of(key, value)
    elif family == "segments":
        segment_of(key, value)
    elif family == "interests":
        check_key(_STORE, family, key, _OBJECT_KEY.itemsize)
        interests_of([key], [value])
    elif family == "boards":
        check_key(_STORE, family, key, _OBJECT_KEY.itemsize)
        board_of(key, value)
    elif family == "qualities":
        check_key(_STORE, family, key, _OBJECT_KEY.itemsize)
        if not 0 <= (quality_of(key, value) or (0.0, 0))[0] <= 1:
            refuse(_STORE, family, key, "a quality is 0 to 1")
    elif family == "voices":
        voice_layout.check(key, value)
    elif family in ("ends", "aggregated"):
        check_key(_STORE, family, key, _AT.size)
        end_of(key, value) if family == "ends" else aggregated_of(key, value)


def epoch_key(sequence: int) -> bytes:
    """Key of the epoch of this number in the order of epochs: below `IDENTITY_KEY`."""
    return _EPOCH_KEY.pack(sequence)


def epoch_sequence(key: bytes) -> int:
    """The number of an epoch in their order."""
    return int(_EPOCH_KEY.unpack(key)[0])


def epoch_value(epoch: Epoch) -> bytes:
    """An epoch: its number and where it began."""
    starts = (_EPOCH_START.pack(*at, offset) for at, offset in epoch.starts.items())
    return _EPOCH_HEAD.pack(epoch.number) + b"".join(starts)


def epoch_of(key: bytes, value: bytes) -> Epoch:
    """The epoch that a value holds."""
    check_key(_STORE, HISTORY, key, _EPOCH_KEY.size)
    check_rows(_STORE, HISTORY, key, value, _EPOCH_START.size, _EPOCH_HEAD.size)
    starts = {(t, p): offset for t, p, offset in _EPOCH_START.iter_unpack(value[_EPOCH_HEAD.size :])}
    return Epoch(int(_EPOCH_HEAD.unpack_from(value)[0]), starts)
