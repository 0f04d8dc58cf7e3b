"""A token says how far the log had come when a write was acknowledged; a read that carries it waits for that.

Bytes: 11 an entry, (topic u1, partition u2, offset u8) little-endian; the first names the epoch of the log
(services/log/history.py) as the offset of topic 255, its partition being the epoch's lowest bits, so that those of several
tokens stay apart. On a log that splits accepted batches later (Kafka), an entry names the batch that a view waits for: the topic
with 128 added, the partition where the view gets what was made of it (65535: every one of the topic), and in place of an offset
the ingest partition u2 and the offset there u6 of the batch. Text: URL-safe base64; several joined by ",".
"""

import base64
import binascii
import struct
from collections.abc import Iterable, Mapping
from typing import Any

from services.core.errors import InvalidArgument

ENTRY = struct.Struct("<BHQ")
EPOCH = 255  # the topic of an entry that names an epoch
MAX_BYTES = 64 * 1024
_MADE_OF = 128  # added to the topic of an entry that names an accepted batch
EVERY = 0xFFFF  # as the partition of such an entry: every partition of the topic
_OFFSET_BITS = 48

#: (topic, partition) -> offset of the record; (topic, partition, ingest partition) -> offset of the accepted batch there.
Place = tuple[int, int] | tuple[int, int, int]
Reached = dict[Any, int]  # not of Place: a dict of places of one kind is one too


def encode(reached: Reached, epoch: int = 0) -> bytes:
    """The token for these offsets, of an epoch of the log; 0: of any."""
    head = ENTRY.pack(EPOCH, epoch & 0xFFFF, epoch) if epoch and reached else b""
    return head + b"".join(_entry(place, offset) for place, offset in sorted(reached.items()))


def _entry(place: Place, offset: int) -> bytes:
    if len(place) == 2:
        return ENTRY.pack(*place, offset)
    topic, partition, source = place
    return ENTRY.pack(_MADE_OF | topic, partition, source << _OFFSET_BITS | offset)


def decode(token: bytes) -> Reached:
    """The offsets of a token, or of several back to back (the furthest of each partition). Raises InvalidArgument."""
    if len(token) % ENTRY.size or len(token) > MAX_BYTES:
        raise InvalidArgument(f"token: {len(token)} bytes are no token; pass back what a publish answered")
    reached: Reached = {}
    for topic, partition, offset in ENTRY.iter_unpack(token):
        place: Place = (topic, partition)
        if topic != EPOCH and topic & _MADE_OF:
            place = (topic ^ _MADE_OF, partition, offset >> _OFFSET_BITS)
            offset &= (1 << _OFFSET_BITS) - 1  # noqa: PLW2901
        reached[place] = max(offset, reached.get(place, 0))
    return reached


def epochs(reached: Mapping[Any, int]) -> list[int]:
    """The epochs that a token names."""
    return [offset for place, offset in reached.items() if place[0] == EPOCH]


def own(reached: Mapping[Any, int], partitions: Iterable[tuple[int, int]]) -> Reached:
    """What of a token concerns these partitions of topics."""
    wanted, found = frozenset(partitions), Reached()
    for place, offset in reached.items():
        if place[:2] in wanted:
            found[place] = max(offset, found.get(place, 0))
        elif len(place) == 3 and place[1] == EVERY:
            for topic, partition in wanted:
                if topic == place[0]:
                    at = (topic, partition, place[2])
                    found[at] = max(offset, found.get(at, 0))
    return found


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
