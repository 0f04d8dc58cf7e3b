"""A shard of a view: a database, and the offsets of the log that it has applied.

Data and the offsets it came from are committed in one write batch, so an event is applied exactly once, whenever a
process is killed. Writes are not synced: the log is, and the log replays what a machine loses.
"""

import gc
import logging
import shutil
import struct
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from services.core.clock import wall_clock
from services.core.columns import U64, Array
from services.core.durable import rename_durably
from services.core.errors import Damaged, DeadlineExceeded, InvalidArgument, MeshError, NotReady
from services.core.tokens import Place, Reached
from services.core.topics import partition_of, partition_of_one
from services.log.history import LogHistory
from services.log.progress import Progress, late
from services.log.protocol import End, Partition, Positions, Record
from services.state.database import Database, Looking
from services.state.offsets import changes, check_entry, read_entry
from services.state.options import DEFAULT, Tuning
from services.state.stored import CheckValue

logger = logging.getLogger(__name__)
NOTHING = Progress()  # of a partition that was never applied
_EPOCH, _IDENTITY_BYTES = struct.Struct("<Q"), 16
HISTORY_KEY = b"history"  # identity and epoch of the log that was applied
DAMAGED = "DAMAGED"  # a file in a folder that must not be opened again: why


def read_in(history: LogHistory) -> bytes:
    """What a shard notes of the log as it reads it: its identity, and the epoch that is now."""
    return history.identity + _EPOCH.pack(history.epoch)


def with_offsets(store: str, check: CheckValue) -> CheckValue:
    """The checks of the entries of a view's families, and of its offsets."""

    def check_each(family: str, key: bytes, value: bytes) -> None:
        if family == "offsets":
            check_entry(store, key, value)
        else:
            check(family, key, value)

    return check_each


class Owned:
    """The partitions that a shard owns; none are known, and nothing is refused, before it is connected to the log."""

    def __init__(self, partitions: Iterable[Partition] = ()) -> None:
        self.log = frozenset(partitions)  # with their topics
        self.numbers = frozenset(partition for _, partition in self.log)
        self.own = np.zeros(max(self.numbers, default=-1) + 2, bool)  # by number; the last stands for all beyond
        self.own[list(self.numbers)] = True

    def __str__(self) -> str:
        topics = ", ".join(map(str, sorted({topic for topic, _ in self.log})))
        first, last = min(self.numbers, default=0), max(self.numbers, default=0)
        return f"topics {topics} of partitions {first} to {last}"


