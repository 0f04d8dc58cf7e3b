"""What stands for a `Shard` in a view that keeps nothing: it follows the log from its present end.

A view that only drops what it has cached needs no past. When the log no longer holds what comes next, whatever the
view has may be out of date: it is told so, and follows from the end again.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from services.core.errors import Damaged, DeadlineExceeded, NotReady
from services.core.tokens import Reached
from services.log.history import History
from services.log.protocol import End, Partition, Positions, Reader, Record

ENDS_TIMEOUT_S = 2.0


class Tail:
    """The offsets that a view has applied since it began, in memory."""

    dead, damage = False, ""

    def __init__(self, log: Reader, lost: Callable[[], None]) -> None:
        """`lost` is called when records were missed, before any that came after them is applied."""
        self._log, self._lost = log, lost
        self._moved = threading.Condition()
        self._next: Positions = {}
        self._events = 0
        self._identity, self._epoch = b"", 0

    def connect(self, history: History, ends: Mapping[Partition, End], partitions: Iterable[Partition]) -> None:
        """Before the log is read on: whether what was read is still its past; else `positions` begins at its end."""
        if self._next and (history.identity != self._identity or history.lost(self._epoch, self._next, ends)):
            self._lost()
            with self._moved:
                self._next = {}
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
        held = all(at in self._next and end.first <= self._next[at] <= end.next for at, end in here.items())
        if not held or len(here) < len(wanted):
            if self._next:
                self._lost()
            with self._moved:
                self._next = {at: here[at].next if at in here else 0 for at in wanted}
                self._events = sum(end.events for end in here.values())
                self._moved.notify_all()
        return dict(self._next)

    def fresh(self, records: Sequence[Record]) -> list[Record]:
        """Those records that have not been applied. Raises NotReady when one between them is missing."""
        position, new = dict(self._next), []
        for record in records:
            at = (int(record.topic), record.partition)
            expected = position.get(at, record.offset)
            if record.offset > expected:
                raise NotReady(f"topic {at[0]} partition {at[1]}: offset {record.offset} came, {expected} is next")
            if record.offset == expected:
                position[at] = record.offset + 1
                new.append(record)
        return new

    def commit(self, records: Sequence[Record]) -> None:
        """The view has applied these records; wake who waits for them."""
        with self._moved:
            for record in records:
                self._next[int(record.topic), record.partition] = record.offset + 1
                self._events += len(record.batch)
            self._moved.notify_all()

    def applied_events(self) -> int:
        """Events that the log held when the view began, and those applied since."""
        return self._events

    def wait(self, reached: Reached, timeout: float) -> None:
        """Return once all these offsets have been applied. Raises DeadlineExceeded naming the first that was not."""
        with self._moved:
            self._moved.wait_for(lambda: self._missing(reached) is None, timeout)
            if (missing := self._missing(reached)) is not None:
                raise DeadlineExceeded(
                    f"not caught up: topic {missing[0]} partition {missing[1]} is at {self._next.get(missing, 0)}, "
                    f"the token asks for {reached[missing] + 1}"
                )

    def _missing(self, reached: Reached) -> Partition | None:
        return next((at for at, offset in reached.items() if self._next.get(at, 0) <= offset), None)
