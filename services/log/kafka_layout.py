"""Bytes of the log on Kafka: the header that each of its records carries, and the record that says which log it is.

A record's value is a serialised Batch, as any consumer can read it. Its header `feedmesh` (little-endian):

| bytes | what |
|---|---|
| version u1, writer u8, sequence u8 | the writer, and how many records it had written to this partition before |
| topic u1, partition u2, offset u8, part u4 | the provenance, of a record that was made of another one; else absent |

The topic `meta` holds one record that counts, the last: JSON with the numbers of partitions and the epochs.
"""

import struct

import msgspec
from msgspec import Struct

from services.core.errors import Damaged
from services.log.history import Epoch
from services.log.protocol import Partition, Provenance

HEADER = "feedmesh"
VERSION = 1
FORMAT = "feedmesh log 1"
META_KEY = b"log"
_HEAD = struct.Struct("<BQQ")
_MADE_OF = struct.Struct("<BHQI")


def header(writer: int, sequence: int, provenance: Provenance | None) -> bytes:
    """The header of a record."""
    head = _HEAD.pack(VERSION, writer, sequence)
    return head if provenance is None else head + _MADE_OF.pack(*provenance)


def header_of(data: bytes, where: str) -> tuple[int, int, Provenance | None]:
    """(writer, sequence, provenance) of a header; where: of which record, for the error. Raises Damaged for anything else."""
    if len(data) not in (_HEAD.size, _HEAD.size + _MADE_OF.size) or data[0] != VERSION:
        raise Damaged(
            f"{where}: its header {HEADER!r} has {len(data)} bytes, version {data[0] if data else 'none'}; allowed are "
            f"{_HEAD.size} or {_HEAD.size + _MADE_OF.size} bytes of version {VERSION}"
        )
    _, writer, sequence = _HEAD.unpack_from(data)
    of = Provenance(*_MADE_OF.unpack_from(data, _HEAD.size)) if len(data) > _HEAD.size else None
    return writer, sequence, of


class Start(Struct, frozen=True):
    """Where an epoch began in a partition."""

    topic: int
    partition: int
    offset: int


class Began(Struct, frozen=True):
    """An epoch; hexadecimal, since numbers of JSON lose digits of 64 bits elsewhere."""

    number: str
    starts: list[Start]


class Meta(Struct, frozen=True, forbid_unknown_fields=True):
    """What the topic `meta` says of the log."""

    partitions: int
    epochs: list[Began]
    format: str = FORMAT
    ingest: int = 0  # partitions of accepted batches; 0: as many as of the others

    @property
    def of_ingest(self) -> int:
        """Partitions of accepted batches."""
        return self.ingest or self.partitions

    def history(self) -> list[Epoch]:
        """Its epochs, oldest first."""
        return [
            Epoch(int(began.number, 16), {(s.topic, s.partition): s.offset for s in began.starts})
            for began in self.epochs
        ]


def began(number: int, starts: dict[Partition, int]) -> Began:
    """An epoch as `meta` has it; partitions that were empty are left out."""
    return Began(f"{number:016x}", [Start(*at, offset) for at, offset in sorted(starts.items()) if offset])


def meta_value(meta: Meta) -> bytes:
    """The record of `meta`."""
    return msgspec.json.encode(meta)


def meta_of(value: bytes, topic: str) -> Meta:
    """The record of the topic `meta`. Raises Damaged for what is none, or of another format."""
    try:
        meta = msgspec.json.decode(value, type=Meta)
    except msgspec.MsgspecError as error:
        raise Damaged(f"Kafka topic {topic}: its record is none of this mesh: {error}") from None
    if meta.format != FORMAT or not meta.epochs:
        raise Damaged(f"Kafka topic {topic}: says {meta.format!r} of {len(meta.epochs)} epochs; allowed is {FORMAT!r}")
    return meta