class Shard(Database):
    """One RocksDB with its column families and the offsets applied, by topic and partition."""

    remedy = "it is set aside and rebuilt from the log as the process starts again"

    def __init__(
        self,
        folder: Path,
        form: str,
        families: Iterable[str],
        cache_mb: int = 32,
        memtable_mb: int = 16,
        looking: Looking | None = None,
        tuning: Tuning = DEFAULT,
    ) -> None:
        """Open or create it, or only look. Raises Damaged, WrongFormat, HeldElsewhere, or Exhausted when the disk is full."""
        if looking is None and (reason := _noted(folder)) is not None:
            raise Damaged(reason)
        self.families = names = tuple(families)
        super().__init__(folder, form, ("offsets", *names), cache_mb, memtable_mb, looking=looking, tuning=tuning)
        self._moved = threading.Condition()
        self._owned = Owned()
        self._passed: tuple[list[Record], dict[Partition, Progress]] | None = (
            None  # by `fresh`, for the commit after it
        )
        try:
            self._applied: dict[Partition, Progress] = self._read_offsets(names)
            self._read_in = self.note(HISTORY_KEY) or b""
        except MeshError:
            self.abandon()
            raise

    def _read_offsets(self, names: Iterable[str]) -> dict[Partition, Progress]:
        found: dict[Partition, Progress] = {}
        for key, value in self.family("offsets").items():
            try:
                check_entry(self.folder.parent.name, key, value)
            except Damaged as error:
                raise self.damaged(str(error)) from None
            read_entry(found, key, value)
        if not found and any(next(self.family(name).keys(), None) is not None for name in names):
            raise self.damaged("it holds data and no offsets of the log")
        return found

    def connect(self, history: LogHistory, ends: Mapping[Partition, End], partitions: Iterable[Partition]) -> None:
        """Before the log is read on: take note of its identity and epoch, if the applied records are still its past.

        Else raises Damaged, so that it is set aside and applied anew, when the log holds everything, and NotReady when
        it does not: then nothing can be right any more. From now on the shard owns these partitions and no others.
        """
        partitions = list(partitions)
        self._owned = Owned(partitions)
        positions = self.positions(partitions)
        if lost := self._lost(history, positions, ends):
            if not any(ends[at].first for at in positions if at in ends):
                raise self.damaged(lost)
            raise NotReady(
                f"{self.folder}: {lost}; the log no longer holds everything, so this can't be rebuilt from it: restore the "
                "log and the views as they were at one time (docs/operations.md, Damage)"
            )
        gone = next((at for at, next_ in positions.items() if at in ends and next_ < ends[at].first), None)
        if gone is not None:
            raise NotReady(
                f"{self.folder}: topic {gone[0]} partition {gone[1]}: {positions[gone]} is next, and the log begins at "
                f"{ends[gone].first}: it no longer holds everything, so this can't be built from it: restore the log and "
                "the views as they were at one time (docs/operations.md, Damage)"
            )
        now = read_in(history)
        if now != self._read_in:
            batch = self.batch()
            batch.put(HISTORY_KEY, now)
            self.write(batch)
            self._read_in = now

    @property
    def log(self) -> bytes:
        """The identity of the log that was applied; empty when none is known."""
        return self._read_in[:_IDENTITY_BYTES]

    @property
    def epoch(self) -> int:
        """The number of the log's epoch in which it was last read; 0 when none is known."""
        return int(_EPOCH.unpack(self._read_in[_IDENTITY_BYTES:])[0]) if len(self._read_in) > _IDENTITY_BYTES else 0

    def _lost(self, history: LogHistory, positions: Positions, ends: Mapping[Partition, End]) -> str:
        if not any(positions.values()):
            return ""
        if (
            len(self._read_in) != _IDENTITY_BYTES + _EPOCH.size
        ):  # of before there were epochs: it is believed, up to the end
            return history.lost(history.epoch, positions, ends)
        if self._read_in[:_IDENTITY_BYTES] != history.identity:
            return f"the log is another one: {history.identity.hex()}, and this was made of {self._read_in[:16].hex()}"
        return history.lost(int(_EPOCH.unpack(self._read_in[_IDENTITY_BYTES:])[0]), positions, ends)

    def damaged(self, what: str) -> Damaged:
        """As a database; and it is noted in the folder, which is set aside when the process starts again: now."""
        error = super().damaged(what)
        if not self.only_looks:
            self.dead = True
            with suppress(OSError):
                if self._is_same():
                    (self.folder / DAMAGED).write_text(f"{error}\n")
        return error

    def fresh(self, records: Sequence[Record]) -> list[Record]:
        """Those records that have not been applied, repeats among them without their events. Raises NotReady when one
        before them was lost (services/log/progress.py), MeshError when one is of a partition that the shard does not own.
        """
        looked, new = dict[Partition, Progress](), []
        for record in records:
            at = (int(record.topic), record.partition)
            progress = looked.get(at)
            if progress is None:
                self._check_owned(at)
                progress = looked[at] = self._applied.get(at, NOTHING).copy()
            try:
                applied = progress.pass_over(record)
            except NotReady as error:
                raise NotReady(f"{self.folder}: {error}") from None
            if applied is not None:
                new.append(applied)
        self._passed = new, looked
        return new

    def commit(self, batch: Any, records: Sequence[Record], written: Callable[[], None] = lambda: None) -> None:
        """Write the batch and the positions of the records that it came from, atomically; wake the reads that wait for them.

        `written` is called in between: the state that a view keeps in memory is updated before waiting reads go on. Raises
        MeshError, and writes nothing, when a record is of a partition that the shard does not own.
        """
        moved = self._moved_by(records)
        offsets = self._handles["offsets"]
        for at, progress in moved.items():
            for key, value in changes(at, self._applied.get(at, NOTHING), progress):
                if value is None:
                    batch.delete(key, offsets)
                else:
                    batch.put(key, value, offsets)
        self.write(batch)
        written()
        with self._moved:
            self._applied.update(moved)
            self._moved.notify_all()

    def _moved_by(self, records: Sequence[Record]) -> dict[Partition, Progress]:
        """Where it stands after these records."""
        passed, self._passed = self._passed, None
        if passed is not None and records is passed[0]:  # as `fresh` has found a moment ago
            return passed[1]
        moved: dict[Partition, Progress] = {}
        for record in records:
            at = (int(record.topic), record.partition)
            progress = moved.get(at)
            if progress is None:
                self._check_owned(at)
                progress = moved[at] = self._applied.get(at, NOTHING).copy()
            progress.move(record)
        return moved

    def _check_owned(self, at: Partition) -> None:
        if self._owned.log and at not in self._owned.log:
            raise MeshError(
                f"{self.folder}: a record of topic {at[0]} partition {at[1]} came, which this shard does not own; it owns "
                f"{self._owned}"
            )

    def partition_of(self, key: int, partitions: int) -> int:
        """The partition of a key that a question names, of so many. Raises InvalidArgument when the shard, once it is
        connected, does not own it: an answer must not look as if keys of another shard did not exist.
        """
        partition = partition_of_one(key, partitions)
        if self._owned.log and partition not in self._owned.numbers:
            raise self._foreign(key, partition)
        return partition

    def partitions_of(self, keys: U64, partitions: int) -> Array:
        """int64[n]: the partition of each of the keys, uint64[n]. Raises InvalidArgument as `partition_of` does."""
        found = partition_of(keys, partitions)
        if self._owned.log:
            own = self._owned.own.take(found, mode="clip")
            if not own.all():
                first = int(own.argmin())
                raise self._foreign(int(keys[first]), int(found[first]))
        return found

    def _foreign(self, key: int, partition: int) -> InvalidArgument:
        return InvalidArgument(
            f"key {key} is in partition {partition}, which shard {self.folder.parent.name}/{self.folder.name} does not "
            f"own; it owns {self._owned}"
        )

    def positions(self, partitions: Iterable[Partition]) -> Positions:
        """The next offset wanted of each of these partitions."""
        return {at: self._next(at) for at in partitions}

    stands = positions  # a shard need not ask the log

    def applied(self) -> dict[Partition, tuple[int, int]]:
        """Of each partition that was ever applied: the next offset, and how many events came before it."""
        return {at: (progress.next, progress.events) for at, progress in list(self._applied.items())}

    def applied_events(self) -> int:
        """Events applied since the shard was made."""
        return sum(progress.events for progress in list(self._applied.values()))  # a copy: commit adds to it meanwhile

    def _next(self, at: Partition) -> int:
        return self._applied.get(at, NOTHING).next

    def wait(self, reached: Reached, timeout: float) -> None:
        """Return once all these offsets have been applied. Raises DeadlineExceeded naming the first that was not."""
        if self._missing(reached) is None:
            return  # most ask for nothing, or for what was applied long ago
        with self._moved:
            self._moved.wait_for(lambda: self._missing(reached) is None, timeout)
            if (missing := self._missing(reached)) is not None:
                raise DeadlineExceeded(late(missing, self._applied.get(missing[:2], NOTHING), reached[missing]))

    def _missing(self, reached: Reached) -> Place | None:
        place: Place
        for place, offset in reached.items():
            if not self._applied.get(place[:2], NOTHING).has(place, offset):
                return place
        return None


