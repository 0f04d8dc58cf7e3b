"""Keeps Topic.COUNTS up with Topic.OBJECTS: reads the log, sums what is new, and has the committer append it.

Exactly once, whatever is killed when: the increments, the interests of pins and how far it has come are one atomic write.
It reads only what has been synced, a chunk at a time, and keeps nothing in memory that the log does not hold.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from roadrunner import layout
from roadrunner.aggregation import Aggregation
from roadrunner.committer import Committer
from roadrunner.layout import Aggregate, Aggregated
from roadrunner.staged import Table
from roadrunner.store import EventLog
from roadrunner.stored import StoredRecord
from services.core.clock import Clock, wall_clock
from services.core.errors import Exhausted, MeshError, OutOfRange
from services.log.protocol import End, Partition

logger = logging.getLogger(__name__)
TOGETHER_S = 0.05  # records that come within it are summed and synced as one
FULL = 256 << 10  # bytes of records; a chunk as large is followed by the next immediately
RETRY_S = 1.0
RECORD_ROWS = 40_000  # of a record of COUNTS: about a megabyte


class Aggregator:
    """The thread that aggregates."""

    def __init__(
        self,
        log: EventLog,
        committer: Committer,
        no_space: Callable[[], str],
        partitions: int,
        clock: Clock = wall_clock,
    ) -> None:
        """`no_space`: why the disk has too little space, empty when it has enough."""
        self._log, self._committer, self._check_space, self._partitions = log, committer, no_space, partitions
        self._clock = clock
        self._stopping, self._grown = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="aggregator", daemon=True)
        self._turn = 0
        self._problem = ""

    def start(self) -> None:
        """Begin to aggregate."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the chunk in hand and stop. To be called before the committer stops."""
        self._stopping.set()
        self._grown.set()
        self._thread.join()

    def lag_events(self) -> int:
        """Events of OBJECTS that have not been aggregated."""
        done, ends = self._log.aggregated(), self._log.ends()
        return sum(max(0, _events(ends[at]) - aggregated.events) for at, aggregated in done.items())

    def lag_seconds(self) -> float:
        """The age of the oldest record of OBJECTS that has not been aggregated; 0 when there is none."""
        found: dict[Partition, int] = {}
        with suppress(MeshError):  # the aggregating thread says what is wrong
            found = self._log.oldest_ms({at: aggregated.next for at, aggregated in self._log.aggregated().items()})
        return max(0, self._clock() - min(found.values())) / 1000 if found else 0.0

    def _run(self) -> None:
        with self._log.watching(dict.fromkeys(self._log.aggregated(), 0), self._grown.set):
            while True:
                self._grown.clear()
                if self._stopping.is_set():  # after the clear: `stop` wakes waiting callers only after it has said so
                    return
                try:
                    size = self.step()
                    self._problem = ""
                except OutOfRange:  # retention dropped the next record since it was looked at
                    continue
                except Exception as error:
                    self._fail(error)
                    self._stopping.wait(RETRY_S)
                    continue
                if not size:
                    self._grown.wait()
                if size < FULL:
                    self._stopping.wait(TOGETHER_S)

    def _fail(self, error: Exception) -> None:
        self._log.database.noticed(error)
        if (problem := repr(error)) != self._problem:  # said once, not every second: the disk may be full
            logger.error("aggregation waits: %s", error, exc_info=None if isinstance(error, Exhausted) else error)
        self._problem = problem

    def step(self) -> int:
        """Aggregate a chunk and return once it is on disk: the bytes of its records, 0 when there are none.

        Raises Exhausted when the disk has too little space, and the log's errors when it can't be written.
        """
        if why := self._check_space():
            raise Exhausted(why)
        ends = self._log.ends()
        reached = self._retained(ends)
        found = self._next(reached, ends)
        if found or reached != self._log.aggregated():
            self._committer.submit_aggregate(self._aggregate(found, reached, ends)).result()
        return sum(len(record.batch) for record in found)

    def _next(self, reached: dict[Partition, Aggregated], ends: dict[Partition, End]) -> list[StoredRecord]:
        """The next records; those of another partition first each time, so that none waits for a busy one.

        Of each partition as much as it lags, so that all get to the end together: the pins of a page are in many
        partitions, and the voices of its user are looked up once when they are read together.
        """
        order = list(reached)
        self._turn = (self._turn + 1) % len(order)
        positions = {at: reached[at].next for at in order[self._turn :] + order[: self._turn]}
        return self._log.read(positions, {at: max(1, _events(ends[at]) - reached[at].events) for at in order})

    def _retained(self, ends: dict[Partition, End]) -> dict[Partition, Aggregated]:
        """Where to read on: records that retention dropped can be counted no more."""
        reached = dict(self._log.aggregated())
        for at, aggregated in reached.items():
            first = ends[at].first
            if aggregated.next < first:
                logger.warning(
                    "retention dropped %d records of topic %d partition %d before they were aggregated: "
                    "what was done in them is in no count (offsets %d to %d)",
                    *(first - aggregated.next, *at, aggregated.next, first - 1),
                )
                reached[at] = aggregated._replace(next=first)
        return reached

    def _aggregate(
        self, found: list[StoredRecord], reached: dict[Partition, Aggregated], ends: dict[Partition, End]
    ) -> Aggregate:
        table, voices = (Table(partial(self._log.aggregators, family)) for family in ("interests", "voices"))
        records = [(record.partition, layout.message_of(record.key, record.batch)) for record in found]
        counts = [
            part
            for sums in Aggregation(table, voices).sums(records, self._partitions)
            for part in sums.records(RECORD_ROWS)
        ]
        for record, (_, batch) in zip(found, records, strict=True):
            at = (record.topic, record.partition)
            reached[at] = Aggregated(record.offset + 1, reached[at].events + batch.n)
        for at, aggregated in reached.items():
            if aggregated.next == ends[at].next:  # also right again after records that were dropped
                reached[at] = aggregated._replace(events=_events(ends[at]))
        moved = {at: r for at, r in reached.items() if r != self._log.aggregated()[at]}
        return Aggregate(counts, table.changed, moved, voices.changed, voices.forgotten)


def _events(end: End) -> int:
    """The embedded log counts them."""
    return end.events or 0
