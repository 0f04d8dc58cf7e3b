"""Bytes on disk of polaris. All keys begin with the partition (u2), all integers in keys are big-endian.

| family    | key                                                | value                                        |
|-----------|----------------------------------------------------|----------------------------------------------|
| lists     | partition, kind u1, source u8, part u1 (0: head)   | rows since the list was last frozen, by arrival |
| lists     | partition, kind u1, source u8, part u1 (1: frozen) | rows of the list as it was then, each pin once  |
| takedowns | partition, pin u8                                  | nothing: the pin was taken down              |

A row is 21 bytes, little-endian: pin u8, at_ms i8, quality f4 (NaN: not stated), change u1. A head is changes to the
frozen part, so its rows are puts and removals and a pin may be there often; frozen rows are puts. Head and frozen part
of a list are neighbours, and values of many lists decode as one array.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from services.columns import F32, I64, U8, U64, Array

FORMAT = "polaris 1"
FAMILIES = ("lists", "takedowns")

BOARD, INTEREST = 1, 2  # kinds of sources; as SourceKind on the wire
HEAD, FROZEN = 0, 1  # parts of a list
PUT, REMOVE = 0, 1  # changes

_LIST_KEY = np.dtype([("partition", ">u2"), ("kind", "u1"), ("source", ">u8"), ("part", "u1")])
_TAKEDOWN_KEY = np.dtype([("partition", ">u2"), ("pin", ">u8")])
_ROW = np.dtype([("pin", "<u8"), ("at_ms", "<i8"), ("quality", "<f4"), ("change", "u1")])
ROW_BYTES = _ROW.itemsize


class Sources(NamedTuple):
    """n boards and interests. kinds: uint8[n]; ids: uint64[n]."""

    kinds: U8
    ids: U64


class Rows(NamedTuple):
    """The rows of several lists back to back; those of list i end at ends[i] (int64[lists])."""

    pins: U64
    at_ms: I64
    quality: F32
    changes: U8
    ends: I64


def list_keys(partitions: Array, kinds: U8, sources: U64, part: int) -> list[bytes]:
    """Keys of these sources' heads or frozen parts."""
    return _keys(_LIST_KEY, partition=partitions, kind=kinds, source=sources, part=part)


def takedown_keys(partitions: Array, pins: U64) -> list[bytes]:
    """Keys of these pins in `takedowns`."""
    return _keys(_TAKEDOWN_KEY, partition=partitions, pin=pins)


def _keys(dtype: Any, **columns: Any) -> list[bytes]:
    keys = np.empty(len(columns["partition"]), dtype)
    for name, column in columns.items():
        keys[name] = column
    packed: list[bytes] = keys.view(f"V{dtype.itemsize}").tolist()
    return packed


def pins_of(keys: Sequence[bytes]) -> U64:
    """The pins of keys in `takedowns`."""
    return np.frombuffer(b"".join(keys), _TAKEDOWN_KEY)["pin"].astype(np.uint64)


def pack_rows(rows: Rows) -> list[bytes]:
    """The value of each list; empty for a list without rows."""
    packed = np.empty(len(rows.pins), _ROW)
    packed["pin"], packed["at_ms"] = rows.pins, rows.at_ms
    packed["quality"], packed["change"] = rows.quality, rows.changes
    data = packed.tobytes()
    return [data[start:end] for start, end in pairwise([0, *(rows.ends * ROW_BYTES).tolist()])]


def unpack_rows(values: Sequence[bytes | None]) -> Rows:
    """The rows of several values; one that is not there has none."""
    present = [value or b"" for value in values]
    ends = np.cumsum([len(value) // ROW_BYTES for value in present], dtype=np.int64)
    packed = np.frombuffer(b"".join(present), _ROW)
    return Rows(packed["pin"], packed["at_ms"], packed["quality"], packed["change"], ends)
