"""The history of each user: the view of `users` that answers a span of time with one scan of one key range."""

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from aperture import kernel, layout
from aperture.freezer import Freezer
from aperture.layout import LAST_MS, EventRows
from services.core.clock import DAY_MS, Clock
from services.core.columns import I64, U8, U32, U64, Array
from services.core.errors import InvalidArgument
from services.core.events import ENGAGEMENTS, IS_ENGAGEMENT, flags
from services.core.topics import Topic
from services.log.protocol import Record, rows
from services.state.shard import Shard

TOPICS = (Topic.USERS,)
ALL = flags(*ENGAGEMENTS)
MAX_CELLS = 4_000_000
_BLOCK_ROWS = 1024


class By(IntEnum):
    """The grouping of counts; as CountsBy on the wire."""

    NOTHING = 0
    PIN = 1
    BOARD = 2
    SURFACE = 3
    DAY = 4


class WindowCounts(NamedTuple):
    """counts[n, w, a]: how often each action (a) was done to each key (n) within each window (w)."""

    keys: U64
    counts: U32


class ApertureStore:
    """The engagements of the users of one shard's partitions."""

    def __init__(
        self, shard: Shard, own: range, partitions: int, clock: Clock, recent_keys: int = 64, keep_days: int = 0
    ) -> None:
        """`own`: the partitions of this shard; `partitions`: how many the deployment has."""
        self.shard, self._partitions, self._clock = shard, partitions, clock
        self.freezer = Freezer(shard, own, clock, recent_keys, keep_days)

    def apply(self, records: Sequence[Record]) -> None:
        """Apply records of `users`; all but engagements within `keep_days` when they were accepted are passed over."""
        write = self.shard.batch()
        with self.freezer.writing:
            if records:
                self.freezer.advance(write, max(record.accepted_ms for record in records))
                self._append(write, records)
            self.shard.commit(write, records)

    def _append(self, write: Any, records: Sequence[Record]) -> None:
        """One recent key for each user and day of these records."""
        batch, partition = rows(records)
        at = np.flatnonzero(IS_ENGAGEMENT[batch.action] & (batch.at_ms >= self.freezer.taken_from()))
        if not len(at):
            return
        at = at[np.lexsort((batch.at_ms[at], batch.user[at]))]  # stable: equals stay in order of arrival
        users, days = batch.user[at], batch.at_ms[at] // DAY_MS
        starts = np.flatnonzero(np.append(True, (users[1:] != users[:-1]) | (days[1:] != days[:-1])))
        offset = np.repeat([record.offset for record in records], [record.events for record in records])
        first = np.minimum.reduceat(offset[at], starts)
        own, users, days = partition[at[starts]], users[starts], days[starts]
        found = EventRows(batch.pin[at], batch.board[at], batch.at_ms[at], batch.action[at], batch.surface[at])
        values = layout.pack(found, np.append(starts[1:], len(at)))
        handle = self.shard.handle("days")
        for key, value in zip(layout.recent_keys(own, users, days, first), values, strict=True):
            write.put(key, value, handle)
        self.freezer.note(write, own, days, users)

    def history(
        self, user: int, since_ms: int = 0, until_ms: int = LAST_MS, wanted: Array = ALL, limit: int = 1_000_000
    ) -> EventRows:
        """The `limit` newest events from since_ms to before until_ms, newest first; of equals the last to come is first.

        wanted: bool[256], the actions asked for.
        """
        found: list[EventRows] = []
        since_ms = max(since_ms, self.freezer.kept_from())
        for block in self._newest(user, since_ms, until_ms):
            kept = block.take(_asked(block, since_ms, until_ms, wanted))
            found.append(kept.take(np.argsort(kept.at_ms, kind="stable")[::-1][:limit]))
            limit -= len(found[-1])
            if not limit:
                break
        return EventRows.concat(found)

    def seen(self, user: int, since_ms: int = 0, wanted: Array = ALL) -> U64:
        """The distinct pins of the wanted actions since then, ascending."""
        since_ms = max(since_ms, self.freezer.kept_from())
        values = self._values(user, since_ms, LAST_MS)
        if wanted is ALL and since_ms == 0:
            return kernel.distinct(layout.pins_of(*values))  # nothing else is kept
        found = layout.unpack(*values)
        return kernel.distinct(found.pins[_asked(found, since_ms, LAST_MS, wanted)])

    def counts(self, user: int, actions: U8, windows: I64, by: int, now_ms: int = 0) -> WindowCounts:
        """How often the user did each of `actions` in the last windows[i] ms before and at now_ms (0: the clock's).

        Keys ascend; by nothing there is one, 0, always. Raises InvalidArgument for over MAX_CELLS counts.
        """
        now_ms = now_ms or self._clock()
        found = self._asked(user, max(0, now_ms - int(windows.max()) + 1), now_ms + 1, _only(actions))
        keys, key = _keys(found, by)
        if len(keys) * len(windows) * len(actions) > MAX_CELLS:
            raise InvalidArgument(
                f"by, windows_ms, actions: {len(keys)} keys x {len(windows)} windows x {len(actions)} actions are more "
                f"than {MAX_CELLS} counts; ask for fewer windows or actions, or shorter windows"
            )
        slot = np.zeros(256, np.int64)
        slot[actions] = np.arange(len(actions))
        ages = now_ms - found.at_ms
        return WindowCounts(keys, kernel.tally(key, len(keys), ages, windows, slot[found.actions], len(actions)))

    def _asked(self, user: int, since_ms: int, until_ms: int, wanted: Array) -> EventRows:
        """The wanted rows of a span in no order to rely on."""
        since_ms = max(since_ms, self.freezer.kept_from())
        found = layout.unpack(*self._values(user, since_ms, until_ms))
        return found.take(_asked(found, since_ms, until_ms, wanted))

    def _values(self, user: int, since_ms: int, until_ms: int) -> tuple[list[bytes], list[bytes]]:
        """The keys and values of the days of a span: whole days."""
        first, end = self._bounds(user, since_ms, until_ms)
        entries = list(self.shard.family("days").items(first, end))
        return [key for key, _ in entries], [value for _, value in entries]

    def _newest(self, user: int, since_ms: int, until_ms: int) -> Iterator[EventRows]:
        """The rows of the days of a span, the newest days first: whole days, about _BLOCK_ROWS rows at a time."""
        first, end = self._bounds(user, since_ms, until_ms)
        keys: list[bytes] = []
        values: list[bytes] = []
        size, day = 0, b""
        for key, value in self.shard.family("days").items(first, end, backwards=True):
            if size >= _BLOCK_ROWS and layout.prefix_of(key) != day:
                yield layout.unpack(keys[::-1], values[::-1])
                keys, values, size = [], [], 0
            day = layout.prefix_of(key)
            keys.append(key)
            values.append(value)
            size += layout.rows_in(value)
        yield layout.unpack(keys[::-1], values[::-1])

    def _bounds(self, user: int, since_ms: int, until_ms: int) -> tuple[bytes, bytes]:
        """The first key of the days of a span, and the bound after their last."""
        partition = self.shard.partition_of(user, self._partitions)
        last = (min(until_ms, LAST_MS) - 1) // DAY_MS
        since = min(since_ms, LAST_MS) // DAY_MS
        return layout.day_key(partition, user, since), layout.day_key(partition, user, max(last + 1, since))


def _asked(found: EventRows, since_ms: int, until_ms: int, wanted: Array) -> Array:
    return np.asarray(wanted[found.actions] & (found.at_ms >= since_ms) & (found.at_ms < until_ms))


def _only(actions: U8) -> Array:
    wanted = np.zeros(256, bool)
    wanted[actions] = True
    return wanted


def _keys(found: EventRows, by: int) -> tuple[U64, Array]:
    """The distinct keys ascending, and the key of each row as an index into them."""
    if by == By.NOTHING:
        return np.zeros(1, np.uint64), np.zeros(len(found), np.int64)
    columns: dict[int, Array] = {
        By.PIN: found.pins,
        By.BOARD: found.boards,
        By.SURFACE: found.surfaces,
        By.DAY: found.at_ms // DAY_MS,
    }
    keys, key = np.unique(columns[by], return_inverse=True)
    return keys.astype(np.uint64), key
