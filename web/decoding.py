"""Bodies with a Content-Encoding: gzip and deflate are read, never further than a limit, and all others are refused."""

import zlib

from services.core.errors import InvalidArgument
from web.errors import UnsupportedBody

CODINGS = ("gzip", "x-gzip", "deflate")
GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS  # zlib finds out which of the two it is


def coding_of(stated: list[str]) -> str:
    """The one coding of a body, "" for none. Raises UnsupportedBody."""
    named = [name.strip().lower() for line in stated for name in line.split(",")]
    codings = [name for name in named if name not in ("", "identity")]
    if len(codings) > 1 or (codings and codings[0] not in CODINGS):
        raise UnsupportedBody(
            f"content-encoding = {', '.join(codings)[:80]} is not allowed: one of gzip, deflate; or none"
        )
    return codings[0] if codings else ""


class Decoding:
    """Of one body, piece by piece."""

    def __init__(self, coding: str, most: int) -> None:
        """most: bytes; nothing beyond them is unpacked, apart from one that shows that there is more."""
        self._coding, self._left = coding, most + 1
        self._unpacking = zlib.decompressobj(GZIP_OR_ZLIB) if coding else None

    def of(self, sent: bytes) -> bytes:
        """A piece of the body, unpacked. Raises InvalidArgument where it is damaged."""
        if self._unpacking is None:
            return sent
        parts = []
        try:
            while sent and self._left > 0:
                if self._unpacking.eof:  # gzip may consist of several members
                    self._unpacking = zlib.decompressobj(GZIP_OR_ZLIB)
                parts.append(self._unpacking.decompress(sent, self._left))
                self._left -= len(parts[-1])
                sent = self._unpacking.unused_data or self._unpacking.unconsumed_tail
        except zlib.error as error:
            raise InvalidArgument(f"the body is not {self._coding}, as its content-encoding says: {error}") from None
        return b"".join(parts)

    def finish(self) -> None:
        """The body is over. Raises InvalidArgument where it was cut short."""
        if self._unpacking is not None and not self._unpacking.eof:
            raise InvalidArgument(f"the body is not {self._coding}, as its content-encoding says: it is cut short")
