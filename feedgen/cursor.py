"""A cursor says which pins the pages before have shown. Stateless, signed, good for one user's one feed, at any time.

Bytes: version u1, feed u1, user u8, pins u2, bits u1, marks u2, low u1, digest u8, then the marks of the pins as feedgen/shown.py
packs them; then 16 bytes of keyed BLAKE2b over all of that. In text: URL-safe base64 without padding, at most 1,500
characters.
"""

import base64
import binascii
import hashlib
import hmac
import os
import struct
from contextlib import suppress

from feedgen.shown import NOTHING, WORD, Shown, Steps
from services.blob.opening import Place, open_blobs
from services.core.errors import Conflict, Damaged, InvalidArgument
from services.core.events import Surface
from services.rpc.mesh import Mesh

VERSION = 2
SECRET = "cursor.secret"  # among the blobs
SECRET_BYTES = 32
MAX_SHOWN = 2_000  # pins; a reader who scrolls further begins anew, and the pins seen are known by then
MAX_TEXT = 32_000  # read, so that a cursor of an older version is refused as one; new ones are far shorter
_HEAD, _PINS = struct.Struct("<BBQ"), struct.Struct("<HBHBQ")
_SIGNATURE = 16


class Cursors:
    """Makes and reads cursors with one secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, user: int, feed: Surface, shown: Shown) -> str:
        """The cursor after these pins; empty when there were too many to go on."""
        if shown.count > MAX_SHOWN:
            return ""
        steps = shown.steps
        pins = _PINS.pack(shown.count, shown.bits, len(shown.marks), steps.low, shown.digest)
        body = _HEAD.pack(VERSION, feed, user) + pins + steps.packed()
        return base64.urlsafe_b64encode(body + self._sign(body)).decode().rstrip("=")

    def read(self, text: str, user: int, feed: Surface) -> Shown:
        """The pins shown so far; none for an empty cursor.

        Raises InvalidArgument for a cursor that was changed, or made for another user or feed.
        """
        if not text:
            return NOTHING
        body = self._checked(text)
        version, of_feed, of_user = _HEAD.unpack_from(body)
        if version != VERSION:
            raise InvalidArgument(f"cursor: version {version} is not {VERSION}; begin without a cursor")
        if (of_feed, of_user) != (feed, user):
            raise InvalidArgument(
                f"cursor: belongs to user {of_user}'s {Surface(of_feed).name.lower()} feed, "
                f"not to user {user}'s {feed.name.lower()} feed"
            )
        count, bits, marks, low, digest = _PINS.unpack_from(body, _HEAD.size)
        return Shown(count, min(bits, WORD), Steps.unpack(body[_HEAD.size + _PINS.size :], marks, low), digest)

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


def secret_of(place: Place) -> bytes:
    """The mesh's secret, made the first time, so that cursors outlive a restart, and of all hosts that share their blobs.

    Several processes may be the first to ask: it appears whole, and the others take the first one's.
    """
    if isinstance(place, Mesh) and (place.data / SECRET).exists():  # made before its blobs lay elsewhere
        place = place.data
    blobs = open_blobs(place)
    if not blobs.exists(SECRET):
        with suppress(Conflict):
            blobs.swap(SECRET, None, os.urandom(SECRET_BYTES))
    secret = blobs.get(SECRET)
    if len(secret) != SECRET_BYTES:
        raise Damaged(
            f"{SECRET}: is damaged: it has {len(secret)} bytes, not {SECRET_BYTES}; restore it from a backup, or remove it: "
            "readers' old cursors end then"
        )
    return secret
