"""Bytes on disk of rockstore. All keys begin with the partition (u2), all integers in keys are big-endian.

| family  | key                          | value                            |
|---------|------------------------------|----------------------------------|
| objects | partition, kind u1, id u8    | header, interests, title, link   |

The header is HEADER, little-endian: dates and numbers, and how long the rest is. Interests are u8 each, texts UTF-8.
One packed value an object: a read decodes thousands of headers as one array.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from services.columns import F32, I64, U64, Array, Ragged

FORMAT = "rockstore 1"
FAMILIES = ("objects",)

PIN, BOARD, USER, INTEREST = 1, 2, 3, 4  # kinds of objects; as ObjectKind on the wire
CREATED, TAKEN_DOWN = 1, 2  # flags

HEADER = np.dtype(
    [
        ("at_ms", "<i8"),
        ("owner", "<u8"),
        ("quality", "<f4"),
        ("interests", "<u2"),  # how many
        ("title", "<u2"),  # bytes
        ("link", "<u2"),
        ("flags", "u1"),
        ("spare", "u1"),
    ]
)
_HEADER = struct.Struct("<qQfHHHBx")
_FLAGS_AT = 26
_KEY = struct.Struct(">HBQ")


@dataclass(slots=True)
class Object:
    """What is known of one object, to be changed and packed again. interests: an ordered set."""

    at_ms: int = 0
    owner: int = 0
    quality: float = float("nan")
    flags: int = 0
    title: bytes = b""
    link: bytes = b""
    interests: dict[int, None] = field(default_factory=dict)


class Columns(NamedTuple):
    """What is known of n objects: an array of n each; titles and links as bytes, interests as ids."""

    found: Array
    titles: Ragged
    links: Ragged
    owners: U64
    quality: F32
    at_ms: I64
    taken_down: Array
    interests: Ragged


def object_key(partition: int, kind: int, id_: int) -> bytes:
    """Key of an object."""
    return _KEY.pack(partition, kind, id_)


def id_of(key: bytes) -> int:
    """The id that a key ends in."""
    return int.from_bytes(key[3:])


def same_kind(key: bytes, other: bytes) -> bool:
    """Whether two keys are of one partition and kind."""
    return key[:3] == other[:3]


def is_taken_down(value: bytes) -> bool:
    """Whether the object of a value is a pin taken down or a board deleted."""
    return bool(value[_FLAGS_AT] & TAKEN_DOWN)


def pack_object(known: Object) -> bytes:
    """The value of an object."""
    interests, title, link = known.interests, known.title, known.link
    sizes = (len(interests), len(title), len(link))
    header = _HEADER.pack(known.at_ms, known.owner, known.quality, *sizes, known.flags)
    return b"".join((header, struct.pack(f"<{len(interests)}Q", *interests), title, link))


def unpack_object(value: bytes) -> Object:
    """The object of a value."""
    at_ms, owner, quality, interests, title, _, flags = _HEADER.unpack_from(value)
    ids = struct.unpack_from(f"<{interests}Q", value, _HEADER.size)
    text = _HEADER.size + 8 * interests
    return Object(at_ms, owner, quality, flags, value[text : text + title], value[text + title :], dict.fromkeys(ids))


_UNKNOWN = pack_object(Object())


def unpack_columns(values: Sequence[bytes | None]) -> Columns:
    """The objects of n values; one without a value is not found, and nothing is stated of it."""
    present, size = [value or _UNKNOWN for value in values], _HEADER.size
    headers = np.frombuffer(b"".join([value[:size] for value in present]), HEADER)
    titles_at = size + 8 * headers["interests"].astype(np.int64)
    links_at = titles_at + headers["title"]
    bounds = list(zip(present, titles_at.tolist(), links_at.tolist(), strict=True))
    interests = b"".join([value[size:title] for value, title, _ in bounds])
    titles = b"".join([value[title:link] for value, title, link in bounds])
    links = b"".join([value[link:] for value, _, link in bounds])
    return Columns(
        np.array([value is not None for value in values], bool),
        _runs(headers["title"], titles, "u1"),
        _runs(headers["link"], links, "u1"),
        headers["owner"],
        headers["quality"],
        headers["at_ms"],
        (headers["flags"] & TAKEN_DOWN) > 0,
        _runs(headers["interests"], interests, "<u8"),
    )


def _runs(lengths: Array, data: bytes, dtype: str) -> Ragged:
    return Ragged(np.cumsum(lengths, dtype=np.uint32), np.frombuffer(data, dtype))
