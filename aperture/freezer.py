"""Freezing: moves recent rows into the packed value of their user and day, in the background, in small steps.

A day of a user is due when it has ended, or when it has gathered more than `recent_keys` recent keys. One step takes a
few of them and, in one write batch, writes the merged values, deletes the recent keys and strikes them off `pending`:
a reader's iterator and a kill see all of a step or nothing of it.

Rule: a thread that changes `pending` holds `writing`. Applying adds a recent key and its pending entry together; a step reads
and strikes off together; so no recent key is ever without an entry. Readers take no lock.

Due days are known without a scan of the rows: applying notes them as it happens (a bounded set in memory), and a sweep
of `pending` up to today, from where the last one ended, finds the days that midnight, a restart or a full set
left behind. With `keep_days`, when nothing is due, a second sweep hops from user to user and drops days past keeping.
"""

import logging
import threading
import time
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from aperture import layout
from services.core.clock import DAY_MS, Clock
from services.core.columns import I64, U64, Array
from services.core.errors import MeshError
from services.core.paced import Paced
from services.state.shard import Shard

logger = logging.getLogger(__name__)
STEP_DAYS = 64  # of users a step freezes at most: it holds the lock, and its write the GIL, about a millisecond
STEP_BYTES = 256 << 10
MAX_DUE = 50_000
IDLE_S = 0.2
RETRY_S = 2.0


class _Recent(NamedTuple):
    """The rows that a step found of one user and day, in order of arrival: values begins with that of `frozen`, if any.

    keys: of the recent values; sources: of all.
    """

    to: bytes
    keys: list[bytes]
    sources: list[bytes]
    values: list[bytes]


