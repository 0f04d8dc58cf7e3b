"""How often something was done to objects: the view of `counts` that keeps one packed value an object."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice, takewhile
from typing import Any, NamedTuple

import numpy as np

from counters import kernel, layout, leaders
from counters.cache import Cache
from counters.layout import ACTIONS, DAY, HOUR, HOUR_MS, KEPT, Buckets
from counters.leaders import EMPTY, Table
from counters.windows import first_kept, runs
from services.clock import Clock
from services.columns import F32, I64, U8, U64, Array
from services.events import AUDIT_FROM, ENGAGEMENTS, IS_ENGAGEMENT, Batch, Kind
from services.log import Record, rows
from services.shard import Shard
from services.topics import Topic, partition_of

TOPICS = (Topic.COUNTS,)
MOST_F16 = 65_504  # the largest finite float16
LEADERS = 1_000  # of a kind and action by what was ever done to them: the most that `top` answers
LED_KINDS = (Kind.PIN, Kind.BOARD, Kind.INTEREST)
SCANNED = 20_000  # objects read at once at the start

_INDEX = np.full(256, -1, np.int64)
_INDEX[list(ENGAGEMENTS)] = range(ACTIONS)
_KINDS = np.zeros(256, bool)
_KINDS[list(Kind)] = True
_ALL = np.array(ENGAGEMENTS, np.uint8)
_LED_WINDOWS = np.array([0, KEPT[HOUR] * HOUR_MS])  # ever, and the last 7 days


class Increments(NamedTuple):
    """e increments ordered by (owner, action, hour), and the s objects they belong to."""

    partitions: Array  # int64[s]
    kinds: U8  # uint8[s]
    objects: U64  # uint64[s]
    owner: I64  # int64[e]: row of the object
    action: U8  # uint8[e]: index of the action
    hour: I64  # int64[e]: since 1970
    times: I64  # int64[e]: how often it happened


class CountersStore:
    """The counts of the partitions of one shard."""

    def __init__(
        self, shard: Shard, own: range, partitions: int, clock: Clock, recent: int = 4_000, cached: int = 100_000
    ) -> None:
        """`recent`: objects of a kind and action remembered as candidates of `top` by their last 7 days. `cached`: objects.

        Reads all objects but users once, to find who leads.
        """
        self.shard, self._own, self._partitions, self._clock, self._recent = shard, own, partitions, clock, recent
        self._cache = Cache(self._stored, cached)
        led = [(int(kind), action) for kind in LED_KINDS for action in range(ACTIONS)]
        self._ever: dict[tuple[int, int], Table] = dict.fromkeys(led, EMPTY)
        self._lately: dict[tuple[int, int], Table] = dict.fromkeys(led, EMPTY)
        self._looked = self._clock() // HOUR_MS
        for kind, objects, buckets in self._scan():
            self._offer(np.full(len(objects), kind, np.uint8), objects, buckets)

    def apply(self, records: Sequence[Record]) -> None:
        """Apply records of `counts`; what no engagement of a known kind of object is passed over."""
        increments = _increments(*rows(records)) if records else None
        if increments is None or not len(increments.objects):
            self.shard.commit(self.shard.batch(), records)
            return
        keys = layout.keys(increments.partitions, increments.kinds, increments.objects)
        changed = self._added(keys, increments)
        values, write, handle = layout.pack(changed), self.shard.batch(), self.shard.handle("counts")
        for key, value in zip(keys, values, strict=True):
            write.put(key, value, handle)
        with self._cache.writing(zip(keys, values, strict=True)):
            self.shard.commit(write, records)
        self._look_again()
        self._offer(increments.kinds, increments.objects, changed)

    def _added(self, keys: list[bytes], more: Increments) -> Buckets:
        """The objects' buckets as they are to be written. Expired ones are left out."""
        old, clock_ms = layout.unpack(self._stored(keys)), self._clock()
        kept = first_kept(DAY, clock_ms), first_kept(HOUR, clock_ms)
        new = _room(3 * len(more.owner), len(keys))
        n = kernel.spread(more.owner, more.action, more.hour, more.times, *kept, new.codes, new.counts, new.ends)
        both = _room(len(old.codes) + n, len(keys))
        n = kernel.merge(*old, new.codes[:n], new.counts[:n], new.ends, *kept, both.codes, both.counts, both.ends)
        return Buckets(both.codes[:n], both.counts[:n], both.ends)

    def counts(
        self, kinds: U8 | int, objects: U64, actions: U8, windows_ms: I64, now_ms: int = 0
    ) -> "np.ndarray[Any, np.dtype[np.float16]]":
        """float16[n, a, w]: how often each action was done to each object in each window before `now_ms` (0: the clock's).

        kinds: of each object, or of all. A count above 65,504 reads as that; above 2,048 it is rounded to 11 bits.
        """
        sums = self._sums(self._values(kinds, objects), actions, windows_ms, now_ms)
        return np.minimum(sums, MOST_F16).astype(np.float16)

    def top(self, kind: int, action: int, window_ms: int, k: int, now_ms: int = 0) -> tuple[U64, F32]:
        """The k (at most LEADERS) objects to which an action was done most often in a window, and how often.

        Most first, then by id. Of all time it is exact. Of other windows it is the best among those that lead of all
        time or led in the last 7 days when last written.
        """
        key = int(kind), int(_INDEX[action])
        table = self._ever[key]
        if window_ms:
            objects = np.union1d(table.objects, self._lately[key].objects)
            values = self._values(kind, objects)
            sums = self._sums(values, np.array([action], np.uint8), np.array([window_ms]), now_ms)[:, 0, 0]
            table = Table(objects[sums > 0], sums[sums > 0])
        found = leaders.first(table, k)
        return found.objects, found.counts.astype(np.float32)

    def _stored(self, keys: list[bytes]) -> list[bytes | None]:
        found: list[bytes | None] = self.shard.family("counts").get(keys)
        return found

    def _values(self, kinds: U8 | int, objects: U64) -> Buckets:
        kinds = np.broadcast_to(np.asarray(kinds, np.uint8), len(objects))
        keys = layout.keys(partition_of(objects, self._partitions), kinds, objects)
        return layout.unpack(self._cache.get(keys))

    def _sums(self, buckets: Buckets, actions: U8, windows_ms: I64, now_ms: int = 0) -> I64:
        """int64[n, a, w]: what the windows of these buckets hold."""
        wanted, where = np.unique(actions, return_inverse=True)
        column = np.full(ACTIONS, -1, np.int64)
        column[_INDEX[wanted]] = range(len(wanted))
        clock_ms = self._clock()
        sums = np.zeros((len(buckets.ends), len(wanted), len(windows_ms)), np.int64)
        kernel.window_sums(*buckets, column, *runs(windows_ms, now_ms or clock_ms, clock_ms), sums)
        return sums if len(wanted) == len(actions) and (wanted == actions).all() else sums[:, where]

    def _offer(self, kinds: U8, objects: U64, buckets: Buckets) -> None:
        """Tell the tables of leaders what these objects have now."""
        sums = self._sums(buckets, _ALL, _LED_WINDOWS)
        for kind in LED_KINDS:
            of_kind = np.flatnonzero((kinds == kind) & (objects < np.uint64(AUDIT_FROM)))  # the mesh's own lead nothing
            found = objects[of_kind]
            for action in range(ACTIONS if len(found) else 0):
                key, ever, lately = (int(kind), action), sums[of_kind, action, 0], sums[of_kind, action, 1]
                self._ever[key] = leaders.offered(self._ever[key], found, ever, LEADERS)
                self._lately[key] = leaders.offered(self._lately[key], found, lately, self._recent)

    def _look_again(self) -> None:
        """Once an hour, as buckets expire, see what those who led lately still have: else they would keep others out."""
        hour = self._clock() // HOUR_MS
        if hour == self._looked:
            return
        self._looked = hour
        for (kind, action), table in self._lately.items():
            sums = self._sums(self._values(kind, table.objects), _ALL[[action]], _LED_WINDOWS[1:])[:, 0, 0]
            self._lately[kind, action] = Table(table.objects[sums > 0], sums[sums > 0])

    def _scan(self) -> Iterator[tuple[int, U64, Buckets]]:
        """All objects of the kinds that have leaders, some thousand at a time: kind, ids, buckets."""
        for partition in self._own:
            for kind in LED_KINDS:
                first = layout.first_key(partition, kind)
                stored = self.shard.family("counts").items(from_key=first)
                of_kind = takewhile(partial(_like, first), stored)
                while some := list(islice(of_kind, SCANNED)):
                    yield int(kind), layout.objects_of([key for key, _ in some]), layout.unpack([v for _, v in some])


def _like(key: bytes, item: tuple[bytes, bytes]) -> bool:
    return layout.same_kind(item[0], key)


def _increments(batch: Batch, partition: Array) -> Increments:
    """The increments of a batch, by object."""
    known = np.flatnonzero(IS_ENGAGEMENT[batch.action] & _KINDS[batch.kind])
    objects, action, hour = batch.target[known], _INDEX[batch.action[known]], batch.at_ms[known] // HOUR_MS
    detail = batch.kind[known].astype(np.int64) << 40 | action << 32 | hour
    order = np.lexsort((detail, objects))
    objects, kinds = objects[order], (detail[order] >> 40).astype(np.uint8)
    starts = np.flatnonzero(np.append(True, (objects[1:] != objects[:-1]) | (kinds[1:] != kinds[:-1]))[: len(objects)])
    owner = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(objects)))
    return Increments(
        partition[known][order][starts],
        kinds[starts],
        objects[starts],
        owner,
        action[order].astype(np.uint8),
        hour[order],
        batch.count[known][order].astype(np.int64),
    )


def _room(buckets: int, objects: int) -> Buckets:
    return Buckets(np.empty(buckets, np.uint32), np.empty(buckets, np.uint32), np.empty(objects, np.int64))
