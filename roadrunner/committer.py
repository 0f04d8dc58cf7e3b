"""Group commit: publishes that wait at the same time become one append and one sync, then all are acknowledged.

One thread owns the log's writing side. A publish waits in a bounded queue; when that is full it is shed at once. What
the aggregator made is written between them, one chunk with a group, and shares its sync.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

from roadrunner.store import Aggregate, EventLog, Published
from services.errors import Exhausted, MeshError, Unavailable
from services.events import Batch

logger = logging.getLogger(__name__)
GROUP_EVENTS = 16_000  # of one append, so that a record stays small enough to be applied at once
RETAIN_EVERY_S = 10.0
Waiting = tuple[Batch, "Future[Published]"]


class Committer:
    """The thread that appends."""

    def __init__(self, log: EventLog, max_waiting: int, room: Callable[[], str]) -> None:
        """`max_waiting`: publishes in the queue. `room`: why there is no room on the disk, empty when there is."""
        self._log, self._room = log, room
        self._queue: queue.Queue[Waiting | None] = queue.Queue(max_waiting)
        self._made: queue.SimpleQueue[tuple[Aggregate, Future[None]]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        self._stopping = threading.Event()
        self._retained = time.monotonic()
        self.groups = 0

    def start(self) -> None:
        """Begin to append."""
        self._thread.start()

    def stop(self) -> None:
        """Append what is waiting, then stop."""
        self._stopping.set()
        self._wake()
        self._thread.join()

    def _wake(self) -> None:
        with suppress(queue.Full):  # then it is awake
            self._queue.put_nowait(None)

    def submit(self, batch: Batch) -> "Future[Published]":
        """Have a validated batch appended; the future is done once it is on disk, or could not be written.

        Raises Exhausted when the queue or the disk is full.
        """
        if why := self._room():
            raise Exhausted(why)
        future: Future[Published] = Future()
        try:
            self._queue.put_nowait((batch, future))
        except queue.Full:
            raise Exhausted(f"{self._queue.maxsize} publishes are waiting already; retry after a moment") from None
        return future

    def submit_aggregate(self, made: Aggregate) -> "Future[None]":
        """Have what the aggregator made appended; the future is done once it is on disk, or could not be written."""
        future: Future[None] = Future()
        self._made.put((made, future))
        self._wake()
        return future

    def _run(self) -> None:
        while not (self._stopping.is_set() and self._queue.empty() and self._made.empty()):
            group = self._next_group()
            made = None if self._made.empty() else self._made.get()
            if group or made:
                self._commit(group, made)
            if time.monotonic() - self._retained > RETAIN_EVERY_S:
                self._retain()

    def _next_group(self) -> list[Waiting]:
        """What waits, in the order in which it came; none after a while without any."""
        group: list[Waiting] = []
        size = 0
        while size < GROUP_EVENTS:
            try:
                waiting = self._queue.get_nowait() if group else self._queue.get(timeout=RETAIN_EVERY_S)
            except queue.Empty:
                break
            if waiting is None:
                break
            batch, future = waiting
            if future.set_running_or_notify_cancel():  # else its caller has gone
                group.append(waiting)
                size += len(batch)
        return group

    def _commit(self, group: list[Waiting], made: "tuple[Aggregate, Future[None]] | None") -> None:
        counted = self._append_aggregate(*made) if made else None
        try:
            published = self._log.append([batch for batch, _ in group]) if group else []
            self._log.sync()
        except Exception as error:
            known = error if isinstance(error, MeshError) else Unavailable(f"the log could not be written: {error!r}")
            logger.exception("a group of %d publishes failed", len(group))
            for _, future in group:
                future.set_exception(known)
            if counted:
                counted.set_exception(known)
            return
        self.groups += len(group) > 0
        for (_, future), result in zip(group, published, strict=True):
            future.set_result(result)
        if counted:
            counted.set_result(None)

    def _append_aggregate(self, made: Aggregate, future: "Future[None]") -> "Future[None] | None":
        """The future, if it is to be set when the write has been synced; publishes do not suffer from a failure here."""
        try:
            self._log.append_aggregate(made)
        except Exception as error:
            future.set_exception(error)
            return None
        return future

    def _retain(self) -> None:
        self._retained = time.monotonic()
        try:
            dropped = self._log.retain()
            self._log.forget_accepted()
        except Exception:  # publishes go on without it
            logger.exception("retention failed")
            return
        if dropped:
            logger.info("retention dropped %d bytes", dropped)
