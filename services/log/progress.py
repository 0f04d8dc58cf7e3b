"""How far a view has come in a partition of the log, and what it applies of the records that come.

Offsets increase and may have gaps: a record below the position is skipped, and a gap is no error. Records that were lost show
in the sequence of their writer. A record that is not above the highest one that was applied of its source is a repeat, as of a
process that made something twice: it moves the position and counts, and its events are left out. Of a record that is its own
provenance the position itself says that.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from protos import events_pb2 as pb
from services.core.errors import NotReady
from services.core.tokens import Place
from services.core.topics import INGEST
from services.log.protocol import LAST, Partition, Record

_NOTHING = pb.Batch()
WRITERS = 256  # of a partition that are remembered: those that wrote last


class Written(NamedTuple):
    """Of a writer: its next sequence, and the offset of its last record."""

    sequence: int
    offset: int


class Reached(NamedTuple):
    """The highest provenance of a source that was applied."""

    offset: int
    part: int


@dataclass(slots=True)
class Progress:
    """Of one partition: the next offset, the events before it, and the writers and sources of its records.

    whole: the log was read from its beginning, so a writer that is not known begins with sequence 0.
    """

    next: int = 0
    events: int = 0
    whole: bool = True
    writers: dict[int, Written] = field(default_factory=dict)
    sources: dict[Partition, Reached] = field(default_factory=dict)

    def copy(self) -> "Progress":
        """One that moves on without this one."""
        return Progress(self.next, self.events, self.whole, self.writers.copy(), self.sources.copy())

    def pass_over(self, record: Record) -> Record | None:
        """The events to apply of the next record, after which this stands: without events if it is a repeat, nothing if it
        lies below the position. Raises NotReady when one before it was lost.
        """
        if record.offset < self.next:
            return None
        if self._is_repeat(record):
            record = replace(record, content=_NOTHING, repeated=record.events + record.repeated)
        self.move(record)
        return record

    def _is_repeat(self, record: Record) -> bool:
        of, expected = record.provenance, self._expected(record)
        sequence = record.offset if record.sequence is None else record.sequence
        if sequence > expected:
            raise NotReady(_lost(record, expected))
        if sequence < expected or of is None:
            return sequence < expected
        reached = self.sources.get(of.source)
        return reached is not None and (of.offset, of.part) <= reached

    def _expected(self, record: Record) -> int:
        """The sequence that its writer has next; of one that is not known, and may have written before, any."""
        if record.sequence is None:
            return self.next
        if (written := self.writers.get(record.writer)) is not None:
            return written.sequence
        return 0 if self.whole and len(self.writers) < WRITERS else record.sequence

    def has(self, place: Place, offset: int) -> bool:
        """Whether the record at this offset was applied, or all that was made of the accepted batch there (tokens.py)."""
        if len(place) == 2:
            return self.next > offset
        reached = self.sources.get((INGEST, place[2]))
        return reached is not None and reached >= (offset, LAST)

    def move(self, record: Record) -> None:
        """Stand after a record that was applied."""
        self.next = record.offset + 1
        self.events += record.events + record.repeated
        if record.sequence is not None:
            before = self.writers.get(record.writer, Written(0, 0))
            self.writers[record.writer] = Written(max(before.sequence, record.sequence + 1), record.offset)
            if len(self.writers) > WRITERS:
                del self.writers[min(self.writers, key=lambda writer: self.writers[writer].offset)]
        if (of := record.provenance) is not None:
            reached = Reached(of.offset, of.part)
            self.sources[of.source] = max(reached, self.sources.get(of.source, reached))


def late(place: Place, progress: Progress, offset: int) -> str:
    """What a view still lacks of what a token asks for."""
    at = f"not caught up: topic {place[0]} partition {place[1]}"
    if len(place) == 2:
        return f"{at} is at {progress.next}, the token asks for {offset + 1}"
    reached = progress.sources.get((INGEST, place[2]))
    stands = f"offset {reached.offset}" if reached else "none"
    return f"{at} has {stands} of ingest partition {place[2]}, the token asks for {offset}"


def _lost(record: Record, expected: int) -> str:
    at = f"topic {int(record.topic)} partition {record.partition}: offset {record.offset} came"
    if record.sequence is None:
        return f"{at}, {expected} is next"
    return f"{at} with number {record.sequence} of its writer {record.writer:016x}, whose number {expected} is next"
