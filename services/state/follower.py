"""Applies the log to a view, for as long as the process lives, on a thread of its own.

It knows where the view stands, asks the log for the next records, and applies chunk by chunk. When the log is away it
asks again; when the view cannot apply, it says why and the process is not ready.
"""

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

from services.core import tokens
from services.core.clock import Clock, wall_clock
from services.core.errors import Damaged, DeadlineExceeded, MeshError, NotReady, OutOfRange, Unavailable
from services.core.tokens import Reached
from services.core.topics import INGEST, Topic
from services.log.history import Epoch, LogHistory
from services.log.protocol import End, Partition, Positions, Reader, Record

logger = logging.getLogger(__name__)
RETRY_S = 0.2
ENDS_TIMEOUT_S = 2.0
MAX_UNKNOWN = 1_000  # epochs that the log was asked about and does not know
HISTORY_EVERY_S = 0.25  # so often a token of an epoch that is not known may ask the log
ENDS_EVERY_S = 0.5  # the greatest age of the known end of the log when `lag` is called
ANSWER_S = 0.1  # a caller waits so long for the log
READY_LAG_EVENTS = 2_000  # so many events behind is still ready: the view is applying, not lost


class Lag(NamedTuple):
    """What the log held a moment ago and a view has not applied: events, or records where the log does not count events;
    records, at most, since offsets that are left out count too; and the age of the oldest of them in seconds.
    """

    events: int = 0
    records: int = 0
    seconds: float = 0.0


def _places(reached: Reached) -> dict[Partition, int]:
    """The records that a token names, those of accepted batches as those of the topic that has them."""
    found = dict[Partition, int]()
    for place, offset in reached.items():
        if place[0] != tokens.EPOCH:
            at = (place[0], place[1]) if len(place) == 2 else (INGEST, place[2])
            found[at] = max(offset, found.get(at, 0))
    return found


class Applied(Protocol):
    """The part of the log that a view has applied: a `Shard`, which keeps it with the data, or a `Tail`, which keeps nothing."""

    dead: bool
    damage: str

    def connect(self, history: LogHistory, ends: Mapping[Partition, End], partitions: Iterable[Partition]) -> None:
        """Before the log is read on: see whether the applied records are still its past. Raises Damaged or NotReady."""
        ...

    def damaged(self, what: str) -> Damaged:
        """Take note that its data is damaged; the error that says so."""
        ...

    def positions(self, partitions: Iterable[Partition]) -> Positions:
        """The next offset wanted of each of these partitions."""
        ...

    def stands(self, partitions: Iterable[Partition]) -> Positions:
        """The same of those that are known, without asking the log."""
        ...

    def fresh(self, records: Sequence[Record]) -> list[Record]:
        """Those records that have not been applied, repeats among them without their events."""
        ...

    def applied_events(self) -> int:
        """Events applied."""
        ...

    def wait(self, reached: Reached, timeout: float) -> None:
        """Return once all these offsets have been applied. Raises DeadlineExceeded naming the first that was not."""
        ...


class View(Protocol):
    """A store that the log is applied to."""

    @property
    def shard(self) -> Applied:
        """Where it stands."""
        ...

    def apply(self, records: list[Record]) -> None:
        """Apply records, in order within a partition, and commit their offsets with them. None is applied twice."""
        ...


