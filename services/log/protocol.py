"""The log: records of topics and partitions, each with an offset that never changes.

The embedded log, one on Kafka (`kafka.py`) and one in memory (`memory.py`) stand behind `Reader` and `Writer`, and pass one
contract test. A reader names the next offset that it wants of each partition and gets every record from there on, in order
within a partition.

Offsets of a partition increase and may have gaps between them; before the end there is none: the offset before `End.next`
is a record's. So a gap is no loss. A loss shows in the sequence of a writer, and in the log's identity and epochs
(`history.py`). A record that was made of another one names that one, its provenance, so that what was made twice is
applied once. `services/log/progress.py` holds views to both.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from protos import events_pb2 as pb
from services.core.batches import joined
from services.core.columns import U8, Array
from services.core.errors import InvalidArgument
from services.core.events import Batch
from services.core.topics import Topic

if TYPE_CHECKING:
    from services.log.history import LogHistory

LAST = 1 << 31  # in the part of a provenance: no other part of its source follows in this partition
Partition = tuple[int, int]  # (topic, partition)
Positions = dict[Partition, int]  # the next offset wanted of each


class Provenance(NamedTuple):
    """The origin of a record: the place of another record, and which of the parts made of that one this is.

    Parts for one partition are numbered from 0; the last of a log that splits records later has the bit LAST.
    """

    topic: int
    partition: int
    offset: int
    part: int

    @property
    def source(self) -> Partition:
        """The topic and partition that it came from."""
        return self.topic, self.partition


@dataclass(frozen=True, slots=True)
class Record:
    """One batch for one partition; an empty one is a marker, which moves positions and says nothing.

    content: a batch, or one as it came off the wire, whole (`batches.check_whole`); `rows` reads those of many.
    provenance: None for a record that was written as it is: its own place is its provenance. writer, sequence: its writer, and
    how many records the writer had written to this partition before it; a sequence of None is of a log that numbers its
    records itself, without gaps: its offset. repeated: events that it had, and that a view had applied before.
    """

    topic: Topic
    partition: int
    offset: int
    accepted_ms: int
    content: "Batch | pb.Batch"
    provenance: Provenance | None = None
    writer: int = 0
    sequence: int | None = None
    repeated: int = 0

    @property
    def batch(self) -> Batch:
        """Its rows. To make them of many small records one by one takes longer than to apply them."""
        return self.content if isinstance(self.content, Batch) else Batch.of(self.content)

    @property
    def message(self) -> pb.Batch:
        """Its batch as the wire has it."""
        return self.content.to_proto() if isinstance(self.content, Batch) else self.content

    @property
    def events(self) -> int:
        """How many rows it has."""
        return len(self.content) if isinstance(self.content, Batch) else self.content.n

    @property
    def actions(self) -> U8:
        """uint8[events]: the action of each row."""
        return self.content.action if isinstance(self.content, Batch) else np.frombuffer(self.content.action, np.uint8)

    def with_content(self, content: "Batch | pb.Batch") -> "Record":
        """The same record with other rows."""
        return replace(self, content=content)


@dataclass(frozen=True, slots=True)
class Draft:
    """A record to append: a batch for one partition, with its origin, if it was made of another record."""

    topic: Topic
    partition: int
    batch: Batch
    provenance: Provenance | None = None


class End(NamedTuple):
    """Of a partition: the first offset retained, the next to be written, the events ever appended (None: the log does not
    count them), and when the first record at or after the position that was asked about was accepted (0: none was asked about,
    or there is no such record).
    """

    first: int
    next: int
    events: int | None
    oldest_ms: int = 0


class Noted(NamedTuple):
    """What a consumer group notes of a partition: the offset at which the work goes on, the one that its next piece ends before
    (0: that is not decided), and the log's epoch in which it was noted (0: none was).
    """

    next: int = 0
    until: int = 0
    epoch: int = 0


class Reader(Protocol):
    """The log as views read it."""

    def history(self, timeout: float) -> "LogHistory":
        """The identity of the log and its epochs, within `timeout` seconds."""
        ...

    def subscribe(self, positions: Positions, epoch: int = 0) -> Iterator[list[Record]]:
        """Chunks of records from the positions on; waits at the end, ends with `close`. All are of the log in this epoch
        (0: in any), in which the positions were looked at.

        Raises OutOfRange when a position is no longer retained, Unavailable when the log can't be reached, or is in
        another epoch.
        """
        ...

    def ends(self, timeout: float, positions: Positions | None = None) -> dict[Partition, End]:
        """The range of every partition within `timeout` seconds, with `End.oldest_ms` at these positions."""
        ...

    def close(self) -> None:
        """Stop the subscriptions."""
        ...


class Writer(Protocol):
    """The log as its writers append to it."""

    def append(self, drafts: Sequence[Draft], timeout: float) -> list[int]:
        """Append records; the offset of each. They are durable, and readers see them, on return. The embedded log and one in
        memory append all of them or none; on Kafka each is acknowledged by itself, and after an error some may be there.

        Raises InvalidArgument for a topic or partition that the log has not, DeadlineExceeded when they were not durable within
        `timeout` seconds and may still become so, Exhausted or Unavailable when they can't be written.
        """
        ...


def check_drafts(drafts: Sequence[Draft], partitions: int) -> None:
    """Raise InvalidArgument for what does not go to a topic and one of so many partitions."""
    for draft in drafts:
        if draft.topic not in set(Topic) or not 0 <= draft.partition < partitions:
            raise InvalidArgument(
                f"topic {int(draft.topic)} partition {draft.partition}: topics are 0 to {max(Topic):d}, partitions 0 to "
                f"{partitions - 1}"
            )


def rows(records: Sequence[Record]) -> tuple[Batch, Array]:
    """All rows of the records in order, and the partition of each: int64[n]."""
    partitions = np.repeat([record.partition for record in records], [record.events for record in records])
    messages = [record.content for record in records if isinstance(record.content, pb.Batch)]
    if len(messages) == len(records):
        return joined(messages), partitions
    return Batch.concat([record.batch for record in records]), partitions


def relevant_rows(records: Sequence[Record], relevant: Array) -> tuple[Batch, Array] | None:
    """As `rows`, of those alone whose action is relevant (bool[256]); None where there is none."""
    some = [record for record in records if relevant[record.actions].any()]
    if not some:
        return None
    batch, partitions = rows(some)
    keep = relevant[batch.action]
    return (batch, partitions) if keep.all() else (batch.take(keep), partitions[keep])
