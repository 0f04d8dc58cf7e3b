"""What a process must hear of the log to keep the answers of a view that follows the same log.

Answers are dropped as what they are about changes. But the two hear of a change at different moments, so an answer that
comes after a change may not show it. Therefore the view says how far it had applied the log (`services/core/tokens.py`), and an
answer is kept only if that is past the last change of its id which is known here. A later change is still to come here, and
drops it. So what is kept is what the view says, as of the log's position here; nothing depends on a clock.

Known are the last offsets of buckets of ids, not of each: two ids of one bucket cost a question, no more.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from services.core import tokens
from services.core.columns import U64, Array
from services.core.tokens import Reached
from services.core.topics import Topic, hash64
from services.log.protocol import Partition, Positions, Reader, Record
from services.state.tail import Tail

BUCKETS = 1 << 16  # over all partitions


class Forgetting(Protocol):
    """Where answers are kept, by id."""

    def drop(self, keys: list[int]) -> None:
        """Forget these."""
        ...

    def clear(self) -> None:
        """Forget everything."""
        ...


class Changes:
    """The changes of pins in the topic `objects`, from the log's present end on: a view for a `Follower`. Thread-safe."""

    def __init__(self, log: Reader, partitions: int, relevant: Array, kept: Forgetting) -> None:
        """partitions: of the deployment, all of which are to be followed; relevant: bool[256], the actions that change
        an answer about their pin; kept: the answers, which nobody else changes.
        """
        self._partitions, self._relevant, self._kept = partitions, relevant, kept
        self._lock = threading.Lock()
        self._buckets = max(64, BUCKETS // partitions)
        self._changed = np.zeros((partitions, self._buckets), np.int64)  # the offset after the last change
        self._following = False  # whether all changes since `_changed` was set come here
        self.shard = _Tail(log, self._missed, self._began)

    def apply(self, records: Sequence[Record]) -> None:
        """Drop what these records change."""
        for record in records:
            changes = self._relevant[record.batch.action]
            if changes.any():
                pins = record.batch.pin[changes]
                with self._lock:
                    self._changed[record.partition, self._places(pins)[1]] = record.offset + 1
                    self._kept.drop(pins.tolist())
        self.shard.commit(records)

    def keep(self, pins: U64, reached: Mapping[Partition, int], put: Callable[[list[int]], None]) -> None:
        """Call `put` with the rows of `pins` whose answers may be kept: those that show all that is known here.

        reached: how far the view that answered had applied the log, at least, and in which epoch: offsets of another
        one may stand for other changes. What `put` does, no change comes between.
        """
        partition, bucket = self._places(pins)
        applied = np.array([reached.get((Topic.OBJECTS, at), -1) + 1 for at in range(self._partitions)], np.int64)
        with self._lock:
            if self._following and all(epoch == self.shard.epoch for epoch in tokens.epochs(reached)):
                put(np.flatnonzero(applied[partition] >= self._changed[partition, bucket]).tolist())

    def shows(self, token: bytes) -> bool:
        """Whether what is kept shows every change before this token (of `services/core/tokens.py`)."""
        return not token or self.shard.shows(tokens.decode(token))

    def _places(self, pins: U64) -> tuple[Array, Array]:
        """Partition and bucket of each pin."""
        hashed = hash64(pins)
        of = hashed % np.uint64(self._partitions)
        return of.astype(np.int64), ((hashed >> np.uint64(32)) % np.uint64(self._buckets)).astype(np.int64)

    def _missed(self) -> None:
        with self._lock:
            self._following = False
            self._kept.clear()

    def _began(self, positions: Positions) -> None:
        """What is kept from here on must show all before these positions."""
        with self._lock:
            for (_, partition), offset in positions.items():
                self._changed[partition] = offset
            self._following = True


class _Tail(Tail):
    """A tail that also tells from where it follows."""

    def __init__(self, log: Reader, missed: Callable[[], None], began: Callable[[Positions], None]) -> None:
        super().__init__(log, missed)
        self._began = began

    def positions(self, partitions: Iterable[Partition]) -> Positions:
        """As a Tail; when they are the ends of the log, `began` hears of them before any record is applied."""
        before = self._progress
        positions = super().positions(partitions)
        if self._progress is not before:
            self._began(positions)
        return positions

    def shows(self, reached: Reached) -> bool:
        """Whether these offsets of the topic `objects` have been applied."""
        return self._missing({at: offset for at, offset in reached.items() if at[0] == Topic.OBJECTS}) is None
