"""Bytes on disk of polaris. All keys begin with the partition (u2), all integers in keys are big-endian.

| family    | key                                                | value                                        |
|-----------|----------------------------------------------------|----------------------------------------------|
| lists     | partition, kind u1, source u8, part u1 (0: head)   | rows since the list was last frozen, by arrival |
| lists     | partition, kind u1, source u8, part u1 (1: frozen) | rows of the list as it was then, each pin once  |
| takedowns | partition, pin u8                                  | nothing: the pin was taken down              |

A row is 21 bytes, little-endian: pin u8, at_ms i8, quality f4 (NaN: not stated), change u1. A head is changes to the
frozen part, so a pin may be there often. In a frozen part each pin is there once: put, or on a board removed, so that an
older put which comes late is known to be older. Of a board itself rows of pin 0 say when it was created and deleted; in a
frozen part they come first, the one that stands last. Head and frozen part of a list are neighbours, and values of many
lists decode as one array.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from services.core.columns import F32, I64, U8, U64, Array
from services.state.stored import check_key, check_rows, check_size, ends_of, refuse

FORMAT = "polaris 2"
FAMILIES = ("lists", "takedowns")

BOARD, INTEREST = 1, 2  # kinds of sources; as SourceKind on the wire
HEAD, FROZEN = 0, 1  # parts of a list
PUT, REMOVE = 0, 1  # changes
DELETED, CREATED = 2, 3  # changes of the board itself, in rows of pin 0

_LIST_KEY = np.dtype([("partition", ">u2"), ("kind", "u1"), ("source", ">u8"), ("part", "u1")])
_TAKEDOWN_KEY = np.dtype([("partition", ">u2"), ("pin", ">u8")])
_ROW = np.dtype([("pin", "<u8"), ("at_ms", "<i8"), ("quality", "<f4"), ("change", "u1")])
ROW_BYTES = _ROW.itemsize
_STORE = "polaris"


class Sources(NamedTuple):
    """n boards and interests. kinds: uint8[n]; ids: uint64[n]."""

    kinds: U8
    ids: U64


class PostingRows(NamedTuple):
    """The rows of several lists back to back; those of list i end at ends[i] (int64[lists])."""

    pins: U64
    at_ms: I64
    quality: F32
    changes: U8
    ends: I64

    def keep(self, kept: Array) -> "PostingRows":
        """The rows where `kept` (bool[m]) is true."""
        before = np.concatenate([[0], np.cumsum(kept)])
        return PostingRows(self.pins[kept], self.at_ms[kept], self.quality[kept], self.changes[kept], before[self.ends])


def list_keys(partitions: Array, kinds: U8, sources: U64, part: int) -> list[bytes]:
    """Keys of these sources' heads or frozen parts."""
    return _keys(_LIST_KEY, partition=partitions, kind=kinds, source=sources, part=part)


def kind_of(key: bytes) -> int:
    """The kind of a list's source."""
    return key[2]


def takedown_keys(partitions: Array, pins: U64) -> list[bytes]:
    """Keys of these pins in `takedowns`."""
    return _keys(_TAKEDOWN_KEY, partition=partitions, pin=pins)


def _keys(dtype: Any, **columns: Any) -> list[bytes]:
    keys = np.empty(len(columns["partition"]), dtype)
    for name, column in columns.items():
        keys[name] = column
    packed: list[bytes] = keys.view(f"V{dtype.itemsize}").tolist()
    return packed


def takedowns_of(keys: Sequence[bytes]) -> tuple[I64, U64]:
    """The partition and the pin of each key in `takedowns`. Raises Damaged for another key."""
    for key in keys:
        check_key(_STORE, "takedowns", key, _TAKEDOWN_KEY.itemsize)
    named = np.frombuffer(b"".join(keys), _TAKEDOWN_KEY)
    return named["partition"].astype(np.int64), named["pin"].astype(np.uint64)


def pack_rows(rows: PostingRows) -> list[bytes]:
    """The value of each list; empty for a list without rows."""
    packed = np.empty(len(rows.pins), _ROW)
    packed["pin"], packed["at_ms"] = rows.pins, rows.at_ms
    packed["quality"], packed["change"] = rows.quality, rows.changes
    data = packed.tobytes()
    return [data[start:end] for start, end in pairwise([0, *(rows.ends * ROW_BYTES).tolist()])]


def unpack_rows(keys: Sequence[bytes], values: Sequence[bytes | None]) -> PostingRows:
    """The rows of several values; one that is not there has none. Raises Damaged for one that is not whole rows."""
    present, ends = ends_of(_STORE, "lists", keys, values, ROW_BYTES)
    packed = np.frombuffer(b"".join(present), _ROW)
    return PostingRows(packed["pin"], packed["at_ms"], packed["quality"], packed["change"], ends)


def check_heads(keys: Sequence[bytes], values: Sequence[bytes | None]) -> list[bytes]:
    """The rows of each head, to which others are added. Raises Damaged when they are not whole."""
    heads = [value or b"" for value in values]
    if any(len(head) % ROW_BYTES for head in heads):
        for key, head in zip(keys, heads, strict=True):
            check_rows(_STORE, "lists", key, head, ROW_BYTES)
    return heads


def check(family: str, key: bytes, value: bytes) -> None:
    """Raise Damaged for bytes that the store can't have written."""
    if family == "takedowns":
        check_key(_STORE, family, key, _TAKEDOWN_KEY.itemsize)
        check_size(_STORE, family, key, value, 0)
        return
    check_key(_STORE, family, key, _LIST_KEY.itemsize)
    named = np.frombuffer(key, _LIST_KEY)[0]
    if named["kind"] not in (BOARD, INTEREST) or named["part"] not in (HEAD, FROZEN):
        refuse(_STORE, family, key, f"kind {named['kind']} and part {named['part']} are none")
    rows = unpack_rows([key], [value])
    of_pins = rows.changes < DELETED
    if (rows.changes > CREATED).any() or (of_pins != (rows.pins > 0)).any():
        row = int(((rows.changes > CREATED) | (of_pins != (rows.pins > 0))).argmax())
        refuse(_STORE, family, key, f"row {row} is change {rows.changes[row]} of pin {rows.pins[row]}")
    if named["part"] == FROZEN and len(
        np.unique(np.where(of_pins, rows.pins, rows.changes + np.uint64(2**64 - 4)))
    ) < len(rows.pins):
        refuse(_STORE, family, key, "a pin stands there twice")
