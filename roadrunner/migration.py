"""An embedded log, copied to Kafka with its history: `feedmesh log migrate`.

The topics of views are copied record by record, so each record has the offset that it had. The tables of the stages
(roadrunner/stage.py) can't be copied: a stage makes them of the topic that it reads, wherever it runs. So `ingest` gets as much
of the accepted events as decides them: statements of boards, qualities of pins, and the ids of the log's last day. Its group and
the aggregator's are then noted as done up to there, so nothing is made of these records a second time.

Nothing of it depends on the hour, so what an interrupted copy left is the beginning of the next one, which goes on behind it.
At the end all is read back and compared, and the tables of the splitter are made of `ingest` and held against the log's own.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from roadrunner import layout, split_layout, stored
from roadrunner.accepting import Shape, primary_keys
from roadrunner.check import records as records_of
from roadrunner.counting import Counting
from roadrunner.duplicates import keys_of
from roadrunner.splitting import Splitting
from roadrunner.store import EventLog
from services.core.boards import IS_OF_BOARDS
from services.core.clock import DAY_MS
from services.core.columns import U64, Array, among
from services.core.errors import Conflict, Damaged, DeadlineExceeded
from services.core.events import Action, Batch, events, flags
from services.core.topics import INGEST, Topic, partition_of
from services.log.kafka import KafkaReader
from services.log.kafka_cluster import Cluster
from services.log.kafka_group import KafkaGroup
from services.log.kafka_writer import KafkaWriter, Serialised
from services.log.protocol import Noted, Partition, Record
from services.log.reading import read_all
from services.state.shard import Shard

Columns = dict[str, Array]  # of rows, by name
Report = Callable[[str, int, int], None]  # the work, how much of it is done, and of how much

ROWS = 10_000  # of a record of `ingest`
WINDOW_RECORDS, WINDOW_BYTES = 2_000, 16 << 20  # that wait for an acknowledgement together, more or less
SEND_S = 60.0  # for the acknowledgement of a window
ASK_S = 30.0
WITHIN_S = 7 * 86_400.0  # for the whole of it; a reader of which nothing comes is given up long before
STALLED_S = 60.0  # without a record while there are more to come
_STATES_QUALITY = flags(Action.CREATE_PIN, Action.UPDATE_PIN)
_COLUMNS = ("action", "user", "pin", "board", "target", "at_ms", "id", "writer")
_NO_IDS = np.empty(0, np.uint64)
_TABLES = ("boards", "qualities")


class EmbeddedHistory:
    """A log at rest, as its copy has it. Raises Conflict for one that can't be copied whole."""

    def __init__(self, log: EventLog, shape: Shape) -> None:
        self.log, self._db, self.shape = log, log.database, shape
        self.ends = log.ends()
        dropped = next((at for at, end in self.ends.items() if end.first), None)
        if dropped is not None:
            raise Conflict(
                f"{self._db.folder}: topic {dropped[0]} partition {dropped[1]} begins at offset {self.ends[dropped].first}: "
                "retention has dropped what was before, and views can't be built without it"
            )
        self._since = self._newest_ms() - DAY_MS  # ids accepted from then on are known again
        self._recent = self._recent_rows()
        self._check_ids()

    def _newest_ms(self) -> int:
        last = {at: end.next - 1 for at, end in self.ends.items() if end.next}
        newest = stored.accepted_ms(self._db, last).values()
        noted = (layout.accepted_of(*entry)[0] for entry in self._db.family("accepted").items())
        return max((*newest, *noted), default=0)

    def _recent_rows(self) -> dict[int, Columns]:
        """By partition of `ingest`: the rows by whose ids events of the last day are known, each id once, 57 bytes a row."""
        found = defaultdict[int, list[Columns]](list)
        for at, end in self.ends.items():
            if at[0] == Topic.COUNTS:
                continue
            for record in records_of(self._db, *at, self._first_since(at, end.next), end.next):
                batch = record.batch.take(record.batch.id != 0)
                where = self.shape.ingest_of(batch)
                for partition in np.unique(where).tolist():
                    own = where == partition
                    found[partition].append({name: getattr(batch, name)[own] for name in _COLUMNS})
        return {partition: _each_once(parts) for partition, parts in found.items()}

    def _first_since(self, at: Partition, end: int) -> int:
        """The first offset of a partition that was accepted within the last day; dates of acceptance do not fall, but for a
        clock that was set back: then from the first that is later than it.
        """
        first, beyond = 0, end
        while first < beyond:
            middle = (first + beyond) // 2
            if stored.accepted_ms(self._db, {at: middle})[at] < self._since:
                first = middle + 1
            else:
                beyond = middle
        return first

    def _check_ids(self) -> None:
        """Raise Conflict when an id that is known is in no record of the last day, or is of before ids had writers."""
        known = [_keys(rows) for rows in self._recent.values()]
        have = np.unique(np.concatenate([_NO_IDS, *known]))
        for key, value in self._db.family("accepted").items():
            accepted_ms, keys = layout.accepted_of(key, value)
            if accepted_ms < self._since:
                continue
            lacking = 0 if not layout.is_scoped(value) else int((~among(keys, have)).sum())
            if lacking or not layout.is_scoped(value):
                raise Conflict(
                    f"{self._db.folder}: of the events accepted within its last day {lacking or len(keys)} can't be known again "
                    "by their records (an older version wrote them, or the clock was set back): let the mesh run on this log "
                    "for a day more, and try again"
                )

    @property
    def places(self) -> list[Partition]:
        """Topic and partition of all that is copied; `ingest` last, so that nothing is split before the rest is there."""
        return [*self.ends, *((INGEST, partition) for partition in range(self.shape.ingest))]

    def records(self, at: Partition) -> Iterator[Serialised]:
        """The records of a partition of the copy, in order."""
        topic, partition = at
        if topic == INGEST:
            for batch in _joined(self._ingest(partition)):
                yield Serialised(INGEST, partition, batch.to_proto().SerializeToString())
            return
        for record in stored.records(self._db, at, range(self.ends[at].next)):
            if record is None:
                raise Damaged(f"{self._db.folder}: topic {topic} partition {partition}: a record is missing")
            yield Serialised(topic, partition, record.batch, record.provenance)

    def _ingest(self, partition: int) -> Iterator[Batch]:
        """What decides the tables of the splitter, in the order of the log; then the ids that are known. Statements of before the
        last day have ids of their own: theirs may have come again since.
        """
        writer, count = int.from_bytes(self.log.history.identity[:8], "little") | 1, 0
        parts = range(partition, self.shape.partitions, self.shape.ingest)
        for record in (record for p in parts for record in self._objects(p)):
            batch = record.batch
            states = IS_OF_BOARDS[batch.action] | (_STATES_QUALITY[batch.action] & ~np.isnan(batch.quality))
            states &= partition_of(primary_keys(batch), self.shape.partitions) == record.partition
            rows = batch.take(states)
            if not len(rows):
                continue
            bare = _bare({name: getattr(rows, name) for name in _COLUMNS}).replace(quality=rows.quality)
            if record.accepted_ms < self._since:
                ids = np.arange(count + 1, count + 1 + len(rows), dtype=np.uint64)
                bare, count = bare.replace(id=ids, writer=np.full(len(rows), writer, np.uint64)), count + len(rows)
            yield bare
        recent = self._recent.get(partition, {"id": _NO_IDS})
        for start in range(0, len(recent["id"]), ROWS):
            yield _bare({name: column[start : start + ROWS] for name, column in recent.items()})

    def _objects(self, partition: int) -> Iterator[Record]:
        at = (int(Topic.OBJECTS), partition)
        return records_of(self._db, *at, 0, self.ends[at].next)

    def check_tables(self, made: Shard) -> None:
        """Raise Damaged when the splitter's tables, made of the copy, are not the log's own."""
        for name in _TABLES:
            pairs = zip(_entries(self._db, name), _entries(made, name), strict=False)
            wrong = next((ours for ours, theirs in pairs if ours != theirs), None)
            counts = [sum(1 for _ in _entries(of, name)) for of in (self._db, made)]
            if wrong is not None or counts[0] != counts[1]:
                which = f"key {wrong[0].hex()}" if wrong is not None else f"{counts[1]} entries of {counts[0]}"
                raise Damaged(f"{self._db.folder}: table {name} does not follow from the log's records: {which}")

    def aggregated(self) -> dict[int, int]:
        """By partition of `objects`: the offset at which the aggregator goes on."""
        return {partition: of.next for (_, partition), of in self.log.aggregated(synced=True).items()}