class Follower:
    """The thread that keeps one view up with the log."""

    def __init__(
        self,
        log: Reader,
        view: View,
        topics: Iterable[Topic],
        partitions: Iterable[int],
        clock: Clock = wall_clock,
    ) -> None:
        self._log, self._view, self._clock = log, view, clock
        self._partitions = [(int(topic), partition) for partition in partitions for topic in topics]
        self._wanted = frozenset(self._partitions)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._problem = "has not reached the log yet"
        self._caught_up = self._follows = False
        self._history = LogHistory(b"", [Epoch(0, {})])  # none is known yet
        self._told_at, self._unknown = float("-inf"), set[int]()
        self._ends: dict[Partition, End] | None = (
            None  # of the partitions followed; unknown until the log has been asked
        )
        self._asked, self._answered = threading.Event(), threading.Condition()
        self._asked_at = self._looked_at = float("-inf")

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()
        threading.Thread(target=self._watch_ends, name="ends", daemon=True).start()

    def stop(self) -> None:
        """Finish the chunk in hand and stop."""
        self._stopping.set()
        self._asked.set()
        self._log.close()
        self._thread.join(10)

    def why_not_ready(self) -> str:
        """Empty once the view has caught up with the log; else the reason why not."""
        if self._view.shard.damage:
            return self._view.shard.damage
        if self._caught_up:
            return self._problem
        behind = self.lag().events
        if not self._problem and self._ends is not None and behind <= READY_LAG_EVENTS:
            self._caught_up = True
            return ""
        return self._problem or f"catching up: {behind} events behind the log"

    def lag(self) -> Lag:
        """How far the view is behind the log.

        The log is asked when `lag` is called, not all the time; one that does not answer soon is not waited for.
        """
        with self._answered:
            now = time.monotonic()
            if now - self._looked_at > ENDS_EVERY_S:
                if not self._asked.is_set():
                    self._asked_at = now
                    self._asked.set()
                self._answered.wait_for(lambda: not self._asked.is_set(), max(0.0, self._asked_at + ANSWER_S - now))
        return self._lag()

    def _lag(self) -> Lag:
        ends, applied = self._ends or {}, self._view.shard.applied_events()
        stands = self._view.shard.stands(self._partitions)
        behind = {at: end.next - stands[at] for at, end in ends.items() if stands.get(at, end.next) < end.next}
        oldest_ms = min((ends[at].oldest_ms for at in behind if ends[at].oldest_ms), default=0)
        seconds = max(0, self._clock() - oldest_ms) / 1000 if oldest_ms else 0.0
        counted = [end.events for end in ends.values() if end.events is not None]
        events = sum(counted) - applied if len(counted) == len(ends) else sum(behind.values())
        return Lag(max(0, events), sum(behind.values()), seconds)

    def noticed(self, error: Exception) -> None:
        """Take note of an error that a reader met, if it says that the data of the view is damaged."""
        if isinstance(error, Damaged) and not self._view.shard.damage:
            self._view.shard.damaged(str(error))

    def dead(self) -> bool:
        """Whether the view can't be written until its folder is opened again."""
        return self._view.shard.dead

    def _watch_ends(self) -> None:
        """Asks on a thread of its own, so that a log that hangs holds up no status request."""
        while self._asked.wait() and not self._stopping.is_set():
            with suppress(Exception):  # the following thread says what is wrong with the log
                self._ask_ends()
            with self._answered:
                self._looked_at = time.monotonic()
                self._asked.clear()
                self._answered.notify_all()

    def _ask_ends(self) -> dict[Partition, End]:
        stands = self._view.shard.stands(self._partitions)
        ends = self._log.ends(ENDS_TIMEOUT_S, stands)
        if self._follows and all(at in ends and ends[at].next == offset for at, offset in stands.items()):
            self._problem = ""  # what it lacked when it began to follow may have been applied, or been none of its own
        self._ends = {at: end for at, end in ends.items() if at in self._wanted}
        return ends

    def wait(self, reached: Reached, timeout: float) -> None:
        """Return once the view has applied those of these offsets that are its own.

        Raises NotReady while it has not caught up since it started (it would answer as if the events that it lacks had never
        been), DeadlineExceeded when the offsets take longer.
        """
        if (not self._caught_up or self._view.shard.damage) and (why := self.why_not_ready()):
            raise NotReady(why)
        if named := tokens.epochs(reached):
            self._check_epochs(named, reached)
        self._view.shard.wait(tokens.own(reached, self._wanted), timeout)

    def _check_epochs(self, named: list[int], reached: Reached) -> None:
        """Raises OutOfRange for a token of a past that the log has lost, which would never be reached.

        One of an epoch that can't be asked for now is waited for like any other.
        """
        if named == [self._history.epoch]:
            return
        lost = any(map(self._foreign, named))
        if not lost and len(named) == 1 and self._history.knows(named[0]) and named[0] != self._history.epoch:
            asked = {at: offset + 1 for at, offset in _places(reached).items()}
            lost = bool(self._history.lost(named[0], asked, {}))
        if lost:
            raise OutOfRange(
                "token: it is of a past that the log has lost, as after a restore of an older copy; read without it, and "
                "publish what it stands for again, with the same ids"
            )

    def _foreign(self, epoch: int) -> bool:
        """Whether the log has said that an epoch is none of its own; it may have begun one since it was asked."""
        if self._history.knows(epoch) or epoch in self._unknown:
            return epoch in self._unknown
        if time.monotonic() - self._told_at > HISTORY_EVERY_S:
            self._told_at = time.monotonic()
            with suppress(Unavailable, DeadlineExceeded):
                self._history = self._log.history(ENDS_TIMEOUT_S)
                if not self._history.knows(epoch) and len(self._unknown) < MAX_UNKNOWN:
                    self._unknown.add(epoch)
        return epoch in self._unknown

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except (Unavailable, DeadlineExceeded) as error:
                logger.debug("the log is away: %s", error)
            except MeshError as error:
                self._fail(str(error))
            except Exception as error:
                if self._stopping.is_set():
                    return  # the log was closed while it was asked
                self._fail(repr(error), error)
            self._stopping.wait(RETRY_S)

    def _fail(self, why: str, error: Exception | None = None) -> None:
        problem = f"cannot apply the log: {why}"
        if problem != self._problem:  # said once, not five times a second: the disk may be full
            logger.error("%s", problem, exc_info=error)
        self._problem = problem

    def _follow(self) -> None:
        history = self._log.history(ENDS_TIMEOUT_S)
        try:
            self._view.shard.connect(history, self._ask_ends(), self._partitions)
        except MeshError:
            self._caught_up = False  # its data is not as the log has it
            raise
        self._history, self._unknown = history, set()
        positions = self._view.shard.positions(self._partitions)
        ends = self._ask_ends()  # after the positions: records between them are still to be applied
        if all(at in ends and ends[at].next == offset for at, offset in positions.items()):
            self._problem = ""  # else a problem stays until something has been applied, so that it does not flicker
        self._follows = True
        try:
            for records in self._log.subscribe(positions, history.epoch):
                self._apply(records)
                self._problem = ""
                if self._stopping.is_set():
                    return
        finally:
            self._follows = False

    def _apply(self, records: list[Record]) -> None:
        try:
            self._view.apply(self._view.shard.fresh(records))
        except Damaged as error:
            self.noticed(error)
            raise
        except (Unavailable, DeadlineExceeded) as error:
            raise MeshError(str(error)) from None  # the view's own trouble, which is not the log's being away
