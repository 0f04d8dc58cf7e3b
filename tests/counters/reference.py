"""The answers of counters, one increment after the other in plain Python; and records of increments without a log."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from services.core.columns import ids
from services.core.events import Batch, events
from services.core.topics import Topic, partition_of, partition_of_one
from services.log.memory import MemoryLog
from services.log.protocol import Record

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
WEEK, QUARTER = 168 * HOUR_MS, 90 * DAY_MS
Increment = tuple[int, int, int, int, int]  # kind, object, action, when, how often


@dataclass
class Slow:
    """Every increment, never forgotten."""

    happened: list[Increment] = field(default_factory=list)
    _by: dict[tuple[int, int, int], list[tuple[int, int]]] = field(default_factory=dict)
    _newest: dict[int, int] = field(default_factory=dict)  # by partition: the latest
    _sorted: int = 0
    partitions: int = 1

    def count(self, kind: int, object_: int, action: int, window: int, now: int, clock: int) -> int:
        """How often, by the rules of the README: buckets that start after now - window, until now, and have not expired."""
        of = self._of().get((kind, object_, action), [])
        clock = max(clock, self._newest.get(self.partition(object_), 0) // HOUR_MS * HOUR_MS)
        size, kept = (HOUR_MS, WEEK) if window <= WEEK else (DAY_MS, QUARTER)
        total = 0
        for at_ms, times in of:
            start = at_ms - at_ms % size
            inside = now - window < start <= now and start > clock - kept
            total += times if inside or window == 0 else 0
        return total

    def partition(self, object_: int) -> int:
        """The partition of an object."""
        return partition_of_one(object_, self.partitions)

    def _of(self) -> dict[tuple[int, int, int], list[tuple[int, int]]]:
        """The increments, by object and action; sorted out as they come."""
        for kind, object_, action, at_ms, times in self.happened[self._sorted :]:
            self._by.setdefault((kind, object_, action), []).append((at_ms, times))
            partition = self.partition(object_)
            self._newest[partition] = max(at_ms, self._newest.get(partition, 0))
        self._sorted = len(self.happened)
        return self._by

    def top(self, kind: int, action: int, window: int, k: int, now: int, clock: int) -> list[tuple[int, int]]:
        """(object, count), most first, then by id."""
        objects = {object_ for of, object_, did in self._of() if (of, did) == (kind, action)}
        counts = Counter({o: self.count(kind, o, action, window, now, clock) for o in objects})
        return sorted((+counts).items(), key=lambda item: (-item[1], item[0]))[:k]


class Increments:
    """Hands out records of COUNTS as the aggregator's log would."""

    def __init__(self, partitions: int) -> None:
        self._partitions, self._log = partitions, MemoryLog(partitions)

    def records(self, increments: Sequence[Increment]) -> list[Record]:
        """One record for each partition that the increments touch."""
        if not increments:
            return []
        batch = batch_of(increments)
        where, found = partition_of(batch.target, self._partitions), []
        for partition in np.unique(where).tolist():
            rows = np.flatnonzero(where == partition)
            found.append(self._log.append_to(Topic.COUNTS, partition, batch.take(rows)))
        return found


def batch_of(increments: Iterable[Increment]) -> Batch:
    """Increments as the aggregator writes them."""
    kind, object_, action, at_ms, times = zip(*increments, strict=True)
    hours = np.array(at_ms) // HOUR_MS * HOUR_MS
    return events(len(kind), kind=kind, target=ids(object_), action=action, at_ms=hours, count=times)