def _noted(folder: Path) -> str | None:
    """Why a folder was found to be damaged, if it was."""
    try:
        return (folder / DAMAGED).read_text(errors="replace").strip() or f"{folder}: is damaged"
    except FileNotFoundError:
        return None


def open_or_rebuild(
    folder: Path,
    form: str,
    families: Iterable[str],
    cache_mb: int = 32,
    memtable_mb: int = 16,
    fill: Callable[[Path], object] = lambda folder: None,
    tuning: Tuning = DEFAULT,
) -> Shard:
    """Open or create a shard. `fill` is given the name of a folder that is not there, to fill it from a snapshot if it can. A
    damaged folder is set aside, and filled anew, or the log is applied to an empty one.

    When the log no longer holds everything the process stays not ready and says so (services/state/follower.py).
    """
    names = tuple(families)
    for _ in range(2):
        if _is_empty(folder):
            fill(folder)
        try:
            return Shard(folder, form, names, cache_mb, memtable_mb, tuning=tuning)
        except Damaged as error:
            reason = str(error)
        gc.collect()  # the error's frames hold iterators, and those the folder
        logger.error("%s; set aside as %s, and rebuilt", reason, _set_aside(folder))
    return Shard(folder, form, names, cache_mb, memtable_mb, tuning=tuning)


def _is_empty(folder: Path) -> bool:
    return not folder.is_dir() or next(folder.iterdir(), None) is None


def set_aside(folder: Path) -> list[Path]:
    """The damaged folders of a shard that lie beside it."""
    return sorted(folder.parent.glob(f"{folder.name}.damaged-*"))


def _set_aside(folder: Path) -> Path:
    """Rename a folder; the newest one alone stays, so that a failing disk is not filled."""
    before, aside = set_aside(folder), folder.with_name(f"{folder.name}.damaged-{wall_clock()}")
    rename_durably(folder, aside)
    for other in before:
        shutil.rmtree(other, ignore_errors=True)
    return aside
