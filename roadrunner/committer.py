"""Group commit: publishes that wait at the same time become one append and one sync, then all are acknowledged.

One thread owns the log's writing side. A publish waits in a bounded queue; when that is full it is shed immediately. The
aggregator's results are written between them, one chunk with a group, and share its sync. An append and a sync cost much
the same for one event as for hundreds, so while several callers send small publishes, it waits a moment for more.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple

from protos import events_pb2
from roadrunner.layout import Aggregate
from roadrunner.store import EventLog, PublishResult
from services.core.errors import Exhausted, MeshError, Unavailable
from services.log.protocol import Draft
from services.state.coverage import NO_BOUND, Floor

logger = logging.getLogger(__name__)
GROUP_EVENTS = 16_000  # of one append, so that a record stays small enough to be applied in one piece
FEW_EVENTS, JOIN_S = 256, 0.002  # a group as small waits so long for others, if the one before had some
MANY, JOINS = 4, 3  # and again while as many have come meanwhile; so often at most
RETAIN_EVERY_S = 10.0
SPACE_EVERY_S, SPACE_LATE_S = (
    0.01,
    0.02,
)  # between looks at the disk: by the committing thread; then by the submitting one


class Waiting(NamedTuple):
    """A publish in the queue."""

    batch: events_pb2.Batch
    answer: Callable[[PublishResult | MeshError], object]  # called by the committing thread
    gone: Callable[[], bool]  # whether its caller has given up


class OwnRecords(NamedTuple):
    """Records that this process made itself, to be appended between publishes."""

    append: Callable[[], Any]
    future: "Future[Any]"


class DurableAnswer(NamedTuple):
    """A result that holds once it is on disk."""

    future: "Future[Any]"
    result: Any


class Committer:
    """The thread that appends."""

    def __init__(
        self,
        log: EventLog,
        max_waiting: int,
        no_space: Callable[[], str],
        floor: Callable[[], Floor] = lambda: NO_BOUND,
    ) -> None:
        """`max_waiting`: publishes in the queue. `no_space`: why the disk has too little space, empty when it has enough.
        `floor`: how far retention may drop the log.
        """
        self._log, self._check_space, self._max_waiting, self._floor = log, no_space, max_waiting, floor
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._made: queue.SimpleQueue[OwnRecords] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        self._stopping = threading.Event()
        self._retained = time.monotonic()
        self._no_space, self._looked = "", 0.0
        self._company = False
        self.groups = self.held_bytes = 0  # held: over the retention, and kept as no snapshots cover them
        self._held_why = ""

    def start(self) -> None:
        """Begin to append."""
        self._thread.start()

    def stop(self) -> None:
        """Append what is waiting, then stop."""
        self._stopping.set()
        self._queue.put(None)
        self._thread.join()

    def submit(
        self,
        batch: events_pb2.Batch,
        answer: Callable[[PublishResult | MeshError], object],
        gone: Callable[[], bool] = lambda: False,
    ) -> None:
        """Have a batch that `intake.check` let pass appended.

        `answer` is called, on the committing thread, once it is on disk or could not be written; not at all if it was
        `gone` before its turn. Raises Exhausted when the queue or the disk is full.
        """
        if why := self._why_no_space():
            raise Exhausted(why)
        if self._queue.qsize() >= self._max_waiting:
            raise Exhausted(f"{self._max_waiting} publishes are waiting already; retry after a moment")
        self._queue.put(Waiting(batch, answer, gone))

    def _why_no_space(self) -> str:
        """As the disk said a moment ago; while it is full, as it says now.

        Under load the committing thread looks: it costs the submitting event loop its turn of the interpreter.
        """
        self._look(0.0 if self._no_space else SPACE_LATE_S)
        return self._no_space

    def _look(self, after_s: float) -> None:
        now = time.monotonic()
        if now - self._looked > after_s:
            self._no_space, self._looked = self._check_space(), now

    def submit_aggregate(self, made: Aggregate) -> "Future[None]":
        """Have what the aggregator made appended; the future is done once it is on disk, or could not be written."""
        return self._submit(partial(self._log.append_aggregate, made))

    def submit_drafts(self, drafts: Sequence[Draft]) -> "Future[list[int]]":
        """Have records appended as they are; the future has their offsets once they are on disk. Raises Exhausted when the
        disk is full.
        """
        if why := self._why_no_space():
            raise Exhausted(why)
        return self._submit(partial(self._log.append_drafts, drafts))

    def _submit(self, append: Callable[[], Any]) -> "Future[Any]":
        future: Future[Any] = Future()
        self._made.put(OwnRecords(append, future))
        self._queue.put(None)
        return future

    def _run(self) -> None:
        while not (self._stopping.is_set() and self._queue.empty() and self._made.empty()):
            group = self._next_group()
            made = None if self._made.empty() else self._made.get()
            if group or made:
                self._look(SPACE_EVERY_S)
                self._commit(group, made)
            if time.monotonic() - self._retained > RETAIN_EVERY_S:
                self._retain()

    def _next_group(self) -> list[Waiting]:
        """The waiting publishes, in order of arrival; none after a while without any."""
        group: list[Waiting] = []
        size = self._take(group, 0, RETAIN_EVERY_S)
        for _ in range(JOINS if group and self._company else 0):
            if size >= FEW_EVENTS or self._stopping.is_set():
                break
            before = len(group)
            time.sleep(JOIN_S)
            size = self._take(group, size, 0)
            if len(group) < before + MANY:
                break
        self._company = len(group) > 1
        return group

    def _take(self, group: list[Waiting], size: int, timeout: float) -> int:
        """Add what is in the queue to a group of `size` events, after at most `timeout` seconds without any; its size."""
        while size < GROUP_EVENTS:
            try:
                waiting = self._queue.get(timeout=timeout) if timeout else self._queue.get_nowait()
            except queue.Empty:
                break
            timeout = 0
            if waiting is not None and not waiting.gone():
                group.append(waiting)
                size += waiting.batch.n
        return size

    def _commit(self, group: list[Waiting], made: OwnRecords | None) -> None:
        answer = self._append_made(made) if made else None
        try:
            published = self._log.append([waiting.batch for waiting in group]) if group else []
            self._log.sync()
        except Exception as error:
            known = (
                error
                if isinstance(error, MeshError)
                else Unavailable("the log could not be written; its process's log says why")
            )
            logger.exception("a group of %d publishes failed", len(group))
            for waiting in group:
                waiting.answer(known)
            if answer:
                answer.future.set_exception(known)
            return
        self.groups += len(group) > 0
        for waiting, result in zip(group, published, strict=True):
            waiting.answer(result)
        if answer:
            answer.future.set_result(answer.result)

    def _append_made(self, made: OwnRecords) -> "DurableAnswer | None":
        """The result of the future once the write has been synced; publishes do not suffer from a failure here."""
        try:
            return DurableAnswer(made.future, made.append())
        except Exception as error:
            made.future.set_exception(error)
            return None

    def _retain(self) -> None:
        self._retained = time.monotonic()
        try:
            floor = self._floor()
            retained = self._log.retain(floor)
            self._log.forget_accepted()
        except Exception:  # publishes go on without it
            logger.exception("retention failed")
            return
        if retained.dropped:
            logger.info("retention dropped %d bytes", retained.dropped)
        self._report_held(retained.held, floor.why or "the newest snapshots but one do not reach as far")

    def _report_held(self, held: int, why: str) -> None:
        self.held_bytes = held
        if held and why != self._held_why:
            logger.warning("retention is held back: %d bytes over it are in no snapshots of every view: %s", held, why)
        self._held_why = why if held else ""
