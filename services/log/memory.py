"""A log in memory, for replays of the past and for tests: what it appends is read back until the process ends."""

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from services.core.errors import OutOfRange, Unavailable
from services.core.events import Batch
from services.core.topics import Topic, split
from services.log.history import Epoch, History, new_identity, new_number
from services.log.protocol import End, Partition, Positions, Record

CHUNK = 256  # records that a reader gets at once
ALL = tuple(Topic)


class MemoryLog:
    """Takes batches, splits them over topics and partitions, and hands out readers. Thread-safe."""

    def __init__(self, partitions: int, retain: bool = True, first: Mapping[Partition, int] | None = None) -> None:
        """retain: False for one that only hands out records with their offsets, and has no readers.
        first: the offsets at which partitions begin, where that is not 0.
        """
        self.partitions, self._retain = partitions, retain
        self._first = dict(first or {})
        self._next: dict[Partition, int] = dict(self._first)
        self._events: dict[Partition, int] = defaultdict(int)
        self._records: dict[Partition, list[Record]] = defaultdict(list)
        self._grown = threading.Condition()
        self._history = History(new_identity(), [Epoch(new_number(), dict(self._first))])

    def append(self, batch: Batch, topics: Sequence[Topic] = ALL, accepted_ms: int = 0) -> list[Record]:
        """Append a batch to every partition of these topics where rows of it belong; its records."""
        parts = [part for part in split(batch, self.partitions) if part.topic in topics]
        return [self.append_to(part.topic, part.partition, part.batch, accepted_ms) for part in parts]

    def append_to(self, topic: Topic, partition: int, batch: Batch, accepted_ms: int = 0) -> Record:
        """Append a batch to one partition, as it is; its record."""
        at = (int(topic), partition)
        with self._grown:
            record = Record(topic, partition, self._next.get(at, 0), accepted_ms, batch)
            self._next[at] = record.offset + 1
            self._events[at] += len(batch)
            if self._retain:
                self._records[at].append(record)
            self._grown.notify_all()
        return record

    def restart(self) -> None:
        """Begin another epoch, as a log does that is opened again: its readers are cut off."""
        with self._grown:
            epochs = [*self._history.epochs, Epoch(new_number(), dict(self._next))]
            self._history = History(self._history.identity, epochs)
            self._grown.notify_all()

    def reader(self) -> "MemoryReader":
        """A reader of its own."""
        return MemoryReader(self)

    def history(self) -> History:
        """Its identity and its epochs."""
        return self._history

    def ends(self) -> dict[Partition, End]:
        """The range of every partition."""
        with self._grown:
            return {at: self._end(at) for topic in Topic for at in ((int(topic), p) for p in range(self.partitions))}

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
        return self._records[at][offset - end.first : offset - end.first + CHUNK]

    def wake(self) -> None:
        """Have readers that wait look again whether they were closed."""
        with self._grown:
            self._grown.notify_all()


class MemoryReader:
    """A `Reader` of a log in memory (services/log/protocol.py)."""

    def __init__(self, log: MemoryLog) -> None:
        self._log, self._closed = log, threading.Event()

    def history(self, timeout: float) -> History:
        """The identity of the log and its epochs."""
        return self._log.history()

    def subscribe(self, positions: Positions, epoch: int = 0) -> Iterator[list[Record]]:
        """Chunks of records from the positions on, until `close`. Raises OutOfRange, Unavailable."""
        positions, epoch = dict(positions), epoch or self._log.history().epoch
        while records := self._log.read(positions, epoch, self._closed):
            for record in records:
                positions[int(record.topic), record.partition] = record.offset + 1
            yield records

    def ends(self, timeout: float) -> dict[Partition, End]:
        """The range of every partition."""
        return self._log.ends()

    def close(self) -> None:
        """End the subscriptions."""
        self._closed.set()
        self._log.wake()
