"""The embedded log: validated batches in, records by topic and partition out. Synchronous; one thread appends.

An append is visible to readers once it has been synced, so no view ever holds what the log could still lose.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from protos import events_pb2
from roadrunner import layout
from roadrunner.duplicates import RecentIds
from roadrunner.intake import Group
from roadrunner.layout import Aggregated, Segment, StoredEnd
from roadrunner.routing import Records, Routed, at_of
from services.clock import DAY_MS, Clock
from services.columns import U64
from services.database import Database
from services.errors import OutOfRange
from services.log import End, Partition, Positions
from services.tokens import Reached
from services.topics import Topic

READ_RECORDS = 512  # of one partition in one read
READ_BYTES = 1 << 20  # of all partitions in one read, more or less
RECORD_BYTES = 4 << 20  # of one record, more or less


@dataclass(frozen=True, slots=True)
class Published:
    """Of one batch: how many events were accepted, how many had been before, and the offsets to wait for."""

    accepted: int
    duplicates: int
    reached: Reached


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as it lies in the log, its batch still serialised."""

    topic: int
    partition: int
    offset: int
    accepted_ms: int
    batch: bytes


@dataclass(frozen=True, slots=True)
class Retention:
    """What the log keeps: at most `max_bytes` and nothing older than `max_age_ms`; 0 is without limit."""

    max_bytes: int = 0
    max_age_ms: int = 0
    segment_bytes: int = 8 << 20


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What the aggregator made of a chunk of OBJECTS. Written together: the counts, the table, and how far it has come."""

    counts: list[tuple[int, int, bytes]]  # records of COUNTS: partition, events, serialised batch
    interests: dict[bytes, bytes]  # by key, as changed; empty: none
    reached: dict[Partition, Aggregated]


class EventLog:
    """Records of every topic and partition, each with its offset, on RocksDB."""

    def __init__(
        self,
        folder: Path,
        partitions: int,
        retention: Retention,
        clock: Clock,
        cache_mb: int = 32,
        memtable_mb: int = 16,
    ) -> None:
        """Open or create the log. Raises WrongFormat also when `partitions` is not what it was made with."""
        form = f"{layout.FORMAT}, {partitions} partitions"
        self._db = Database(folder, form, layout.FAMILIES, cache_mb, memtable_mb, layout.IN_ORDER)
        self._partitions, self._retention, self._clock = partitions, retention, clock
        self._ends = {(int(topic), p): StoredEnd() for topic in Topic for p in range(partitions)}
        self._ends |= {layout.at_of(k): layout.end_of(v) for k, v in self._db.family("ends").items()}
        self._visible = dict(self._ends)
        self._aggregated = {(int(Topic.OBJECTS), p): Aggregated() for p in range(partitions)}
        stored = self._db.family("aggregated").items()
        self._aggregated |= {layout.at_of(key): layout.aggregated_of(value) for key, value in stored}
        self._synced = self._aggregated
        self._segments = self._read_segments()
        self._readers: dict[int, set[Callable[[], object]]] = {int(topic): set() for topic in Topic}
        self._waiting = threading.Lock()
        self._sequence = 0
        self._recent = self._recall()

    def _read_segments(self) -> dict[Partition, list[Segment]]:
        segments: dict[Partition, list[Segment]] = {at: [] for at in self._ends}
        for key, value in self._db.family("segments").items():
            segments[layout.at_of(key)].append(layout.segment_of(key, value))
        return segments

    def _recall(self) -> RecentIds:
        """The ids accepted within a day."""
        recent, now = RecentIds(), self._clock()
        for key, value in self._db.family("accepted").items():
            self._sequence = layout.accepted_sequence(key) + 1
            accepted_ms, ids = layout.accepted_of(value)
            if accepted_ms >= now - DAY_MS:
                recent.add(ids, now, accepted_ms)
        return recent

    def append(self, batches: Sequence[events_pb2.Batch]) -> list[Published]:
        """Append batches that `intake.check` let pass as one atomic write, each event where it belongs.

        Duplicates by id within a day, also within the call, are dropped. Nothing is durable or visible before `sync`.
        Raises Exhausted or Unavailable when it can't be written; then nothing was.
        """
        now, group = self._clock(), Group.of(batches)
        fresh = self._recent.add(group.ids, now)
        try:
            kept = np.flatnonzero(fresh)
            routed = Routed.of(group, kept, self._partitions)
            self._ends |= self._write(group, routed, group.ids[fresh], now)
        except BaseException:
            self._recent.forget(group.ids[fresh])  # or they would be taken for accepted when they are published again
            raise
        reached: list[Reached] = [{} for _ in batches]
        self._reach(group, routed, reached)
        if len(kept) < group.rows:  # who publishes again waits for what is there: it may not be applied yet
            self._reach(group, Routed.of(group, np.flatnonzero(~fresh), self._partitions), reached)
        accepted = np.bincount(group.publish[kept], minlength=len(batches)).tolist()
        sizes = [batch.n for batch in batches]
        return [Published(a, n - a, r) for a, n, r in zip(accepted, sizes, reached, strict=True)]

    def _reach(self, group: Group, routed: Routed, reached: list[Reached]) -> None:
        last = {place: self._ends[at_of(place, self._partitions)].next - 1 for place in routed.places}
        for publish, place in routed.met(group, len(reached)):
            if last[place] >= 0:
                reached[publish][at_of(place, self._partitions)] = last[place]

    def _write(self, group: Group, routed: Routed, accepted: U64, now: int) -> dict[Partition, StoredEnd]:
        write, records = _Write(self._db.batch(), now, {}, []), Records(group, routed)
        for place in routed.places:
            at = at_of(place, self._partitions)
            for events, message in records.of(place, RECORD_BYTES):
                self._put(write, at, events, message)
        if len(accepted):
            write.batch.put(
                layout.accepted_key(self._sequence), layout.accepted_value(now, accepted), self._db.handle("accepted")
            )
            self._sequence += 1
        return self._written(write)

    def append_aggregate(self, made: Aggregate) -> None:
        """Append the counts of a chunk and how far it came as one atomic write; as `append`, before `sync`."""
        write = _Write(self._db.batch(), self._clock(), {}, [])
        for partition, events, message in made.counts:
            self._put(write, (int(Topic.COUNTS), partition), events, message)
        handle = self._db.handle("interests")
        for key, value in made.interests.items():
            if value:
                write.batch.put(key, value, handle)
            else:
                write.batch.delete(key, handle)
        for at, aggregated in made.reached.items():
            write.batch.put(layout.at_key(*at), layout.aggregated_value(aggregated), self._db.handle("aggregated"))
        self._ends |= self._written(write)
        self._aggregated = self._aggregated | made.reached

    def _put(self, write: "_Write", at: Partition, events: int, message: bytes) -> None:
        """One more record of a partition, and the segment that it fills, if it does."""
        end, value = write.ends.get(at, self._ends[at]), layout.record_value(write.now, events, message)
        write.batch.put(layout.record_key(*at, end.next), value, self._db.handle("records"))
        write.ends[at], segment = self._grow(end, events, len(value), write.now)
        if segment is not None:
            write.closed.append((at, segment))
            write.batch.put(
                layout.record_key(*at, segment.first), layout.segment_value(segment), self._db.handle("segments")
            )

    def _written(self, write: "_Write") -> dict[Partition, StoredEnd]:
        """The ends that the write moved, once it is done."""
        for at, end in write.ends.items():
            write.batch.put(layout.at_key(*at), layout.end_value(end), self._db.handle("ends"))
        self._db.write(write.batch)
        for at, segment in write.closed:
            self._segments[at].append(segment)
        return write.ends

    def _grow(self, end: StoredEnd, events: int, size: int, now: int) -> tuple[StoredEnd, Segment | None]:
        """A partition's end after one more record, and the segment that this fills, if it does."""
        end = end._replace(next=end.next + 1, events=end.events + events, open_bytes=end.open_bytes + size)
        if end.open_bytes < self._retention.segment_bytes:
            return end, None
        segment = Segment(end.open_first, end.next, now, end.open_bytes)
        return end._replace(open_first=end.next, open_bytes=0), segment

    def sync(self) -> None:
        """Make all appends durable, then visible. Raises Exhausted on a full disk."""
        ends, aggregated, before = dict(self._ends), self._aggregated, self._visible
        self._db.sync()
        self._visible, self._synced = ends, aggregated
        grown = {topic for (topic, partition), end in ends.items() if end.next > before[topic, partition].next}
        with self._waiting:
            for wake in {wake for topic in grown for wake in self._readers[topic]}:
                wake()

    def ends(self) -> dict[Partition, End]:
        """The visible range of every partition."""
        return {at: End(end.first, end.next, end.events) for at, end in self._visible.items()}

    def aggregated(self, synced: bool = False) -> dict[Partition, Aggregated]:
        """How far each partition of OBJECTS has been aggregated; `synced`: with all that came of it visible in COUNTS."""
        return self._synced if synced else self._aggregated

    def interests(self, keys: list[bytes]) -> list[bytes | None]:
        """The interests of pins, as `layout` packs them, as far as that."""
        found: list[bytes | None] = self._db.family("interests").get(keys)
        return found

    def bytes_kept(self) -> int:
        """Size of the records retained, uncompressed."""
        closed = sum(segment.bytes for segments in list(self._segments.values()) for segment in list(segments))
        return closed + sum(end.open_bytes for end in self._visible.values())

    @contextmanager
    def watching(self, positions: Positions, wake: Callable[[], object]) -> Iterator[None]:
        """Call `wake` whenever a topic of these positions has grown, from the thread that syncs."""
        topics = {topic for topic, _ in positions} & self._readers.keys()
        with self._waiting:
            for topic in topics:
                self._readers[topic].add(wake)
        try:
            yield
        finally:
            with self._waiting:
                for topic in topics:
                    self._readers[topic].discard(wake)

    def read(self, positions: Positions) -> list[StoredRecord]:
        """The next records from the positions, in order within a partition: about a megabyte, or none at the end.

        Raises OutOfRange when a position is no longer retained, or beyond the end.
        """
        visible, found, size = self._visible, list[StoredRecord](), 0
        for (topic, partition), position in positions.items():
            end = self._end_of(topic, partition, visible)
            if position < end.first or position > end.next:
                raise _out_of_range(topic, partition, position, end)
            for record in self._records(topic, partition, range(position, min(end.next, position + READ_RECORDS))):
                found.append(record)
                size += len(record.batch)
                if size > READ_BYTES:
                    return found
        return found

    def _records(self, topic: int, partition: int, offsets: range) -> Iterator[StoredRecord]:
        """The records at the offsets, fetched by ever more at once: few are fetched in vain however large they are."""
        records, count = self._db.family("records"), 1
        while offsets:
            some, offsets = offsets[:count], offsets[count:]
            values = records.get([layout.record_key(topic, partition, offset) for offset in some])
            for offset, value in zip(some, values, strict=True):
                if value is None:  # retention dropped it after the range was looked at
                    raise _out_of_range(topic, partition, offset, self._ends[topic, partition])
                accepted_ms, _, batch = layout.record_of(value)
                yield StoredRecord(topic, partition, offset, accepted_ms, batch)
            count *= 2

    def _end_of(self, topic: int, partition: int, ends: dict[Partition, StoredEnd]) -> StoredEnd:
        if (topic, partition) not in ends:
            raise OutOfRange(
                f"no topic {topic} partition {partition}: topics are {', '.join(f'{t.value} {t.name.lower()}' for t in Topic)}, "
                f"partitions 0 to {self._partitions - 1}"
            )
        return ends[topic, partition]

    def retain(self) -> int:
        """Drop whole segments that are over the retention, oldest first, and ids older than a day. Bytes dropped."""
        excess = self.bytes_kept() - self._retention.max_bytes if self._retention.max_bytes else 0
        oldest = self._clock() - self._retention.max_age_ms if self._retention.max_age_ms else 0
        candidates = sorted((s.newest_ms, at) for at, segments in self._segments.items() for s in segments)
        dropped = 0
        for newest_ms, at in candidates:
            if newest_ms >= oldest and dropped >= excess:
                break
            dropped += self._drop_first(at)
        return dropped

    def _drop_first(self, at: Partition) -> int:
        segment = self._segments[at][0]
        write, keys = self._db.batch(), (layout.record_key(*at, segment.first), layout.record_key(*at, segment.next))
        end = self._ends[at]._replace(first=segment.next)
        write.delete_range(*keys, self._db.handle("records"))
        write.delete(keys[0], self._db.handle("segments"))
        write.put(layout.at_key(*at), layout.end_value(end), self._db.handle("ends"))
        self._db.write(write)
        self._segments[at].pop(0)
        self._ends[at] = end
        self._visible = self._visible | {at: self._visible[at]._replace(first=end.first)}
        return segment.bytes

    def forget_accepted(self) -> None:
        """Delete notes of ids accepted more than a day ago."""
        write, oldest = self._db.batch(), self._clock() - DAY_MS
        for key, value in self._db.family("accepted").items():
            if layout.accepted_of(value)[0] >= oldest:
                break
            write.delete(key, self._db.handle("accepted"))
        self._db.write(write)

    @property
    def dead(self) -> bool:
        """Whether nothing can be appended until the log is opened again."""
        return self._db.dead

    def close(self) -> None:
        """Flush and release the folder."""
        self._db.close()


@dataclass(frozen=True, slots=True)
class _Write:
    """An atomic write of records as it grows: the ends that it moves and the segments that it fills."""

    batch: Any
    now: int
    ends: dict[Partition, StoredEnd]
    closed: list[tuple[Partition, Segment]]


def _out_of_range(topic: int, partition: int, offset: int, end: StoredEnd) -> OutOfRange:
    return OutOfRange(
        f"topic {topic} partition {partition}: offset {offset} is not in the log, which holds {end.first} to {end.next}"
    )
