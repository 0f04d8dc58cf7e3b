"""A shard of a view: a database, and the offsets of the log that it has applied.

Data and the offsets it came from are committed in one write batch, so an event is applied exactly once whatever is
killed when. Writes are not synced: the log is, and what the machine loses the log replays.
"""

import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from services.database import Database
from services.errors import DeadlineExceeded, NotReady
from services.log import Partition, Positions, Record
from services.tokens import Reached

_APPLIED = struct.Struct("<QQ")  # next offset, events applied
_AT = struct.Struct(">BH")  # topic, partition


class Shard(Database):
    """One RocksDB with its column families and the offsets applied, by topic and partition."""

    def __init__(
        self, folder: Path, form: str, families: Iterable[str], cache_mb: int = 32, memtable_mb: int = 16
    ) -> None:
        """Open or create it. Raises WrongFormat, HeldElsewhere, or Exhausted when the disk is full."""
        super().__init__(folder, form, ("offsets", *families), cache_mb, memtable_mb)
        self._moved = threading.Condition()
        self._applied: dict[Partition, tuple[int, int]] = self._read_offsets()

    def _read_offsets(self) -> dict[Partition, tuple[int, int]]:
        return {_AT.unpack(key): _APPLIED.unpack(value) for key, value in self.family("offsets").items()}

    def fresh(self, records: Sequence[Record]) -> list[Record]:
        """Those records that have not been applied. Raises NotReady when one between them is missing."""
        position = {at: applied[0] for at, applied in self._applied.items()}
        new = []
        for record in records:
            at, expected = (record.topic, record.partition), position.get((record.topic, record.partition), 0)
            if record.offset < expected:
                continue
            if record.offset > expected:
                raise NotReady(
                    f"{self.folder}: topic {at[0]} partition {at[1]}: offset {record.offset} came, {expected} is next"
                )
            position[at] = record.offset + 1
            new.append(record)
        return new

    def commit(self, batch: Any, records: Sequence[Record], written: Callable[[], None] = lambda: None) -> None:
        """Write the batch and the offsets of the records it came from, atomically; wake who waits for them.

        `written` is called in between: what a view keeps in memory is brought up before anybody is told.
        """
        moved: dict[Partition, tuple[int, int]] = {}
        for record in records:
            at = (int(record.topic), record.partition)
            _, events = moved.get(at) or self._applied.get(at, (0, 0))
            moved[at] = (record.offset + 1, events + len(record.batch))
        for at, applied in moved.items():
            batch.put(_AT.pack(*at), _APPLIED.pack(*applied), self._handles["offsets"])
        self.write(batch)
        written()
        with self._moved:
            self._applied.update(moved)
            self._moved.notify_all()

    def positions(self, partitions: Iterable[Partition]) -> Positions:
        """The next offset wanted of each of these partitions."""
        return {at: self._applied.get(at, (0, 0))[0] for at in partitions}

    def applied_events(self) -> int:
        """Events applied since the shard was made."""
        return sum(events for _, events in list(self._applied.values()))  # a copy: commit adds to it meanwhile

    def wait(self, reached: Reached, timeout: float) -> None:
        """Return once all these offsets have been applied. Raises DeadlineExceeded naming the first that was not."""
        if self._missing(reached) is None:
            return  # most ask for nothing, or for what was applied long ago
        with self._moved:
            self._moved.wait_for(lambda: self._missing(reached) is None, timeout)
            if (missing := self._missing(reached)) is not None:
                topic, partition = missing
                raise DeadlineExceeded(
                    f"not caught up: topic {topic} partition {partition} is at "
                    f"{self._applied.get(missing, (0, 0))[0]}, the token asks for {reached[missing] + 1}"
                )

    def _missing(self, reached: Reached) -> Partition | None:
        for at, offset in reached.items():
            if self._applied.get(at, (0, 0))[0] <= offset:
                return at
        return None
