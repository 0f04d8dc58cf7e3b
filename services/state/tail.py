"""The substitute for a `Shard` in a view that keeps nothing: it follows the log from its present end.

A view that only drops what it has cached needs no past. When the log no longer holds the next record, all that
the view has may be out of date: the view is cleared, and it follows from the end again.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from services.core.errors import Damaged, DeadlineExceeded
from services.core.tokens import Place, Reached
from services.log.history import LogHistory
from services.log.progress import Progress, late
from services.log.protocol import End, Partition, Positions, Reader, Record

ENDS_TIMEOUT_S = 2.0
NOTHING = Progress()  # of a partition that is not followed


class Tail:
    """The offsets that a view has applied since it began, in memory."""

    dead, damage = False, ""

    def __init__(self, log: Reader, lost: Callable[[], None]) -> None:
        """`lost` is called when records were missed, before any that came after them is applied."""
        self._log, self._lost = log, lost
        self._moved = threading.Condition()
        self._progress: dict[Partition, Progress] = {}
        self._events = 0
        self._identity, self._epoch = b"", 0

    def connect(self, history: LogHistory, ends: Mapping[Partition, End], partitions: Iterable[Partition]) -> None:
        """Before the log is read on: whether the records read are still its past; else `positions` begins at its end."""
        next_ = {at: progress.next for at, progress in self._progress.items()}
        if next_ and (history.identity != self._identity or history.lost(self._epoch, next_, ends)):
            self._lost()
            with self._moved:
                self._progress = {}
        self._identity, self._epoch = history.identity, history.epoch

    @property
    def epoch(self) -> int:
        """The number of the log's epoch that it follows; 0 before it does."""
        return self._epoch

    def damaged(self, what: str) -> Damaged:
        """The error that says so: it keeps nothing that could be damaged."""
        return Damaged(what)

    def positions(self, partitions: Iterable[Partition]) -> Positions:
        """The next offset wanted of each; of one that the log can't give, or at first: its end.

        Raises Unavailable or DeadlineExceeded when the log can't be asked.
        """
        wanted = list(partitions)
        ends = self._log.ends(ENDS_TIMEOUT_S)
        here = {at: ends[at] for at in wanted if at in ends}
        held = all(at in self._progress and end.first <= self._next(at) <= end.next for at, end in here.items())
        if not held or len(here) < len(wanted):
            if self._progress:
                self._lost()
            with self._moved:
                # Writers may have begun before the end.
                self._progress = {at: Progress(here[at].next if at in here else 0, whole=False) for at in wanted}
                self._events = sum(end.events or 0 for end in here.values())
                self._moved.notify_all()
        return {at: progress.next for at, progress in self._progress.items()}

    def stands(self, partitions: Iterable[Partition]) -> Positions:
        """The next offset of each of these that it follows."""
        return {at: self._next(at) for at in partitions if at in self._progress}

    def fresh(self, records: Sequence[Record]) -> list[Record]:
        """Those records that have not been applied, repeats among them without their events. Raises NotReady when one
        before them was lost (services/log/progress.py).
        """
        looked, new = dict[Partition, Progress](), []
        for record in records:
            at = (int(record.topic), record.partition)
            if at not in looked:
                looked[at] = self._of(record).copy()
            applied = looked[at].pass_over(record)
            if applied is not None:
                new.append(applied)
        return new

    def commit(self, records: Sequence[Record]) -> None:
        """The view has applied these records; wake the reads that wait for them."""
        with self._moved:
            for record in records:
                progress = self._progress.setdefault((int(record.topic), record.partition), self._of(record))
                before = progress.events
                progress.move(record)
                self._events += progress.events - before
            self._moved.notify_all()

    def _of(self, record: Record) -> Progress:
        """How far the record's partition has come; of one that was not asked for, up to the record."""
        known = self._progress.get((int(record.topic), record.partition))
        return known or Progress(record.offset, whole=False)

    def _next(self, at: Partition) -> int:
        progress = self._progress.get(at)
        return progress.next if progress else 0

    def applied_events(self) -> int:
        """Events that the log held when the view began, and those applied since."""
        return self._events

    def wait(self, reached: Reached, timeout: float) -> None:
        """Return once all these offsets have been applied. Raises DeadlineExceeded naming the first that was not."""
        with self._moved:
            self._moved.wait_for(lambda: self._missing(reached) is None, timeout)
            if (missing := self._missing(reached)) is not None:
                raise DeadlineExceeded(late(missing, self._known(missing), reached[missing]))

    def _missing(self, reached: Reached) -> Place | None:
        return next((place for place, offset in reached.items() if not self._known(place).has(place, offset)), None)

    def _known(self, place: Place) -> Progress:
        return self._progress.get(place[:2], NOTHING)
