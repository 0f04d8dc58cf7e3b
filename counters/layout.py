"""Bytes on disk of counters. All keys begin with the partition (u2), all integers in keys are big-endian.

| family     | key                         | value                                                            |
|------------|-----------------------------|------------------------------------------------------------------|
| pages      | partition u2, page u1       | the page's objects and their buckets, as of an offset of the log |
| increments | partition u2, offset u8     | the increments of a record of the log                            |

A page holds the objects of a partition whose hash begins with its number. Its value is, little-endian: the offset u8 up
to which increments are in it, the number of objects u4, then columns: object u8[n], buckets of each u4[n], kind u1[n],
and the buckets, ascending by code within an object: u8, `code << 32 | count` (at most 2^32 - 1).

The code is `action index << 24 | level << 22 | number`: the index of the action among the engagements, the level EVER,
DAY or HOUR, and the days or hours from 1970 to its start (0 for EVER). Only buckets in which something happened are
there.

A value of `increments` is columns too: object u8[e], `kind << 25 | action index << 22 | hour` u4[e], how often u4[e].
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

import numpy as np

from services.core.clock import DAY_MS
from services.core.columns import I64, U8, U32, U64, Array
from services.core.events import ENGAGEMENTS, Kind
from services.state.stored import check_key, check_rows, refuse

FORMAT = "counters 2"
FAMILIES = ("pages", "increments")

EVER, DAY, HOUR = 0, 1, 2  # levels
HOUR_MS = 3_600_000
SIZE_MS = (0, DAY_MS, HOUR_MS)  # of a bucket, by level
KEPT = (0, 90, 168)  # buckets of a level before they expire: 90 days, 7 days
ACTIONS = len(ENGAGEMENTS)
ACTION_SHIFT, LEVEL_SHIFT = 24, 22
NUMBER_MASK = (1 << LEVEL_SHIFT) - 1
WHAT_KIND, WHAT_ACTION = 25, 22
MOST = 2**32 - 1  # that a bucket can hold
MOST_BUCKETS = 2**20 - 1  # of an object: as many as a place of the table can state

INCREMENT_BYTES = 16
_PAGE_KEY = struct.Struct(">HB")
_INCREMENTS_KEY = struct.Struct(">HQ")
_PAGE_HEAD = struct.Struct("<QI")
_OBJECT_BYTES = 13
_STORE = "counters"
_IS_KIND = np.zeros(256, bool)
_IS_KIND[list(Kind)] = True


class Increments(NamedTuple):
    """e increments. objects: uint64[e]; what: uint32[e], kind, action and hour; times: uint32[e]."""

    objects: U64
    what: U32
    times: U32


class Page(NamedTuple):
    """The n objects of a page with their buckets back to back, ascending by code within each."""

    objects: U64
    kinds: U8
    lengths: U32
    buckets: U64


def what(kinds: U8, actions: Array, hours: I64) -> U32:
    """Kind, index of the action and hour since 1970 of each increment in one number."""
    return (kinds.astype(np.int64) << WHAT_KIND | actions << WHAT_ACTION | hours).astype(np.uint32)


def latest_ms(increments: Increments) -> int:
    """When the hour of the latest increment began; 0 of none."""
    hours = increments.what & np.uint32(NUMBER_MASK)
    return int(hours.max()) * HOUR_MS if len(hours) else 0


def newest_ms(page: Page) -> int:
    """When the newest hour that a page has a bucket of began; 0 of none."""
    codes = page.buckets >> np.uint64(32)
    hours = codes[(codes >> np.uint64(LEVEL_SHIFT)) & np.uint64(3) == HOUR] & np.uint64(NUMBER_MASK)
    return int(hours.max()) * HOUR_MS if len(hours) else 0


def page_key(partition: int, page: int) -> bytes:
    """Key of a page."""
    return _PAGE_KEY.pack(partition, page)


def page_of(key: bytes) -> tuple[int, int]:
    """(partition, page) of a key of `pages`. Raises Damaged for another key."""
    check_key(_STORE, "pages", key, _PAGE_KEY.size)
    partition, page = _PAGE_KEY.unpack(key)
    return partition, page


def increments_key(partition: int, offset: int) -> bytes:
    """Key of a record's increments; also the bound before those of later records."""
    return _INCREMENTS_KEY.pack(partition, offset)


def increments_of(key: bytes) -> tuple[int, int]:
    """(partition, offset) of a key of `increments`. Raises Damaged for another key."""
    check_key(_STORE, "increments", key, _INCREMENTS_KEY.size)
    partition, offset = _INCREMENTS_KEY.unpack(key)
    return partition, offset


