"""Which log this is, and whether it is still the log that a reader read before: its identity and its epochs.

A log begins an epoch, of a random number, whenever it is opened, and keeps where each began: the offset of every
partition then. A reader keeps the number of the epoch that it read in. A log that was put back from an older
copy, or lost its end, does not know the number, or says that this epoch ended before the records read of it: other
records were written at those offsets since. This is how Kafka's replicas find where they diverged (KIP-101, leader
epochs), with random numbers, since two copies of a log that go on apart would count to the same ones.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from services.log.protocol import End, Partition

KEPT = 1_000  # epochs; a reader that was away for longer reads anew


class Epoch(NamedTuple):
    """One opening of the log: its number, and the next offset of each partition then; 0 is left out."""

    number: int
    starts: Mapping[Partition, int]


class LogHistory(NamedTuple):
    """The identity of a log, and its epochs, oldest first; the last is now."""

    identity: bytes
    epochs: Sequence[Epoch]

    @property
    def epoch(self) -> int:
        """The number of the epoch that is now."""
        return self.epochs[-1].number

    def knows(self, epoch: int) -> bool:
        """Whether an epoch is one of this log's."""
        return any(known.number == epoch for known in self.epochs)

    def end_of(self, epoch: int, partition: Partition) -> int | None:
        """Where an epoch ended in a partition; None: it is now, or it is none of this log's."""
        at = next((i for i, known in enumerate(self.epochs) if known.number == epoch), None)
        if at is None or at + 1 == len(self.epochs):
            return None
        return self.epochs[at + 1].starts.get(partition, 0)

    def lost(self, epoch: int, positions: Mapping[Partition, int], ends: Mapping[Partition, End]) -> str:
        """Why a reader that has read up to these positions in that epoch can't go on; empty when it can."""
        at = next((i for i, known in enumerate(self.epochs) if known.number == epoch), None)
        if at is None:
            return f"the log does not know the epoch {epoch:016x} in which it was read: it is another log, or an older copy"
        later = self.epochs[at + 1] if at + 1 < len(self.epochs) else None
        for partition, position in positions.items():
            end = later.starts.get(partition, 0) if later else ends[partition].next if partition in ends else 0
            if position > end:
                return (
                    f"topic {partition[0]} partition {partition[1]}: was read up to {position} in the epoch {epoch:016x}, "
                    f"which ended at {end}: the log has lost what followed"
                )
        return ""


def new_number() -> int:
    """The number of a new epoch: never 0."""
    return secrets.randbits(63) | 1


def new_identity() -> bytes:
    """The identity of a new log."""
    return secrets.token_bytes(16)
