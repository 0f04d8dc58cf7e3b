"""The one rule by which answers of a view are cached: a change feed with offsets of the log.

A cache and the view behind it apply the same log, each at its own pace. So every cached entry is filled with a position: how
far the view had applied the log, at least, before it was read. The feed knows the offset of the last change of each key that
has come to the cache. An entry is *sure* when its position is past that offset. A later change is still to come to the
cache, and drops the entry before anything that waits for that change is answered. So a sure entry shows every change that
the cache has heard of, however far the view is behind, and nothing depends on a clock. docs/decisions/0061-one-change-feed.md
has the argument for each race.

A view's cache of its own database follows the same rule: its feed is the view's own `apply`, its position that of its shard.

Offsets are known of buckets of keys, not of each key: two keys of one bucket cost a read, no more.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from services.core import tokens
from services.core.columns import I64, U64, Array
from services.core.topics import Topic, hash64
from services.log.protocol import Record

BUCKETS = 1 << 16  # over all partitions
OWN, UNKNOWN = 0, -1  # epochs: of a view's own shard, which goes with its log; of answers that name none, or several
_NOT_FOLLOWED = np.iinfo(np.int64).max  # of a partition of which changes may be missed: no position is past it


class ViewPosition(NamedTuple):
    """How far a view had applied one topic, at least, before it was read: the epoch of the log, and the next offset of each
    partition, 0 where it is left out.
    """

    epoch: int
    next: Mapping[int, int]

    @classmethod
    def of(cls, answers: Iterable[bytes], topic: Topic) -> "ViewPosition":
        """The position that the tokens of several shards' answers state. Raises InvalidArgument for bytes that are no token."""
        epochs, positions = set[int](), dict[int, int]()
        for token in answers:
            reached = tokens.decode(token)
            epochs.update(tokens.epochs(reached))
            positions |= {at[1]: offset + 1 for at, offset in reached.items() if at[0] == topic and len(at) == 2}
        return cls(epochs.pop() if len(epochs) == 1 else UNKNOWN, positions)

    def least(self, other: "ViewPosition") -> "ViewPosition":
        """The position of an answer that is made of two."""
        both = self.next.keys() & other.next.keys()
        epoch = self.epoch if self.epoch == other.epoch else UNKNOWN
        return ViewPosition(epoch, {partition: min(self.next[partition], other.next[partition]) for partition in both})


class Places(NamedTuple):
    """Where a feed has n keys: the partition of each (int64[n]), and the bucket within it."""

    partition: I64
    bucket: I64


def after(records: Sequence[Record], partitions: int) -> I64:
    """int64[partitions]: the next offset of each partition after these records, all of one topic; else 0."""
    positions = np.zeros(partitions, np.int64)
    for record in records:
        positions[record.partition] = record.offset + 1
    return positions


class ChangeFeed:
    """The offsets at which keys of one topic changed, as far as they have come to a cache. Thread-safe.

    `note`, `note_every`, `enter`, `interrupt` and `fill` call their callbacks with the feed's lock held, so that no
    change comes between a decision and its effect. A callback must be quick, and call no feed.
    """

    def __init__(self, partitions: int, buckets: int = BUCKETS) -> None:
        """partitions: of the deployment. Nothing is sure of a partition until `begin` names it."""
        self._partitions, self._buckets = partitions, max(64, buckets // partitions)
        self._lock = threading.Lock()
        self._changed = np.full(
            (partitions, self._buckets), _NOT_FOLLOWED, np.int64
        )  # the offset after the last change
        self._filled = np.zeros(partitions, np.int64)  # the furthest positions of all fills
        self._epoch = OWN

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""
        return int(self._changed.nbytes)

    def begin(self, positions: Mapping[int, int]) -> None:
        """From these positions on (next offset by partition) every change will be noted. Entries that are filled must show all
        before them.
        """
        with self._lock:
            for partition, position in positions.items():
                self._changed[partition] = position

    def enter(self, epoch: int, lost: Callable[[dict[int, int]], bool], clear: Callable[[], None]) -> bool:
        """The log goes on in this epoch. Positions of another one may count other records, so they no longer count.

        lost: whether the log is without some of the records before these positions, up to which entries may show changes. If
        it is, the feed is interrupted, which is answered.
        """
        with self._lock:
            interrupted = epoch != self._epoch and lost(dict(enumerate(self._filled.tolist())))
            if interrupted:
                self._interrupt(clear)
            self._epoch = epoch
            return interrupted

    def interrupt(self, clear: Callable[[], None]) -> None:
        """Changes were missed, or lost by the log: `clear` everything cached. Nothing is sure until `begin`."""
        with self._lock:
            self._interrupt(clear)

    def _interrupt(self, clear: Callable[[], None]) -> None:
        self._changed[:] = _NOT_FOLLOWED
        self._filled[:] = 0
        clear()

    def places(self, keys: U64) -> Places:
        """Where these keys are."""
        hashed = hash64(keys)
        partition = (hashed % np.uint64(self._partitions)).astype(np.int64)
        return Places(partition, ((hashed >> np.uint64(32)) % np.uint64(self._buckets)).astype(np.int64))

    def note(self, keys: Places, after: I64 | int, drop: Callable[[], None]) -> None:
        """These keys have changed: `drop` them, or replace them by their new values.

        after: the next offset after the change, of each partition (int64[partitions]) or of all.
        """
        with self._lock:
            self._changed[keys] = after if isinstance(after, int) else after[keys.partition]
            drop()

    def note_every(self, partition: int, after: int, drop: Callable[[], None]) -> None:
        """Any key of a partition may have changed: `drop` them."""
        with self._lock:
            self._changed[partition] = after
            drop()

    def fill(self, keys: Places, position: ViewPosition, put: Callable[[Array], None]) -> None:
        """Call `put` with bool[n], which of the answers about `keys` are sure; position: taken before they were read."""
        applied = np.array([position.next.get(at, 0) for at in range(self._partitions)], np.int64)
        with self._lock:
            if position.epoch == self._epoch:
                np.maximum(self._filled, applied, out=self._filled)
                put(applied[keys.partition] >= self._changed[keys])
            else:
                put(np.zeros(len(keys.partition), bool))
