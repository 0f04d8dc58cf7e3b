"""A token says how far the log had come when a write was acknowledged; a read that carries it waits for that.

Bytes: 11 an entry, (topic u1, partition u2, offset u8) little-endian; the first names the epoch of the log
(services/log/history.py) as the offset of topic 255, its partition being the epoch's lowest bits, so that those of several
tokens stay apart. Text: URL-safe base64; several joined by ",".
"""

import base64
import binascii
import struct
from collections.abc import Mapping

from services.core.errors import InvalidArgument

ENTRY = struct.Struct("<BHQ")
EPOCH = 255  # the topic of an entry that names an epoch
MAX_BYTES = 64 * 1024

Reached = dict[tuple[int, int], int]  # (topic, partition) -> offset of the record


def encode(reached: Reached, epoch: int = 0) -> bytes:
    """The token for these offsets, of an epoch of the log; 0: of any."""
    head = ENTRY.pack(EPOCH, epoch & 0xFFFF, epoch) if epoch and reached else b""
    return head + b"".join(
        ENTRY.pack(topic, partition, offset) for (topic, partition), offset in sorted(reached.items())
    )


def decode(token: bytes) -> Reached:
    """The offsets of a token, or of several back to back (the furthest of each partition). Raises InvalidArgument."""
    if len(token) % ENTRY.size or len(token) > MAX_BYTES:
        raise InvalidArgument(f"token: {len(token)} bytes are no token; pass back what a publish answered")
    reached: Reached = {}
    for topic, partition, offset in ENTRY.iter_unpack(token):
        reached[topic, partition] = max(offset, reached.get((topic, partition), 0))
    return reached


def epochs(reached: Mapping[tuple[int, int], int]) -> list[int]:
    """The epochs that a token names."""
    return [offset for (topic, _), offset in reached.items() if topic == EPOCH]


def to_text(token: bytes) -> str:
    """The token as it stands in a URL."""
    return base64.urlsafe_b64encode(token).decode().rstrip("=")


def of_text(text: str) -> bytes:
    """The bytes of one or several tokens as they stand in a URL. Raises InvalidArgument."""
    try:
        padded = [part + "=" * (-len(part) % 4) for part in text.split(",") if part]
        parts = [base64.b64decode(part, altchars=b"-_", validate=True) for part in padded]
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument(f"token: {error}; pass back what a publish answered") from None
    token = b"".join(parts)
    decode(token)
    return token
