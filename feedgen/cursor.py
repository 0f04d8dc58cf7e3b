"""A cursor says which pins the pages before have shown. Stateless, signed, good for one user's one feed, at any time.

Bytes: version u1, feed u1, user u8, then zlib of the differences of the ascending pin ids as <u8; then the first 16
bytes of HMAC-SHA256 over all of that. In text: URL-safe base64 without padding.
"""

import base64
import binascii
import hashlib
import hmac
import os
import struct
import tempfile
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np

from services.columns import U64
from services.errors import InvalidArgument
from services.events import Surface

VERSION = 1
MAX_SHOWN = 2_000  # pins; a reader who scrolls further begins anew, and what was seen is known by then
MAX_TEXT = 32_000
_HEAD = struct.Struct("<BBQ")
_SIGNATURE = 16


class Cursors:
    """Makes and reads cursors with one secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, user: int, feed: Surface, shown: U64) -> str:
        """The cursor after these pins; empty when there were too many to go on."""
        if len(shown) > MAX_SHOWN:
            return ""
        pins = np.sort(shown)
        steps = pins.astype("<u8")
        steps[1:] -= pins[:-1]
        body = _HEAD.pack(VERSION, feed, user) + zlib.compress(steps.tobytes(), 1)
        return base64.urlsafe_b64encode(body + self._sign(body)).decode().rstrip("=")

    def read(self, text: str, user: int, feed: Surface) -> U64:
        """The pins shown so far, ascending: uint64[n]; none for an empty cursor.

        Raises InvalidArgument for a cursor that was changed, or made for another user or feed.
        """
        if not text:
            return np.empty(0, np.uint64)
        body = self._checked(text)
        version, of_feed, of_user = _HEAD.unpack_from(body)
        if version != VERSION:
            raise InvalidArgument(f"cursor: version {version} is not {VERSION}; begin without a cursor")
        if (of_feed, of_user) != (feed, user):
            raise InvalidArgument(
                f"cursor: belongs to user {of_user}'s {Surface(of_feed).name.lower()} feed, "
                f"not to user {user}'s {feed.name.lower()} feed"
            )
        steps = np.frombuffer(zlib.decompress(body[_HEAD.size :]), "<u8")
        return np.cumsum(steps, dtype=np.uint64)

    def _checked(self, text: str) -> bytes:
        if len(text) > MAX_TEXT:
            raise InvalidArgument(f"cursor: {len(text)} characters; at most {MAX_TEXT} are allowed")
        try:
            data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except (binascii.Error, ValueError):
            raise InvalidArgument("cursor: is not one; pass back what the page before answered, or none") from None
        body, signature = data[:-_SIGNATURE], data[-_SIGNATURE:]
        if len(body) < _HEAD.size or not hmac.compare_digest(signature, self._sign(body)):
            raise InvalidArgument("cursor: was changed, or made by another mesh; begin without a cursor")
        return body

    def _sign(self, body: bytes) -> bytes:
        return hashlib.blake2b(body, key=self._secret, digest_size=_SIGNATURE).digest()  # RFC 7693: keyed, it is a MAC


def secret_of(data: Path) -> bytes:
    """The data folder's secret, made the first time, so that cursors outlive a restart.

    Feedgen and the edge may both be the first to ask: it appears whole, and whoever comes second takes the other's.
    """
    path = data / "cursor.secret"
    if not path.exists():
        with tempfile.NamedTemporaryFile(dir=data, prefix="cursor.") as draft:  # of mode 0600
            draft.write(os.urandom(32))
            draft.flush()
            os.fsync(draft.fileno())
            with suppress(FileExistsError):
                os.link(draft.name, path)
    return path.read_bytes()