def pack_increments(increments: Increments) -> bytes:
    """A value of `increments`."""
    columns: Sequence[Array] = (
        increments.objects.astype("<u8"),
        increments.what.astype("<u4"),
        increments.times.astype("<u4"),
    )
    return b"".join(column.tobytes() for column in columns)


def unpack_increments(key: bytes, value: bytes) -> Increments:
    """The increments of a value, read in place. Raises Damaged when it can't be one: kernels index by its content."""
    check_rows(_STORE, "increments", key, value, INCREMENT_BYTES)
    n = len(value) // INCREMENT_BYTES
    of = np.frombuffer(value, "<u8", n)
    found = Increments(of, np.frombuffer(value, "<u4", n, 8 * n), np.frombuffer(value, "<u4", n, 12 * n))
    kinds, actions = found.what >> np.uint32(WHAT_KIND), (found.what >> np.uint32(WHAT_ACTION)) & np.uint32(7)
    wrong = np.flatnonzero(~_IS_KIND[kinds] | (actions >= ACTIONS))
    if len(wrong):
        row = int(wrong[0])
        refuse(_STORE, "increments", key, f"increment {row} is of kind {kinds[row]} and action {actions[row]}")
    return found


def pack_page(offset: int, page: Page) -> bytes:
    """The value of a page that holds the increments of records before `offset`."""
    columns = (page.objects.astype("<u8"), page.lengths.astype("<u4"), page.kinds, page.buckets.astype("<u8"))
    return _PAGE_HEAD.pack(offset, len(page.objects)) + b"".join(column.tobytes() for column in columns)


def unpack_page(key: bytes, value: bytes) -> tuple[int, Page]:
    """(offset, page) of a value. Raises Damaged when it can't be one: kernels index by its content."""
    if len(value) < _PAGE_HEAD.size:
        refuse(_STORE, "pages", key, f"{len(value)} bytes, expected at least {_PAGE_HEAD.size}")
    offset, n = _PAGE_HEAD.unpack_from(value)
    at = _PAGE_HEAD.size
    left = len(value) - at - _OBJECT_BYTES * n
    if left < 0 or left % 8:
        refuse(_STORE, "pages", key, f"{len(value)} bytes can't hold {n} objects and whole buckets")
    objects, lengths = np.frombuffer(value, "<u8", n, at), np.frombuffer(value, "<u4", n, at + 8 * n)
    kinds = np.frombuffer(value, np.uint8, n, at + 12 * n)
    page = Page(objects, kinds, lengths, np.frombuffer(value, "<u8", -1, at + _OBJECT_BYTES * n))
    _check_page(key, page)
    return offset, page


def _check_page(key: bytes, page: Page) -> None:
    """Lengths, kinds and codes are in range, and the buckets of each object ascend."""
    lengths, held = page.lengths.astype(np.int64), len(page.buckets)
    if int(lengths.sum()) != held:
        refuse(_STORE, "pages", key, f"its objects state {lengths.sum()} buckets, it holds {held}")
    if not _IS_KIND[page.kinds].all():
        refuse(_STORE, "pages", key, f"object {page.objects[~_IS_KIND[page.kinds]][0]} is of no kind that there is")
    if len(lengths) and not (int(lengths.min()) >= 1 and int(lengths.max()) <= MOST_BUCKETS):
        refuse(_STORE, "pages", key, f"an object has {lengths.min()} buckets, another {lengths.max()}")
    codes = (page.buckets >> np.uint64(32)).astype(np.int64)
    wrong = (codes >> ACTION_SHIFT >= ACTIONS) | (codes >> LEVEL_SHIFT & 3 > HOUR)
    if wrong.any():
        refuse(_STORE, "pages", key, f"bucket {int(wrong.argmax())} has code {codes[wrong][0]:#x}, which is none")
    within = np.ones(max(held - 1, 0), bool)
    within[np.cumsum(lengths)[:-1] - 1] = False  # from the last bucket of an object to the first of the next
    if (within & (codes[1:] <= codes[:-1])).any():
        refuse(_STORE, "pages", key, "the buckets of an object do not ascend")


def refuse_page(key: bytes, why: str) -> NoReturn:
    """Raise Damaged: a page holds an impossible value."""
    refuse(_STORE, "pages", key, why)


def check(family: str, key: bytes, value: bytes) -> None:
    """Raise Damaged for a value that the store can't have written."""
    if family == "pages":
        page_of(key)
        unpack_page(key, value)
    else:
        increments_of(key)
        unpack_increments(key, value)
