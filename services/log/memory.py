"""A log in memory, for replays of the past and for tests: its records are read back until the process ends."""

import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from services.core.clock import Clock, wall_clock
from services.core.errors import OutOfRange, Unavailable
from services.core.events import Batch
from services.core.topics import Topic, split
from services.log.history import Epoch, LogHistory, new_identity, new_number
from services.log.protocol import Draft, End, Partition, Positions, Record, check_drafts

CHUNK = 256  # records that a reader gets in one chunk
ALL = tuple(Topic)


class MemoryLog:
    """Takes batches, splits them over topics and partitions, and hands out readers and writers. Thread-safe."""

    def __init__(
        self,
        partitions: int,
        retain: bool = True,
        first: Mapping[Partition, int] | None = None,
        gaps: int = 0,
    ) -> None:
        """retain: False for one that only hands out records with their offsets, and has no readers.
         first: the offsets at which partitions begin, where that is not 0.
        gaps: before a record up to so many offsets are left out, and each writer numbers its records, as on Kafka.
        """
        self.partitions, self._retain, self._gaps = partitions, retain, gaps
        self._first = dict(first or {})
        self._next: dict[Partition, int] = dict(self._first)
        self._events: dict[Partition, int] = defaultdict(int)
        self._written: dict[tuple[Partition, int], int] = defaultdict(int)  # records, by writer
        self._records: dict[Partition, list[Record]] = defaultdict(list)
        self._grown = threading.Condition()
        self._history = LogHistory(new_identity(), [Epoch(new_number(), dict(self._first))])
        self._own = self.writer()

    def append(self, batch: Batch, topics: Sequence[Topic] = ALL, accepted_ms: int = 0) -> list[Record]:
        """Append a batch to every partition of these topics where rows of it belong; its records."""
        parts = [part for part in split(batch, self.partitions) if part.topic in topics]
        return [self.append_to(part.topic, part.partition, part.batch, accepted_ms) for part in parts]

    def append_to(self, topic: Topic, partition: int, batch: Batch, accepted_ms: int = 0) -> Record:
        """Append a batch to one partition, as it is; its record."""
        return self.put([Draft(topic, partition, batch)], self._own.number, accepted_ms)[0]

    def put(self, drafts: Sequence[Draft], writer: int, accepted_ms: int) -> list[Record]:
        """Append what a writer wrote; the records."""
        with self._grown:
            records = [self._put(draft, writer, accepted_ms) for draft in drafts]
            self._grown.notify_all()
        return records

    def _put(self, draft: Draft, writer: int, accepted_ms: int) -> Record:
        at = (int(draft.topic), draft.partition)
        offset, sequence = self._next.get(at, 0), None
        if self._gaps:
            sequence = self._written[at, writer]
            self._written[at, writer] += 1
            offset += (7 * len(self._written) + 3 * sequence + draft.partition) % (self._gaps + 1)
        numbered = (0, None) if sequence is None else (writer, sequence)
        record = Record(
            Topic(draft.topic), draft.partition, offset, accepted_ms, draft.batch, draft.provenance, *numbered
        )
        self._next[at] = offset + 1
        self._events[at] += len(draft.batch)
        if self._retain:
            self._records[at].append(record)
        return record

    def drop_before(self, positions: Positions) -> None:
        """Forget the records before these positions, as retention does."""
        with self._grown:
            for at, position in positions.items():
                self._first[at] = max(self._first.get(at, 0), min(position, self._next.get(at, 0)))
                self._records[at] = self._from(at, self._first[at], len(self._records[at]))

    def restart(self) -> None:
        """Begin another epoch, as a log does that is opened again: its readers are cut off."""
        with self._grown:
            epochs = [*self._history.epochs, Epoch(new_number(), dict(self._next))]
            self._history = LogHistory(self._history.identity, epochs)
            self._grown.notify_all()

    def reader(self) -> "MemoryReader":
        """A reader of its own."""
        return MemoryReader(self)

    def writer(self, clock: Clock = wall_clock) -> "MemoryWriter":
        """A writer of its own, with its own numbers. clock: when what it appends is accepted."""
        return MemoryWriter(self, clock)

    def history(self) -> LogHistory:
        """Its identity and its epochs."""
        return self._history

    def ends(self, positions: Positions | None = None) -> dict[Partition, End]:
        """The range of every partition, with `End.oldest_ms` at these positions."""
        every = [(int(topic), p) for topic in Topic for p in range(self.partitions)]
        with self._grown:
            ends = {at: self._end(at) for at in every}
            for at, position in (positions or {}).items():
                if at in ends and (some := self._from(at, position, 1)):
                    ends[at] = ends[at]._replace(oldest_ms=some[0].accepted_ms)
        return ends

    def _end(self, at: Partition) -> End:
        return End(self._first.get(at, 0), self._next.get(at, 0), self._events[at])

    def read(self, positions: Positions, epoch: int, closed: threading.Event) -> list[Record]:
        """The next records from these positions on; waits for some, and answers with none once `closed`.

        Raises OutOfRange, Unavailable.
        """
        if not self._retain:
            raise Unavailable("this log keeps no records")
        with self._grown:
            while not closed.is_set():
                if epoch != self._history.epoch:
                    raise Unavailable("the log has begun another epoch; look at its history again")
                if found := [record for at, offset in positions.items() for record in self._some(at, offset)]:
                    return found
                self._grown.wait()
        return []

    def _some(self, at: Partition, offset: int) -> list[Record]:
        end = self._end(at)
        if not end.first <= offset <= end.next:
            raise OutOfRange(
                f"topic {at[0]} partition {at[1]}: offset {offset} is not in the log: it has {end.first} to {end.next}"
            )
        return self._from(at, offset, CHUNK)

    def _from(self, at: Partition, offset: int, most: int) -> list[Record]:
        """The first records of a partition at or after an offset."""
        records = self._records[at]
        start = bisect_left(records, offset, key=lambda record: record.offset)
        return records[start : start + most]

    def wake(self) -> None:
        """Have readers that wait look again whether they were closed."""
        with self._grown:
            self._grown.notify_all()


class MemoryReader:
    """A `Reader` of a log in memory (services/log/protocol.py)."""

    def __init__(self, log: MemoryLog) -> None:
        self._log, self._closed = log, threading.Event()

    def history(self, timeout: float) -> LogHistory:
        """The identity of the log and its epochs."""
        return self._log.history()

    def subscribe(self, positions: Positions, epoch: int = 0) -> Iterator[list[Record]]:
        """Chunks of records from the positions on, until `close`. Raises OutOfRange, Unavailable."""
        positions, epoch = dict(positions), epoch or self._log.history().epoch
        while records := self._log.read(positions, epoch, self._closed):
            for record in records:
                positions[int(record.topic), record.partition] = record.offset + 1
            yield records

    def ends(self, timeout: float, positions: Positions | None = None) -> dict[Partition, End]:
        """The range of every partition, with `End.oldest_ms` at these positions."""
        return self._log.ends(positions)

    def close(self) -> None:
        """End the subscriptions."""
        self._closed.set()
        self._log.wake()


class MemoryWriter:
    """A `Writer` of a log in memory (services/log/protocol.py)."""

    def __init__(self, log: MemoryLog, clock: Clock) -> None:
        self._log, self._clock, self.number = log, clock, new_number()

    def append(self, drafts: Sequence[Draft], timeout: float) -> list[int]:
        """Append records, all or none; their offsets. Raises InvalidArgument for a topic or partition that is not there."""
        check_drafts(drafts, self._log.partitions)
        return [record.offset for record in self._log.put(drafts, self.number, self._clock())]
