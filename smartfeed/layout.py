"""Bytes on disk of smartfeed. All keys begin with the partition (u2), all integers in keys are big-endian.

| family    | key                          | value                                                          |
|-----------|------------------------------|----------------------------------------------------------------|
| lists     | partition, user u8, feed u1  | at_ms i8, newest u8, then n pins u8, then their n boards u8      |
| removed   | partition, user u8           | u8[..2100]: the pins the user last saved or hid, oldest first  |
| takedowns | partition, pin u8            | none                                                           |

Integers in values are little-endian. Of a list the first `newest` pins are of the pages that were served since the last
first page, the others of those before. Earlier versions put the board GONE in the place of a pin that was removed. A takedown
stands in every partition, so a partition can be moved on its own.
"""

import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from services.core.columns import U64
from services.core.events import Surface
from services.state.stored import check_key, check_rows, check_size, refuse

FORMAT = "smartfeed 2"
FAMILIES = ("lists", "removed", "takedowns")

FEEDS = (Surface.FOLLOWING, Surface.INTEREST, Surface.PICKED, Surface.HOME)  # surfaces that have a list

_LIST_KEY = struct.Struct(">HQB")
_ID_KEY = struct.Struct(">HQ")
_HEAD = struct.Struct("<qQ")
GONE = 2**64 - 1  # in place of a board, by earlier versions: the pin was removed. A reserved id, so it is no board's
_PIN_BYTES = 8
_STORE = "smartfeed"


class LastServed(NamedTuple):
    """The pins of one feed of one user, newest pages first and each in its order, with the board each came from. at_ms:
    of the newest first page, 0: nothing was served; newest: how many are of the pages since then.
    """

    pins: U64
    boards: U64
    at_ms: int
    newest: int = 0


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
    """The pins that the takedown keys of one partition name, in the order of the keys: ascending.

    Raises Damaged for another key.
    """
    keys = list(keys)
    for key in keys:
        check_key(_STORE, "takedowns", key, _ID_KEY.size)
    packed = np.frombuffer(b"".join(keys), np.dtype([("partition", ">u2"), ("pin", ">u8")]))
    return packed["pin"].astype(np.uint64)


def pack_list(last: LastServed) -> bytes:
    """A list."""
    return (
        _HEAD.pack(last.at_ms, last.newest)
        + np.concatenate((last.pins, last.boards)).astype("<u8", copy=False).tobytes()
    )


def unpack_list(key: bytes, value: bytes | None) -> LastServed:
    """The list of a value; an empty one of none. Raises Damaged for another length."""
    if value is None:
        return LastServed(np.empty(0, np.uint64), np.empty(0, np.uint64), 0)
    check_rows(_STORE, "lists", key, value, 2 * _PIN_BYTES, _HEAD.size)
    pins, boards = np.frombuffer(value, "<u8", offset=_HEAD.size).reshape(2, -1)
    at_ms, newest = _HEAD.unpack_from(value)
    if newest > len(pins):
        refuse(_STORE, "lists", key, f"{newest} of its {len(pins)} pins are of the newest pages")
    return LastServed(pins, boards, at_ms, newest)


def pack_pins(*pins: int) -> bytes:
    """Pins in order."""
    return struct.pack(f"<{len(pins)}Q", *pins)


def unpack_pins(key: bytes, value: bytes | None) -> tuple[int, ...]:
    """The pins of a value of `removed`; none of none. Raises Damaged for another length."""
    if not value:
        return ()
    check_rows(_STORE, "removed", key, value, _PIN_BYTES)
    return struct.unpack(f"<{len(value) // _PIN_BYTES}Q", value)


def check(family: str, key: bytes, value: bytes) -> None:
    """Raise Damaged for a value that the store can't have written."""
    if family == "lists":
        check_key(_STORE, family, key, _LIST_KEY.size)
        pins = unpack_list(key, value).pins
        if key[-1] not in FEEDS:
            refuse(_STORE, family, key, f"feed {key[-1]} has no list")
    elif family == "removed":
        check_key(_STORE, family, key, _ID_KEY.size)
        pins = np.array(unpack_pins(key, value), np.uint64)
    else:
        check_key(_STORE, family, key, _ID_KEY.size)
        check_size(_STORE, family, key, value, 0)
        return
    if len(np.unique(pins)) < len(pins):
        refuse(_STORE, family, key, "a pin stands there twice")
