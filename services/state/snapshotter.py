"""The thread by which a running process takes snapshots of its own shard, every so many seconds.

Of several replicas of a shard one takes each: who replaces the blob `turn` first. One whose view is behind the newest
snapshot takes none. A snapshot that fails is tried again, later each time; the view goes on meanwhile.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec
from msgspec import Struct

from services.core import summed
from services.core.clock import Clock
from services.core.errors import Conflict, Damaged, Exhausted, MeshError, NotFound
from services.core.metrics import Metrics
from services.core.paced import Paced
from services.state.manifest import TURN, Manifest, Snapshots, behind
from services.state.pruning import prune
from services.state.shard import Shard
from services.state.snapshot import Taker

logger = logging.getLogger(__name__)
LOOKS = 10  # so often within `every_s` it looks whether a snapshot is due
FIRST_RETRY_S, MOST_LOOK_S, STOP_S = 5.0, 30.0, 2.0


class Turn(Struct):
    """Who takes the snapshot that is due, and since when: Unix ms."""

    who: str
    at_ms: int


class Snapshotter:
    """Takes snapshots in the background. Its figures may be read from any thread."""

    def __init__(
        self,
        shard: Shard,
        to: Snapshots,
        taker: Taker,
        every_s: float,
        keep: int,
        who: str,
        clock: Clock,
        no_space: Callable[[], str],
    ) -> None:
        """every_s: seconds from one to the next; keep: snapshots that stay; who: this process; no_space: why the disk has
        too little space for a checkpoint, empty when it has enough.
        """
        self._shard, self._to, self._taker, self._clock, self._no_space = shard, to, taker, clock, no_space
        self._every_s, self._keep, self._who = every_s, keep, who
        self._newest_ms = clock()  # of the newest that is known; before there is one, of the start
        self._failed, self._said, self._retry_s = 0, "", 0.0
        self._seconds = 0.0
        self._look_s = min(every_s / LOOKS, MOST_LOOK_S)
        self._paced = Paced("snapshots", self._step, self._look_s)

    def start(self, metrics: Metrics) -> None:
        """Begin, and report under `metrics`."""
        metrics.gauge("snapshot_age_seconds", self.age_s)
        metrics.gauge("snapshot_failures", lambda: float(self._failed))
        metrics.gauge("snapshot_duration_seconds", lambda: self._seconds)
        metrics.gauge("snapshot_held_seconds", lambda: self._taker.seconds_held)
        metrics.gauge("snapshot_written_bytes", lambda: float(self._taker.bytes_written))
        self._paced.start()

    def stop(self) -> None:
        """End; a snapshot under way is given up, and a store that hangs is not waited for."""
        self._paced.stop(STOP_S)

    def age_s(self) -> float:
        """The age of the newest snapshot of the shard, whichever replica took it; where there is none, since the start."""
        return max(0.0, (self._clock() - self._newest_ms) / 1000)

    def _step(self) -> float:
        try:
            self.once()
        except Exception as error:
            if not self._goes_on():
                return self._look_s
            self._failed += 1
            self._retry_s = min(max(2 * self._retry_s, FIRST_RETRY_S), max(self._every_s, FIRST_RETRY_S))
            said = str(error) if isinstance(error, MeshError) else repr(error)
            if said != self._said:  # once: a store that is away is away for a while
                trace = None if isinstance(error, MeshError) else error
                logger.error("no snapshot of %s: %s; it is tried again", self._to.name, said, exc_info=trace)
            self._said = said
            return self._retry_s
        self._said, self._retry_s = "", 0.0
        return self._look_s

    def once(self) -> str:
        """Take a snapshot if one is due and it is this process' turn; its id, empty when none was taken. Raises MeshError."""
        newest = self._newest()
        if newest is not None:
            self._newest_ms = newest.taken_ms
        if newest is not None and (self._clock() - newest.taken_ms) / 1000 < self._every_s:
            return ""
        if newest is not None and self._is_behind(newest):
            return ""
        if why := self._shard.damage or self._no_space():
            raise Exhausted(why)
        if not self._my_turn():
            return ""
        began = time.monotonic()
        id_, manifest = self._taker.take(self._goes_on)
        self._newest_ms, self._seconds = manifest.taken_ms, time.monotonic() - began
        logger.info(
            "snapshot %s of %s: %d events, %d bytes, of which %d were written, in %.1f s",
            *(id_, self._to.name, manifest.events, manifest.size, self._taker.bytes_written, self._seconds),
        )
        with suppress(Damaged):  # one that can't be read holds up the removal of files until it is too old itself
            prune(self._to, self._keep, self._clock())
        return id_

    def _goes_on(self) -> bool:
        return self._paced.rest(0)

    def _newest(self) -> Manifest | None:
        return next((manifest for _, manifest in self._to.readable()), None)

    def _is_behind(self, newest: Manifest) -> bool:
        """Whether this view lacks something of the newest snapshot: of the same log, it would be no use."""
        return newest.log == self._shard.log.hex() and behind(self._shard.positions(newest.next), newest.next)

    def _my_turn(self) -> bool:
        now, held = self._clock(), None
        with suppress(NotFound):
            held = self._to.blobs.get(TURN)
        if held is not None:
            with suppress(msgspec.MsgspecError):  # what can't be read is nobody's
                turn = summed.decoded(held, Turn)
                if turn.who != self._who and 0 <= now - turn.at_ms < 1000 * self._every_s:
                    return False
        try:
            self._to.blobs.swap(TURN, held, summed.encoded(Turn(self._who, now)))
        except Conflict:
            if self._to.blobs.exists(TURN):
                return False
            raise
        return True
