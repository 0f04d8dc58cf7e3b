"""Records as they lie in the log, read at their offsets."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from roadrunner import layout
from services.log.protocol import Partition, Provenance
from services.state.database import Database


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as it lies in the log, its batch still serialised. provenance: None for its own place."""

    topic: int
    partition: int
    offset: int
    accepted_ms: int
    batch: bytes
    provenance: Provenance | None = None

    @property
    def key(self) -> bytes:
        """Where it lies."""
        return layout.record_key(self.topic, self.partition, self.offset)


def records(db: Database, at: Partition, offsets: range) -> Iterator[StoredRecord | None]:
    """The record at each offset, None where there is none; fetched by ever more at once: few are fetched in vain however
    large they are.
    """
    family, count = db.family("records"), 1
    while offsets:
        some, offsets = offsets[:count], offsets[count:]
        keys = [layout.record_key(*at, offset) for offset in some]
        for offset, key, value in zip(some, keys, family.get(keys), strict=True):
            if value is None:
                yield None
            else:
                of = layout.record_of(key, value)
                yield StoredRecord(*at, offset, of.accepted_ms, of.batch, of.provenance)
        count *= 2


def accepted_ms(db: Database, offsets: Mapping[Partition, int]) -> dict[Partition, int]:
    """When the record at the offset of each partition was accepted; of those that have one there."""
    keys = [layout.record_key(*at, offset) for at, offset in offsets.items()]
    found = zip(offsets, keys, db.family("records").get(keys), strict=True)
    return {at: layout.record_of(key, value).accepted_ms for at, key, value in found if value is not None}