class Freezer:
    """Freezes the days of one shard. `start` makes it run; or call `step` until it answers False."""

    def __init__(self, shard: Shard, own: range, clock: Clock, recent_keys: int, keep_days: int) -> None:
        """`recent_keys`: more of a user and day are frozen before it ends. `keep_days`: 0 keeps all."""
        self.writing = threading.Lock()
        self._shard, self._own, self._clock = shard, own, clock
        self._recent_keys, self._keep_ms = recent_keys, keep_days * DAY_MS
        self._newest_ms = layout.newest_of(shard.note(layout.NEWEST_KEY))
        self._due: dict[bytes, None] = {}
        self._swept = {partition: layout.pending_key(partition, 0, 0) for partition in own}
        self._dropping, self._dropped_before = b"", 0
        pending = dict(shard.family("pending").items())
        self.recent = int(layout.counts_of([*pending], [*pending.values()]).sum(dtype=np.int64))
        self.frozen_days = 0
        self._paced = Paced("freezer", self._paced_step)

    def kept_from(self) -> int:
        """The oldest date that is answered, in ms: by the clock, or by the newest record where that is ahead of it."""
        return max(self.taken_from(), self._clock() - self._keep_ms) if self._keep_ms else 0

    def taken_from(self) -> int:
        """The oldest date that is kept on disk, in ms: by the newest record alone, so every replica keeps the same."""
        return max(0, self._newest_ms - self._keep_ms) if self._keep_ms else 0

    def advance(self, write: Any, accepted_ms: int) -> None:
        """A record comes with this write batch that was accepted then."""
        if self._keep_ms and accepted_ms > self._newest_ms:
            self._newest_ms = accepted_ms
            write.put(layout.NEWEST_KEY, layout.newest_value(accepted_ms))

    def note(self, write: Any, partitions: Array, days: I64, users: U64) -> None:
        """One recent key comes to each of these days of users, with this write batch. Call it holding `writing`."""
        keys = layout.pending_keys(partitions, days, users)
        counts = layout.counts_of(keys, self._shard.family("pending").get(keys)) + np.uint32(1)
        handle = self._shard.handle("pending")
        for key, value in zip(keys, layout.count_values(counts), strict=True):
            write.put(key, value, handle)
        self.recent += len(keys)
        due = (counts > self._recent_keys) | (days < self._clock() // DAY_MS)
        for row in np.flatnonzero(due).tolist():
            self._note_due(keys[row], int(partitions[row]))

    def _note_due(self, key: bytes, partition: int) -> None:
        if len(self._due) < MAX_DUE:
            self._due[key] = None
        else:
            self._swept[partition] = min(self._swept[partition], key)

    def step(self) -> bool:
        """Freeze a few days that are due, or look for some, or drop a few past keeping; False: nothing is left to do."""
        with self.writing:
            if not self._due and not self._sweep():
                return self._drop()
            for entry in self._freeze(list(islice(self._due, STEP_DAYS))):
                del self._due[entry]
            return True

    def _sweep(self) -> bool:
        """Take the next few ended days from `pending` of one partition; False: every partition is swept up to today."""
        today = self._clock() // DAY_MS
        for partition in self._own:
            end = layout.pending_key(partition, today, 0)
            if self._swept[partition] < end:
                entries = self._shard.family("pending").keys(self._swept[partition], end)
                found = list(islice(entries, STEP_DAYS))
                self._swept[partition] = found[-1] + b"\0" if len(found) == STEP_DAYS else end
                self._due.update(dict.fromkeys(found))
                return True
        return False

    def _freeze(self, due: list[bytes]) -> list[bytes]:
        """Freeze these entries of `pending` in one write batch, or so many as make a step; those frozen."""
        write, size, dropped = self._shard.batch(), 0, 0
        days, pending = self._shard.handle("days"), self._shard.handle("pending")
        done: list[bytes] = []
        moved: list[_Recent] = []
        for entry in due:
            partition, day, user = layout.pending_of(entry)
            found = self._recent(layout.day_key(partition, user, day))
            for key in found.keys:
                write.delete(key, days)
            write.delete(entry, pending)
            done.append(entry)
            dropped += len(found.keys)
            if found.keys and day >= self.taken_from() // DAY_MS:
                moved.append(found)
                size += sum(map(len, found.values))
            if size > STEP_BYTES:
                break
        for found, value in zip(moved, _merged(moved), strict=True):
            write.put(found.to, value, days)
        if done:
            self._shard.write(write)
        self.recent -= dropped
        self.frozen_days += len(moved)
        return done

    def _recent(self, prefix: bytes) -> _Recent:
        """The recent rows of a user and day, after the last frozen ones if those may still grow."""
        keys: list[bytes] = []
        sources: list[bytes] = []
        values: list[bytes] = []
        to = b""
        for key, value in self._shard.family("days").items(prefix, layout.day_end(prefix), backwards=True):
            if layout.is_frozen(key):
                if keys and len(value) < layout.SEGMENT_BYTES:
                    to = key
                    sources.append(key)
                    values.append(value)
                break
            keys.append(key)
            sources.append(key)
            values.append(value)
        to = to or (layout.frozen_key(keys[-1]) if keys else b"")
        return _Recent(to, keys[::-1], sources[::-1], values[::-1])

    def _drop(self) -> bool:
        """Drop the days past keeping of a few users; False: there are no more users to visit."""
        before = self.taken_from() // DAY_MS
        if before > self._dropped_before:
            self._dropping, self._dropped_before = layout.day_key(self._own.start, 0, 0), before
        if not self._dropping:
            return False
        write, family, visited = self._shard.batch(), self._shard.family("days"), 0
        handle = self._shard.handle("days")
        while self._dropping and visited < STEP_DAYS:
            first = next(family.keys(self._dropping), None)
            self._dropping = b""
            if first is not None:
                partition, user, _ = layout.day_of(first)
                for key in family.keys(first, layout.day_key(partition, user, before)):
                    write.delete(key, handle)
                self._dropping = layout.user_end(partition, user)
                visited += 1
        if write.len():
            self._shard.write(write)
        return True

    def start(self) -> None:
        """Begin to freeze, on a thread of its own."""
        self._paced.start()

    def stop(self) -> None:
        """Finish the step in hand and stop."""
        self._paced.stop()

    def _paced_step(self) -> float:
        started = time.monotonic()
        try:
            # As long a rest as the step took: readers and the applying of the log have the other half of the time.
            return time.monotonic() - started if self.step() else IDLE_S
        except MeshError as error:
            self._shard.noticed(error)
            logger.error("cannot freeze: %s", error)
        except Exception:
            logger.exception("cannot freeze")
        return RETRY_S


def _merged(moved: list[_Recent]) -> list[bytes]:
    """The value of each, its rows ascending by at_ms and equals in order of arrival; all of them in one go."""
    keys = [key for found in moved for key in found.sources]
    rows = layout.unpack(keys, [value for found in moved for value in found.values])
    lengths = [sum(layout.rows_in(value) for value in found.values) for found in moved]
    order = np.lexsort((rows.at_ms, np.repeat(np.arange(len(moved)), lengths)))
    return layout.pack(rows.take(order), np.cumsum(lengths, dtype=np.int64))