def _bare(columns: Columns) -> Batch:
    """Rows of these columns alone: without texts, lists and what was measured."""
    return events(len(columns["id"]), **columns)


def _keys(columns: Columns) -> U64:
    return keys_of(columns["id"], columns["writer"], columns["user"])


def _each_once(parts: Sequence[Columns]) -> Columns:
    """The first row of each id of a writer, in order."""
    columns = {name: np.concatenate([part[name] for part in parts]) for name in _COLUMNS}
    _, first = np.unique(_keys(columns), return_index=True)
    first.sort()
    return {name: column[first] for name, column in columns.items()}


def _joined(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same rows in batches of ROWS, but for the last."""
    waiting, count = list[Batch](), 0
    for batch in batches:
        waiting.append(batch)
        count += len(batch)
        if count >= ROWS:
            whole = Batch.concat(waiting)
            stop = count - count % ROWS
            yield from (whole.slice(start, start + ROWS) for start in range(0, stop, ROWS))
            waiting, count = [whole.slice(stop, count)], count - stop
    if count:
        yield Batch.concat(waiting)


def _entries(database: Any, family: str) -> Iterator[tuple[bytes, bytes]]:
    return iter(database.family(family).items())


@dataclass(frozen=True, slots=True)
class Migrated:
    """Of a whole copy: its records, their events in the topics of views, and how many of the records had been there before."""

    records: int
    events: int
    before: int


class Migration:
    """A copy of a log to topics that hold nothing, or the beginning of this copy."""

    def __init__(self, source: EmbeddedHistory, cluster: Cluster, scratch: Path, report: Report) -> None:
        """scratch: a folder for what is made to be compared."""
        self._source, self._cluster, self._scratch, self._report = source, cluster, scratch, report

    def run(self) -> Migrated:
        """Copy, compare, and note what is done. Raises Conflict for topics that hold anything else, Damaged when the copy is not
        the log, Unavailable, DeadlineExceeded.
        """
        there = self._compared("comparing what is there")
        self._copy({at: count for at, (count, _) in there.items()})
        shard = Shard(self._scratch, "migration 1", split_layout.FAMILIES)
        try:
            copied = self._compared("reading the copy", shard)
            self._check_whole({at: count for at, (count, _) in copied.items()})
            self._source.check_tables(shard)
        finally:
            shard.close()
        self._note({p: copied[INGEST, p][0] for p in range(self._source.shape.ingest)})
        views = sum(count for (topic, _), (_, count) in copied.items() if topic != INGEST)
        return Migrated(sum(count for count, _ in copied.values()), views, sum(count for count, _ in there.values()))

    def _reader(self) -> KafkaReader:
        return KafkaReader(self._cluster, (INGEST, *Topic))

    def _compared(self, what: str, shard: Shard | None = None) -> dict[Partition, tuple[int, int]]:
        """By partition of the copy: how many records are there, all of them the log's, and their events. shard: takes the
        splitter's tables. Raises Conflict for a record that is not the log's.
        """
        reader, found = self._reader(), dict.fromkeys(self._source.places, (0, 0))
        stalled = _Stalled(reader.close)
        splitting = Splitting(shard, self._source.shape) if shard is not None else None
        try:
            ends = reader.ends(ASK_S)
            first = next((at for at, end in ends.items() if end.first), None)
            if first is not None:
                raise Conflict(f"{self._name(first)} begins at offset {ends[first].first}: it is no copy of this log")
            of, expected = sum(end.next for end in ends.values()), {at: self._source.records(at) for at in found}
            for chunk in stalled.watched(read_all(reader, dict.fromkeys(found, 0), WITHIN_S)):
                for record in chunk:
                    at = (int(record.topic), record.partition)
                    if record.repeated or not _is(record, next(expected[at], None)):
                        raise Conflict(
                            f"{self._name(at)} offset {record.offset} holds another record than the log that is copied; use a "
                            "prefix of [mesh] log that is not used yet (`feedmesh log init` makes its topics)"
                        )
                    found[at] = (found[at][0] + 1, found[at][1] + record.events)
                split = [record for record in chunk if record.topic == INGEST]
                if splitting is not None and split:
                    splitting.keep(splitting.make(split, parts=False))
                self._report(what, sum(count for count, _ in found.values()), of)
            if stalled.was:
                raise DeadlineExceeded(f"{self._cluster}: no record came for {STALLED_S:.0f} s; call it again")
        finally:
            if not stalled.was:
                reader.close()
        return found

    def _name(self, at: Partition) -> str:
        return f"{self._cluster}: topic {self._cluster.name(at[0])} partition {at[1]}"

    def _copy(self, there: dict[Partition, int]) -> None:
        """Append what lacks, a window at a time; a partition after the other, so each has a beginning of its records."""
        of = sum(end.next for end in self._source.ends.values())
        writer, window, size = KafkaWriter(self._cluster, (INGEST, *Topic)), list[Serialised](), 0
        done = sum(count for (topic, _), count in there.items() if topic != INGEST)
        try:
            for at in self._source.places:
                for i, record in enumerate(self._source.records(at)):
                    if i < there[at]:
                        continue
                    window.append(record)
                    size += len(record.value)
                    if len(window) == WINDOW_RECORDS or size > WINDOW_BYTES:
                        writer.send(window, SEND_S)
                        done += sum(one.topic != INGEST for one in window)
                        self._report("copying records", done, of)
                        window, size = [], 0
            writer.send(window, SEND_S)
        finally:
            writer.close()

    def _check_whole(self, copied: dict[Partition, int]) -> None:
        for at, count in copied.items():
            expected = sum(1 for _ in self._source.records(at)) if at[0] == INGEST else self._source.ends[at].next
            if count != expected:
                raise Damaged(f"{self._name(at)}: holds {count} records, and {expected} were to be copied")

    def _note(self, ingest: dict[int, int]) -> None:
        """The stages go on where the embedded log stood; the splitter's note comes last: with it a mesh may begin."""
        reader = self._reader()
        try:
            epoch = reader.history(ASK_S).epoch
        finally:
            reader.close()
        stages = (Counting.name, Counting.topic, self._source.aggregated()), (Splitting.name, Splitting.topic, ingest)
        for stage, topic, done in stages:
            group = KafkaGroup(self._cluster, stage, topic, "migration", lambda _: {}, lambda: None)
            try:
                group.read({})
                before, new = group.noted(), {p: Noted(next_, 0, epoch) for p, next_ in done.items()}
                if any(of.next > new[p].next for p, of in before.items()):
                    raise Conflict(
                        f"{self._cluster}: the group of the {stage} has gone on already: a mesh has used this log"
                    )
                group.commit(new)
            finally:
                group.close()


def _is(record: Record, expected: Serialised | None) -> bool:
    """Whether a record holds what is expected at its place, however it is written."""
    if expected is None or record.provenance != expected.provenance:
        return False
    key = layout.record_key(record.topic, record.partition, record.offset)
    ours = Batch.of(layout.message_of(key, expected.value)).to_proto()
    return bool(ours == record.batch.to_proto())


class _Stalled:
    """Ends a reader of which nothing comes any more."""

    def __init__(self, end: Callable[[], object]) -> None:
        self._end, self.was = end, False

    def watched(self, chunks: Iterable[list[Record]]) -> Iterator[list[Record]]:
        """The chunks, while they come."""
        moved, over = [time.monotonic()], threading.Event()

        def watch() -> None:
            while not over.wait(1.0):
                if time.monotonic() - moved[0] > STALLED_S:
                    self.was = True
                    self._end()
                    return

        thread = threading.Thread(target=watch, name="migration", daemon=True)
        thread.start()
        try:
            for chunk in chunks:
                yield chunk
                moved[0] = time.monotonic()
        finally:
            over.set()
            thread.join()
