"""Small JSON files with a checksum as their last field, so that a bit that flips in one is noticed.

The checksum is of the bytes before it, so a file of an older or newer version is checked too, whatever fields it has. One
without a checksum, written by hand or before there were any, is read as it is.
"""

import re
import zlib
from typing import TypeVar

import msgspec
from msgspec import Struct

T = TypeVar("T")
_SUM = re.compile(rb'(.*),\s*"checksum":\s*"([0-9a-f]{8})"\s*}\s*', re.DOTALL)


def encoded(content: Struct | dict[str, T]) -> bytes:
    """As it is written: for people to read too. The content has a field at least."""
    body: bytes = msgspec.json.format(msgspec.json.encode(content), indent=2)
    head = body.rstrip()[:-1].rstrip()
    return head + b',\n  "checksum": "%08x"\n}\n' % zlib.crc32(head)


def decoded(data: bytes, kind: type[T]) -> T:
    """The content of a file. Raises msgspec.MsgspecError, also when it is not what was written."""
    found = _SUM.fullmatch(data)
    if found is not None:
        if zlib.crc32(found[1]) != int(found[2], 16):
            raise msgspec.DecodeError(
                f"damaged: its checksum is {found[2].decode()}, its content's {zlib.crc32(found[1]):08x}"
            )
        data = found[1] + b"}"
    try:
        return msgspec.json.decode(data, type=kind)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"damaged: {error}") from None
