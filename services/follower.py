"""Applies the log to a view, for as long as the process lives, on a thread of its own.

It knows where the view stands, asks the log for what comes next, and applies chunk by chunk. When the log is away it
asks again; when the view cannot apply, it says why and the process is not ready.
"""

import logging
import threading
import time
from collections.abc import Iterable
from typing import Protocol

from services.errors import MeshError, Unavailable
from services.log import Log, Record
from services.shard import Shard
from services.token import Reached
from services.topics import Topic

logger = logging.getLogger(__name__)
RETRY_S = 0.2
ENDS_TIMEOUT_S = 2.0
SETTLED = 20_000  # so many events behind is still ready: the view is applying, not lost


class View(Protocol):
    """A store that the log is applied to."""

    shard: Shard

    def apply(self, records: list[Record]) -> None:
        """Apply records, in order within a partition, and commit their offsets with them. None is applied twice."""
        ...


class Follower:
    """The thread that keeps one view up with the log."""

    def __init__(self, log: Log, view: View, topics: Iterable[Topic], partitions: Iterable[int]) -> None:
        self._log, self._view = log, view
        self._partitions = [(int(topic), partition) for partition in partitions for topic in topics]
        self._wanted = frozenset(self._partitions)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._problem = "has not reached the log yet"
        self._caught_up = False
        self._end_events, self._asked = 0, 0.0
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the chunk in hand and stop."""
        self._stopping.set()
        self._log.close()
        self._thread.join(10)

    def why_not_ready(self) -> str:
        """Empty once the view has caught up with the log; else what keeps it."""
        if self._caught_up:
            return self._problem
        behind = self.behind()
        if not self._problem and self._asked and behind <= SETTLED:
            self._caught_up = True
            return ""
        return self._problem or f"catching up: {behind} events behind the log"

    def behind(self) -> int:
        """Events in the log that the view has not applied, as far as the log can be asked."""
        with self._lock:
            if time.monotonic() - self._asked > 0.5:
                self._ask_ends()
        return max(0, self._end_events - self._view.shard.applied_events())

    def _ask_ends(self) -> None:
        try:
            ends = self._log.ends(ENDS_TIMEOUT_S)
        except MeshError:
            return
        self._end_events = sum(end.events for at, end in ends.items() if at in self._wanted)
        self._asked = time.monotonic()

    def wait(self, reached: Reached, timeout: float) -> None:
        """Return once the view has applied those of these offsets that are its own. Raises DeadlineExceeded."""
        self._view.shard.wait({at: offset for at, offset in reached.items() if at in self._wanted}, timeout)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except Unavailable as error:
                logger.info("the log is away: %s", error)
            except MeshError as error:
                self._problem = str(error)
                logger.error("cannot apply the log: %s", error)
            except Exception as error:
                self._problem = f"cannot apply the log: {error!r}"
                logger.exception("cannot apply the log")
            self._stopping.wait(RETRY_S)

    def _follow(self) -> None:
        self._log.ends(ENDS_TIMEOUT_S)
        self._problem = ""
        for records in self._log.subscribe(self._view.shard.positions(self._partitions)):
            self._view.apply(self._view.shard.fresh(records))
            self._problem = ""
            if self._stopping.is_set():
                return
