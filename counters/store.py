"""How often something was done to objects: the view of `counts`, in memory, with pages and increments on disk."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from counters import layout
from counters.layout import ACTIONS, HOUR, HOUR_MS, KEPT, Increments
from counters.leaders import Leaders, LeaderTable, first
from counters.partition import Partition
from counters.table import NEVER
from counters.windows import runs
from services.core.clock import Clock
from services.core.columns import F32, I64, U8, U64
from services.core.errors import Unavailable
from services.core.events import ENGAGEMENTS, IS_ENGAGEMENT, Batch, Kind
from services.core.helpers import ALONE, Helpers
from services.core.topics import Topic
from services.log.protocol import Record
from services.state.shard import Shard

TOPICS = (Topic.COUNTS,)
MOST_F16 = 65_504  # the largest finite float16
LEADERS = 1_000  # of a kind and action by their counts of all time: the most that `top` answers
LED_KINDS = (Kind.PIN, Kind.BOARD, Kind.INTEREST)
SCANNED = 65_536  # slots looked at together at the start
LARGE = 8_192  # objects of one question, which takes some 2 ms: then helpers take a part of it

_INDEX = np.full(256, -1, np.int64)
_INDEX[list(ENGAGEMENTS)] = range(ACTIONS)
_KINDS = np.zeros(256, bool)
_KINDS[list(Kind)] = True
_ALL = np.array(ENGAGEMENTS, np.uint8)
_LED_WINDOWS = np.array([0, KEPT[HOUR] * HOUR_MS])  # ever, and the last 7 days


class CountersStore:
    """The counts of the partitions of one shard."""

    def __init__(
        self,
        shard: Shard,
        own: range,
        partitions: int,
        clock: Clock,
        recent: int = 4_000,
        helpers: Helpers = ALONE,
    ) -> None:
        """`recent`: objects of a kind and action remembered as candidates of `top` by their last 7 days. `helpers`: take
        partitions of questions of at least LARGE objects.

        Reads all objects into memory, and finds the leaders.
        """
        self.shard, self._partitions, self._clock, self.helpers = shard, partitions, clock, helpers
        self._own = {number: Partition(shard, number) for number in own}
        self._leaders = Leaders(LED_KINDS, LEADERS, recent, self._led, NEVER)
        for partition in self._own.values():
            partition.open()
        self._newest_ms = max((partition.newest_ms for partition in self._own.values()), default=0)
        for partition in self._own.values():
            for start in range(0, partition.table.slots(), SCANNED):
                found = partition.table.leading(start, start + SCANNED, self._leaders.thresholds)
                self._leaders.note(*found)

    def apply(self, records: Sequence[Record]) -> None:
        """Apply records of `counts`; all but engagements with known kinds of objects are passed over."""
        if self.shard.dead:
            raise Unavailable(f"{self.shard.folder}: takes no writes since one failed, until this process starts again")
        new: dict[int, list[tuple[int, Increments]]] = {}
        for record in records:
            new.setdefault(record.partition, []).append((record.offset, _increments(record.batch)))
        write = self.shard.batch()
        for number, of_partition in new.items():
            self._own[number].stage(write, of_partition)
        self.shard.commit(write, records, partial(self._written, new))

    def _written(self, new: dict[int, list[tuple[int, Increments]]]) -> None:
        """Memory follows the disk. If it can't, only the disk is right: the folder is to be opened again."""
        came = (layout.latest_ms(increments) for records in new.values() for _, increments in records)
        newest_ms = max(came, default=0)
        try:
            if newest_ms > self._newest_ms:
                self._newest_ms = (
                    newest_ms  # by which recent leaders whose days are over leave, before others are counted
                )
                self._leaders.look_again()
            for number, records in new.items():
                self._own[number].add(records, self._leaders.thresholds, self._leaders.note)
        except BaseException:
            self.shard.dead = True
            raise

    def counts(
        self, kinds: U8 | int, objects: U64, actions: U8, windows_ms: I64, now_ms: int = 0
    ) -> "np.ndarray[tuple[int, int, int], np.dtype[np.float16]]":
        """float16[n, a, w]: how often each action was done to each object in each window before `now_ms` (0: the clock's).

        kinds: of each object, or of all. A count above 65,504 reads as that; above 2,048 it is rounded to 11 bits.
        """
        sums = self._sums(kinds, objects, actions, windows_ms, now_ms, self._clock())
        return np.minimum(sums, MOST_F16, out=sums).astype(np.float16)

    def top(self, kind: int, action: int, window_ms: int, k: int, now_ms: int = 0) -> tuple[U64, F32]:
        """The k (at most LEADERS) objects to which an action was done most often in a window, and how often.

        Most first, then by id. Of all time it is exact. Of other windows it is the best among those that lead of all
        time or led in the last 7 days when last written.
        """
        table, lately = self._leaders.of(int(kind), int(_INDEX[action]))
        if window_ms:
            objects = np.union1d(table.objects, lately.objects)
            asked = np.array([action], np.uint8), np.array([window_ms])
            sums = self._sums(kind, objects, *asked, now_ms, self._clock())[:, 0, 0]
            table = LeaderTable(objects[sums > 0], sums[sums > 0])
        found = first(table, k)
        return found.objects, found.counts.astype(np.float32)

    def objects(self) -> int:
        """How many objects have counts."""
        return sum(len(partition.table) for partition in self._own.values())

    def memory_bytes(self) -> int:
        """The memory of their buckets."""
        return sum(partition.table.memory_bytes() for partition in self._own.values())

    def _led(self, kind: int, action: int, objects: U64) -> I64:
        """int64[n, 2]: how often it was done to each ever, and in the last 7 days before the latest increment."""
        return self._sums(kind, objects, _ALL[[action]], _LED_WINDOWS, self._newest_ms, self._newest_ms)[:, 0]

    def _sums(self, kinds: U8 | int, objects: U64, actions: U8, windows_ms: I64, now_ms: int, clock_ms: int) -> I64:
        """int64[n, a, w]: the counts of these objects in the windows. clock_ms: the time of the question.

        What has expired by the latest increment of a partition is in no answer: it may be gone, or not yet.
        """
        wanted, where = np.unique(actions, return_inverse=True)
        column = np.full(ACTIONS, -1, np.int64)
        column[_INDEX[wanted]] = range(len(wanted))
        windows = runs(windows_ms, now_ms or clock_ms, clock_ms)
        kinds = np.broadcast_to(np.asarray(kinds, np.uint8), len(objects))
        sums = np.zeros((len(objects), len(wanted), len(windows_ms)), np.int64)
        partitions = self.shard.partitions_of(objects, self._partitions)
        order = np.argsort(partitions.astype(np.uint16), kind="stable")  # by radix, in a third of the time
        ends = np.cumsum(np.bincount(partitions, minlength=self._partitions)).tolist()

        def add_up(number: int) -> None:
            partition, rows = self._own[number], order[ends[number - 1] if number else 0 : ends[number]]
            if len(rows):
                ahead = partition.newest_ms > clock_ms
                kept = runs(windows_ms, now_ms or clock_ms, partition.newest_ms) if ahead else windows
                partition.table.sums(objects[rows], kinds[rows], rows, column, kept, sums)

        (self.helpers if len(objects) >= LARGE else ALONE).each(list(self._own), add_up)
        return sums if len(wanted) == len(actions) and (wanted == actions).all() else sums[:, where]


def _increments(batch: Batch) -> Increments:
    """The increments of a record."""
    known = IS_ENGAGEMENT[batch.action] & _KINDS[batch.kind]
    if not known.all():
        batch = batch.take(known)
    what = layout.what(batch.kind, _INDEX[batch.action], batch.at_ms // HOUR_MS)
    return Increments(batch.target, what, batch.count)
