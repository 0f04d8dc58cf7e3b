"""The log as its readers see it: records of topics and partitions, each with an offset that never changes.

The embedded log (`embedded.py`) and one in memory (`memory.py`) stand behind `Reader`, and pass one contract test. A reader
names the next offset that it wants of each partition and gets every record from there on, in order within a partition.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from services.core.columns import Array
from services.core.events import Batch
from services.core.topics import Topic

if TYPE_CHECKING:
    from services.log.history import History

Partition = tuple[int, int]  # (topic, partition)
Positions = dict[Partition, int]  # the next offset wanted of each


@dataclass(frozen=True, slots=True)
class Record:
    """One batch for one partition."""

    topic: Topic
    partition: int
    offset: int
    accepted_ms: int
    batch: Batch


class End(NamedTuple):
    """Of a partition: the first offset retained, the next to be written, and the events ever appended."""

    first: int
    next: int
    events: int


class Reader(Protocol):
    """What a view needs of the log."""

    def history(self, timeout: float) -> "History":
        """The identity of the log and its epochs, within `timeout` seconds."""
        ...

    def subscribe(self, positions: Positions, epoch: int = 0) -> Iterator[list[Record]]:
        """Chunks of records from the positions on; waits at the end, ends with `close`. All are of the log in this epoch
        (0: in any), in which the positions were looked at.

        Raises OutOfRange when a position is no longer retained, Unavailable when the log can't be reached, or is in
        another epoch.
        """
        ...

    def ends(self, timeout: float) -> dict[Partition, End]:
        """The range of every partition within `timeout` seconds."""
        ...

    def close(self) -> None:
        """Stop the subscriptions."""
        ...


def kept(records: Sequence[Record], relevant: Array) -> list[Record]:
    """The records with those rows alone whose action is relevant (bool[256]); a record without one is left out."""
    found = []
    for record in records:
        keep = relevant[record.batch.action]
        if keep.any():
            found.append(record if keep.all() else replace(record, batch=record.batch.take(keep)))
    return found


def rows(records: Sequence[Record]) -> tuple[Batch, Array]:
    """All rows of the records in order, and the partition of each: int64[n]."""
    lengths = [len(record.batch) for record in records]
    return Batch.concat([record.batch for record in records]), np.repeat([r.partition for r in records], lengths)
