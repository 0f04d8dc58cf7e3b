"""Which events were accepted within the last day. In memory; rebuilt from the log's own record of what was accepted.

An id is its writer's own: two devices that both count from 1 are two writers. So what is remembered is a key of both.
"""

import numpy as np

from roadrunner import kernel
from services.core.clock import DAY_MS
from services.core.columns import U64, Array
from services.core.topics import hash64

MINUTE_MS = 60_000
FULL = 0.6  # load at which the table grows or sheds its old ids


def keys_of(ids: U64, writers: U64, users: U64) -> U64:
    """uint64[n], none of them 0: an event's id within those of its writer; without one (0), the user is the writer.

    Of one writer, different ids have different keys, but for one id that shares its key with another.
    """
    keys = ids ^ hash64(np.where(writers == 0, users, writers))
    return np.asarray(np.where(keys == 0, np.uint64(1), keys))


class RecentIds:
    """An exact set of ids, each remembered for a day. Not thread-safe: it belongs to the committing thread."""

    def __init__(self, slots: int = 1 << 16) -> None:
        """`slots`: a power of two to start with."""
        self._keys, self._minutes = np.zeros(slots, np.uint64), np.zeros(slots, np.uint32)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def add(self, ids: U64, now_ms: int, seen_ms: int | None = None) -> Array:
        """bool[n]: which of uint64[n] `ids` were not accepted within the day before `now_ms`; they are now.

        The second of two equal ids in one call counts as seen. `seen_ms`: when they were accepted, if not now.
        """
        oldest = (now_ms - DAY_MS) // MINUTE_MS
        self._reserve(len(ids), oldest)
        fresh = np.empty(len(ids), np.bool_)
        minute = (now_ms if seen_ms is None else seen_ms) // MINUTE_MS
        self._used += kernel.add_new(self._keys, self._minutes, np.ascontiguousarray(ids), minute, oldest, fresh)
        return fresh

    def touch(self, ids: U64, now_ms: int) -> None:
        """Have ids that are in it remembered for a day from now."""
        minute, every = now_ms // MINUTE_MS, np.empty(len(ids), np.bool_)
        kernel.add_new(self._keys, self._minutes, np.ascontiguousarray(ids), minute, minute + 1, every)

    def forget(self, ids: U64) -> None:
        """Take back ids that `add` called fresh: their events were not written."""
        kernel.forget(self._keys, self._minutes, np.ascontiguousarray(ids))

    def _reserve(self, more: int, oldest: int) -> None:
        if self._used + more <= FULL * len(self._keys):
            return
        live = int((self._minutes[self._keys != 0] >= oldest).sum())
        slots = 1 << int(np.ceil(np.log2((live + more) / FULL * 1.5)))
        keys, minutes = np.zeros(slots, np.uint64), np.zeros(slots, np.uint32)
        self._used = kernel.rebuild(self._keys, self._minutes, keys, minutes, oldest)
        self._keys, self._minutes = keys, minutes
