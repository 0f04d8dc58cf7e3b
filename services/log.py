"""The log as its readers see it: records of topics and partitions, each with an offset that never changes.

Roadrunner's embedded log and Kafka both stand behind `Log`, and pass one contract test. A reader names the next offset
it wants for each partition and gets every record from there on, in order within a partition.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np

from services.columns import Array
from services.events import Batch
from services.topics import Topic

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


class Log(Protocol):
    """What a view needs of the log."""

    def subscribe(self, positions: Positions) -> Iterator[list[Record]]:
        """Chunks of records from the positions on; waits at the end, ends with `close`.

        Raises OutOfRange when a position is no longer retained, Unavailable when the log can't be reached.
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
