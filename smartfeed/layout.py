"""Bytes on disk of smartfeed. All keys begin with the partition (u2), all integers in keys are big-endian.

| family    | key                          | value                                                          |
|-----------|------------------------------|----------------------------------------------------------------|
| lists     | partition, user u8, feed u1  | at_ms i8, then n pins u8, then their n boards u8: as last served |
| removed   | partition, user u8           | u8[..512]: the pins the user last saved or hid, oldest first   |
| takedowns | partition, pin u8            | none                                                           |

Integers in values are little-endian. A takedown stands in every partition, so a partition can be moved on its own.
"""

import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from services.columns import U64
from services.events import Surface

FORMAT = "smartfeed 1"
FAMILIES = ("lists", "removed", "takedowns")

FEEDS = (Surface.FOLLOWING, Surface.INTEREST, Surface.PICKED, Surface.HOME)  # surfaces that have a list

_LIST_KEY = struct.Struct(">HQB")
_ID_KEY = struct.Struct(">HQ")
_AT = struct.Struct("<q")


class LastServed(NamedTuple):
    """The pins of one feed of one user in the order served, with the board each came from. at_ms 0: nothing was."""

    pins: U64
    boards: U64
    at_ms: int


def list_key(partition: int, user: int, feed: int) -> bytes:
    """Key of a list."""
    return _LIST_KEY.pack(partition, user, feed)


def removed_key(partition: int, user: int) -> bytes:
    """Key of the pins a user removed."""
    return _ID_KEY.pack(partition, user)


def takedown_key(partition: int, pin: int) -> bytes:
    """Key of a takedown."""
    return _ID_KEY.pack(partition, pin)


def is_in(partition: int) -> Callable[[bytes], bool]:
    """Whether a key is of this partition."""
    return lambda key: key[:2] == partition.to_bytes(2)


def takedowns_of(keys: Iterable[bytes]) -> U64:
    """The pins that the takedown keys of one partition name, in the order of the keys: ascending."""
    packed = np.frombuffer(b"".join(keys), np.dtype([("partition", ">u2"), ("pin", ">u8")]))
    return packed["pin"].astype(np.uint64)


def pack_list(at_ms: int, boards: dict[int, int]) -> bytes:
    """A list: `boards` by pin, in order."""
    return struct.pack(f"<q{2 * len(boards)}Q", at_ms, *boards, *boards.values())


def unpack_list(value: bytes | None) -> LastServed:
    """The list of a value; an empty one of none."""
    if not value:
        return LastServed(np.empty(0, np.uint64), np.empty(0, np.uint64), 0)
    pins, boards = np.frombuffer(value, "<u8", offset=_AT.size).reshape(2, -1)
    return LastServed(pins, boards, _AT.unpack_from(value)[0])


def holds(value: bytes, pin: bytes) -> bool:
    """Whether a list may hold a pin (packed): never wrongly no, and hardly ever wrongly yes. Nothing is decoded."""
    return pin in value


def pack_pins(*pins: int) -> bytes:
    """Pins in order."""
    return struct.pack(f"<{len(pins)}Q", *pins)


def unpack_pins(value: bytes | None) -> tuple[int, ...]:
    """The pins of a value; none of none."""
    return struct.unpack(f"<{len(value) // 8}Q", value) if value else ()
