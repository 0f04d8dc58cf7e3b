"""The embedded log: validated batches in, records by topic and partition out. Synchronous; one thread appends.

An append is visible to readers once it has been synced, so no view ever holds what the log could still lose.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from protos import events_pb2
from roadrunner import epochs, integrity, layout, stored
from roadrunner.boards import Boards
from roadrunner.duplicates import RecentIds
from roadrunner.intake import Group
from roadrunner.layout import Aggregate, Aggregated, Segment, StoredEnd
from roadrunner.qualities import Qualities
from roadrunner.retention import Retained, Retention, over
from roadrunner.routing import Records, Routed, at_of
from roadrunner.stored import StoredRecord
from services.core.clock import DAY_MS, Clock
from services.core.columns import U64, among
from services.core.errors import MeshError, OutOfRange
from services.core.tokens import Reached
from services.core.topics import Topic
from services.log.protocol import Draft, End, Partition, Positions, Provenance
from services.state.coverage import NO_BOUND, Floor
from services.state.database import Database
from services.state.options import DEFAULT, Tuning

READ_RECORDS = 512  # of one partition in one read
READ_BYTES = 1 << 20  # of all partitions in one read, more or less
RECORD_BYTES = 4 << 20  # of one record, more or less


@dataclass(frozen=True, slots=True)
class PublishResult:
    """Of one batch: how many events were accepted, how many had been before, and the offsets to wait for."""

    accepted: int
    duplicates: int
    reached: Reached


class LogDatabase(Database):
    """The database of the log, which can't be rebuilt: it is opened with all that was synced, or it is refused."""

    loses_nothing = True
    remedy = "restore the log from a backup: docs/operations.md, Damage"


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
        tuning: Tuning = DEFAULT,
    ) -> None:
        """Open or create the log. Raises WrongFormat also when `partitions` is not what it was made with."""
        form = f"{layout.FORMAT}, {partitions} partitions"
        self._db = LogDatabase(folder, form, layout.FAMILIES, cache_mb, memtable_mb, layout.IN_ORDER, tuning=tuning)
        self._partitions, self._retention, self._clock = partitions, retention, clock
        try:
            self._open()
        except (MeshError, KeyError) as error:
            self._db.abandon()
            raise error if isinstance(error, MeshError) else self._db.damaged(repr(error)) from None

    def _open(self) -> None:
        partitions = self._partitions
        self._ends = {(int(topic), p): StoredEnd() for topic in Topic for p in range(partitions)}
        self._ends |= {layout.at_of(k): layout.end_of(k, v) for k, v in self._db.family("ends").items()}
        self._visible = dict(self._ends)
        self._aggregated = {(int(Topic.OBJECTS), p): Aggregated() for p in range(partitions)}
        stored = {layout.at_of(k): layout.aggregated_of(k, v) for k, v in self._db.family("aggregated").items()}
        self._aggregated |= stored
        self._synced = self._aggregated
        self._segments = self._read_segments()
        self._readers: dict[int, set[Callable[[], object]]] = {int(topic): set() for topic in Topic}
        self._waiting = threading.Lock()
        self._sequence = 0
        self._unscoped: U64 = np.empty(0, np.uint64)
        self._unscoped_until = 0
        self._recent = self._recall()
        if problem := integrity.problem(self._db, self._ends, self._segments, stored):
            raise self._db.damaged(problem)
        self._boards = Boards(self._db, partitions)
        self._fill_boards()
        self._qualities = Qualities(self._db, partitions)
        self._qualities.fill(self._db, self._ends)
        self.history = epochs.begin(self._db, {at: end.next for at, end in self._ends.items()})

    def _fill_boards(self) -> None:
        """Of a log from before there was the table; synced as the epoch begins."""
        write = _Write(self._db.batch(), self._clock())
        for at, made in self._boards.fill(self._db, write.batch, self._ends):
            self._put(write, at, len(made), made.to_proto().SerializeToString())
        self._ends |= self._written(write)
        self._visible = dict(self._ends)

    def _read_segments(self) -> dict[Partition, list[Segment]]:
        segments: dict[Partition, list[Segment]] = {at: [] for at in self._ends}
        for key, value in self._db.family("segments").items():
            segments[layout.at_of(key)].append(layout.segment_of(key, value))
        return segments

    def _recall(self) -> RecentIds:
        """The ids accepted within a day. Ids from before they had writers are kept apart, for as long as they count."""
        recent, now, unscoped = RecentIds(), self._clock(), [self._unscoped]
        for key, value in self._db.family("accepted").items():
            self._sequence = layout.accepted_sequence(key) + 1
            accepted_ms, ids = layout.accepted_of(key, value)
            if accepted_ms >= now - DAY_MS:
                if layout.is_scoped(value):
                    recent.add(ids, now, accepted_ms)
                else:
                    unscoped.append(ids)
                    self._unscoped_until = accepted_ms + DAY_MS
        self._unscoped = np.unique(np.concatenate(unscoped))
        return recent

    def append(self, batches: Sequence[events_pb2.Batch]) -> list[PublishResult]:
        """Append batches that `intake.check` let pass as one atomic write, each event where it belongs.

        Duplicates by writer and id within a day, also within the call, are dropped. Nothing is durable or visible before `sync`.
        Raises Exhausted or Unavailable when it can't be written; then nothing was.
        """
        now, group = self._clock(), Group.of(batches)
        keys = group.keys
        fresh = self._recent.add(keys, now)
        if now < self._unscoped_until:
            fresh &= ~among(group.column("id"), self._unscoped)
        write = _Write(self._db.batch(), now)
        try:
            kept = np.flatnonzero(fresh)
            group = self._qualities.filled(write.batch, group, kept)
            routed = Routed.of(group, kept, self._partitions, self._boards.judge(write.batch, group, kept))
            self._ends |= self._write(write, group, routed, keys[fresh])
        except BaseException:
            self._recent.forget(keys[fresh])  # or they would be taken for accepted when they are published again
            raise
        reached: list[Reached] = [{} for _ in batches]
        self._reach(group, routed, reached)
        if (
            len(kept) < group.rows
        ):  # a caller that publishes again waits for the earlier records: they may not be applied yet
            self._reach(group, Routed.of(group, np.flatnonzero(~fresh), self._partitions), reached)
        accepted = np.bincount(group.publish[kept], minlength=len(batches)).tolist()
        sizes = [batch.n for batch in batches]
        return [PublishResult(a, n - a, r) for a, n, r in zip(accepted, sizes, reached, strict=True)]

    def _reach(self, group: Group, routed: Routed, reached: list[Reached]) -> None:
        last = {place: self._ends[at_of(place, self._partitions)].next - 1 for place in routed.places}
        for publish, place in routed.met(group, len(reached)):
            if last[place] >= 0:
                reached[publish][at_of(place, self._partitions)] = last[place]

    def _write(self, write: "_Write", group: Group, routed: Routed, accepted: U64) -> dict[Partition, StoredEnd]:
        records = Records(group, routed)
        for place in routed.places:
            at = at_of(place, self._partitions)
            for events, message in records.of(place, RECORD_BYTES):
                self._put(write, at, events, message)
        if len(accepted):
            value = layout.accepted_value(write.now, accepted)
            write.batch.put(layout.accepted_key(self._sequence), value, self._db.handle("accepted"))
            self._sequence += 1
        return self._written(write)

    def append_drafts(self, drafts: Sequence[Draft]) -> list[int]:
        """Append records as they are, as one atomic write; the offset of each. As `append`, before `sync`."""
        write, offsets = _Write(self._db.batch(), self._clock()), []
        for draft in drafts:
            at = (int(draft.topic), draft.partition)
            offsets.append(write.ends.get(at, self._ends[at]).next)
            self._put(write, at, len(draft.batch), draft.batch.to_proto().SerializeToString(), draft.provenance)
        self._ends |= self._written(write)
        return offsets

    def append_aggregate(self, made: Aggregate) -> None:
        """Append the counts of a chunk and how far it came as one atomic write; as `append`, before `sync`."""
        write = _Write(self._db.batch(), self._clock())
        for partition, events, message in made.counts:
            self._put(write, (int(Topic.COUNTS), partition), events, message)
        for start, stop in made.forgotten:
            write.batch.delete_range(start, stop, self._db.handle("voices"))
        for family, values in (("interests", made.interests), ("voices", made.voices)):
            handle = self._db.handle(family)
            for key, value in values.items():
                if value:
                    write.batch.put(key, value, handle)
                else:
                    write.batch.delete(key, handle)
        for at, aggregated in made.reached.items():
            write.batch.put(layout.at_key(*at), layout.aggregated_value(aggregated), self._db.handle("aggregated"))
        self._ends |= self._written(write)
        self._aggregated = self._aggregated | made.reached

    def _put(
        self, write: "_Write", at: Partition, events: int, message: bytes, provenance: Provenance | None = None
    ) -> None:
        """One more record of a partition, and the segment that it fills, if it does."""
        end, value = write.ends.get(at, self._ends[at]), layout.record_value(write.now, events, message, provenance)
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

    def oldest_ms(self, positions: Positions) -> dict[Partition, int]:
        """When the first visible record at or after each position was accepted; those without one are left out."""
        visible = self._visible
        firsts = {
            at: max(p, visible[at].first) for at, p in positions.items() if at in visible and p < visible[at].next
        }
        return stored.accepted_ms(self._db, firsts)

    def aggregated(self, synced: bool = False) -> dict[Partition, Aggregated]:
        """How far each partition of OBJECTS has been aggregated; `synced`: with all that came of it visible in COUNTS."""
        return self._synced if synced else self._aggregated

    def aggregators(self, family: str, keys: list[bytes]) -> list[bytes | None]:
        """Values of a table of the aggregator, `interests` or `voices`, as `layout` packs them, as far as that."""
        found: list[bytes | None] = self._db.family(family).get(keys)
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

    def read(self, positions: Positions, shares: Mapping[Partition, int] | None = None) -> list[StoredRecord]:
        """The next records from the positions, in order within a partition: about a megabyte, or none at the end.

        shares: by partition, how that megabyte is divided, whole records each, which may be twice as much together; else
        the first partition has as much as there is.
        Raises OutOfRange when a position is no longer retained, or beyond the end.
        """
        visible, found, size = self._visible, list[StoredRecord](), 0
        most, whole = READ_BYTES * (2 if shares else 1), sum((shares or {}).values())
        for (topic, partition), position in positions.items():
            end = self._end_of(topic, partition, visible)
            if position < end.first or position > end.next:
                raise _out_of_range(topic, partition, position, end)
            until = size + READ_BYTES * shares[topic, partition] // whole if shares else most
            offsets = range(position, min(end.next, position + READ_RECORDS))
            for record in stored.records(self._db, (topic, partition), offsets):
                if record is None:  # retention dropped it after the range was looked at
                    raise _out_of_range(topic, partition, position, self._ends[topic, partition])
                found.append(record)
                size += len(record.batch)
                if size > most:
                    return found
                if size > until:
                    break
        return found

    def _end_of(self, topic: int, partition: int, ends: dict[Partition, StoredEnd]) -> StoredEnd:
        if (topic, partition) not in ends:
            raise OutOfRange(
                f"no topic {topic} partition {partition}: topics are {', '.join(f'{t.value} {t.name.lower()}' for t in Topic)}, "
                f"partitions 0 to {self._partitions - 1}"
            )
        return ends[topic, partition]

    def retain(self, floor: Floor = NO_BOUND) -> Retained:
        """Drop whole segments that are over the retention, oldest first, but those that the floor keeps."""
        lose, held = over(self._segments, self._retention, self.bytes_kept(), self._clock(), floor)
        return Retained(sum(self._drop_first(at) for at in lose), held)

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
            if layout.accepted_of(key, value)[0] >= oldest:
                break
            write.delete(key, self._db.handle("accepted"))
        self._db.write(write)

    @property
    def database(self) -> Database:
        """The database that holds it."""
        return self._db

    @property
    def damage(self) -> str:
        """The damage found since it was opened."""
        return self._db.damage

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
    ends: dict[Partition, StoredEnd] = field(default_factory=dict)
    closed: list[tuple[Partition, Segment]] = field(default_factory=list)


def _out_of_range(topic: int, partition: int, offset: int, end: StoredEnd) -> OutOfRange:
    return OutOfRange(
        f"topic {topic} partition {partition}: offset {offset} is not in the log, which holds {end.first} to {end.next}"
    )
