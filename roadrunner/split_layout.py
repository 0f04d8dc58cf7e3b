"""Bytes on disk of the splitter, which can be made again from the log.

| family | key | value |
|---|---|---|
| `accepted` | ingest partition u2, offset u8 (big-endian) | as in `layout.py`: when it was appended, and the keys of its events |
| `boards`, `qualities` | as in `layout.py` | as there |
"""

import struct

from roadrunner import layout
from services.core.columns import U64
from services.state.stored import check_key

FORMAT = "splitter 1"
FAMILIES = ("accepted", "boards", "qualities")
_ACCEPTED = struct.Struct(">HQ")
_STORE = "roadrunner"


def accepted_key(partition: int, offset: int) -> bytes:
    """Key of the ids of a record of `ingest`."""
    return _ACCEPTED.pack(partition, offset)


def accepted_of(key: bytes, value: bytes) -> tuple[int, U64]:
    """(when it was appended, keys of its events uint64[n]). Raises Damaged for another value."""
    check_key(_STORE, "accepted", key, _ACCEPTED.size)
    return layout.accepted_of(key, value)


def check(family: str, key: bytes, value: bytes) -> None:
    """Raise Damaged for what the splitter can't have written."""
    if family == "accepted":
        accepted_of(key, value)
    else:
        layout.check(family, key, value)
