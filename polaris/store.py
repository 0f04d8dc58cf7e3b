"""Which pins are on which boards and in which interests: the view of `sources`.

A list is a frozen part and a head of changes to it. An event only makes the head longer; when that gets long, the same
write batch that holds the events' offsets freezes it. What a list is, is always frozen part and head, merged: once, by
the first question after a change, and kept in memory for the next (`cache.py`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from polaris import layout, postings
from polaris.cache import ListCache
from polaris.changes import Changes, changes_of
from polaris.kernel import Light, Selection, input_of, select
from polaris.layout import BOARD, FROZEN, HEAD, Rows, Sources
from polaris.postings import Postings
from services.core.columns import F32, U32, U64, Array
from services.core.errors import Exhausted
from services.core.events import Action, Batch
from services.core.topics import Topic, partition_of
from services.kernels.checks import all_kinds, all_weights
from services.log.protocol import Record, rows
from services.state.shard import Shard

__all__ = ["TOPICS", "Limits", "PolarisStore", "Sources", "Wanted"]

TOPICS = (Topic.SOURCES,)
MAX_POSTINGS = 2_000_000  # read for one question; so a request never takes more than about 200 MB
MAX_FREEZES = 1_024  # lists frozen by one apply, so that its write batch stays small
_READ_AT_ONCE = 1_000  # sources


class Wanted(NamedTuple):
    """What to take of the sources: as `polaris.kernel.select` has it. weights: float32[n]."""

    weights: F32
    seen: U32
    k: int
    per_source: int
    now_ms: int
    max_age_ms: int
    explain: bool = False


class Limits(NamedTuple):
    """Rows of a head beyond which it is frozen, postings kept of a frozen list, and memory for merged lists."""

    head_postings: int
    cap: int
    cache_bytes: int = 64 << 20


class PolarisStore:
    """The posting lists of the partitions of one shard."""

    def __init__(self, shard: Shard, partitions: int, light: Light, limits: Limits) -> None:
        """`partitions`: how many the deployment has; `light`: the score by which lists are capped and pins chosen."""
        self.shard, self._partitions, self._light, self._limits = shard, partitions, light, limits
        self.cache = ListCache(limits.cache_bytes)
        keys = list(shard.family("takedowns").keys())
        self._taken_down: U64 = input_of(np.unique(layout.pins_of(keys)))

    def apply(self, records: Sequence[Record]) -> None:
        """Apply records of `sources`; what is neither a posting, a board's end nor a takedown is passed over."""
        write = self.shard.batch()
        if not records:
            return self.shard.commit(write, records)
        batch, partition = rows(records)
        self._apply_takedowns(write, batch, partition)
        changes = changes_of(batch, partition)
        self._apply_changes(write, changes)
        return self.shard.commit(write, records, written=lambda: self.cache.drop(changes.sources))

    def _apply_takedowns(self, write: Any, batch: Batch, partition: Array) -> None:
        """Before the commit: whoever waits for its offset must not see the pin again. A takedown is final."""
        at = np.flatnonzero(batch.action == Action.TAKEDOWN)
        if len(at):
            handle = self.shard.handle("takedowns")
            for key in layout.takedown_keys(partition[at], batch.pin[at]):
                write.put(key, b"", handle)
            pins = np.unique(batch.pin[at])
            pins = pins[~postings.in_sorted(self._taken_down, pins)]
            self._taken_down = input_of(np.insert(self._taken_down, np.searchsorted(self._taken_down, pins), pins))

    def _apply_changes(self, write: Any, changes: Changes) -> None:
        """Make the heads longer, and freeze those that are too long, or whose board was deleted: little is left of it."""
        handle = self.shard.handle("lists")
        there = map(layout.check_head, changes.heads, self._get(changes.heads))
        heads = [head + more for head, more in zip(there, layout.pack_rows(changes.rows), strict=True)]
        for key, head in zip(changes.heads, heads, strict=True):
            write.put(key, head, handle)
        long = _to_freeze(heads, self._limits.head_postings, changes.deleted)
        if len(long):
            self._freeze(write, changes, heads, long)

    def _freeze(self, write: Any, changes: Changes, heads: Sequence[bytes], long: Array) -> None:
        """Merge these heads into their frozen parts, without the pins that were taken down, capped."""
        handle, which = self.shard.handle("lists"), long.tolist()
        keys = [changes.heads[source] for source in which], [changes.frozen[source] for source in which]
        rows = postings.merge(*_rows(*keys, self._get(keys[1]), [heads[source] for source in which]), _dated(keys[0]))
        rows = rows.keep(~postings.in_sorted(self._taken_down, rows.pins))
        rows = postings.capped(rows, self._limits.cap, self._light)
        for head, frozen, value in zip(*keys, layout.pack_rows(rows), strict=True):
            write.delete(head, handle)
            if value:
                write.put(frozen, value, handle)
            else:
                write.delete(frozen, handle)

    def retrieve(self, sources: Sources, wanted: Wanted) -> tuple[Postings, Selection]:
        """The postings of the sources, and what was chosen of them. Raises Exhausted over MAX_POSTINGS."""
        lists = self._lists(sources)
        chosen = select(
            lists.pins,
            lists.at_ms,
            lists.quality,
            lists.ends,
            wanted.weights,
            seen=wanted.seen,
            taken_down=self._taken_down,
            now_ms=wanted.now_ms,
            max_age_ms=wanted.max_age_ms,
            per_source=wanted.per_source,
            k=wanted.k,
            light=self._light,
            explain=wanted.explain,
        )
        return lists, chosen

    def postings(self, sources: Sources) -> Postings:
        """The lists of the sources, without what was taken down. Raises Exhausted over MAX_POSTINGS."""
        lists = self._lists(sources)
        return lists.keep(~postings.in_sorted(self._taken_down, lists.pins))

    @property
    def cap(self) -> int:
        """Postings that are kept of a frozen list."""
        return self._limits.cap

    def taken_down(self) -> U64:
        """The pins that were taken down, ascending."""
        return self._taken_down

    def warm(self) -> None:
        """Compile the kernels, or load them, before the first request has to."""
        wanted = Wanted(np.ones(2, np.float32), np.empty(0, np.uint32), k=1, per_source=0, now_ms=0, max_age_ms=0)
        nobodys = Sources(np.full(2, BOARD, np.uint8), np.array([0, 2**64 - 1], np.uint64))
        self._lists(Sources(nobodys.kinds[:1], nobodys.ids[:1]))
        self.retrieve(nobodys, wanted)  # one is held by now, the other is read
        self.cache.drop(nobodys)
        all_kinds(input_of(nobodys.kinds), BOARD, BOARD)
        all_weights(input_of(wanted.weights))

    def _lists(self, sources: Sources) -> Postings:
        """The lists as they are. Those that no memory holds are read, and kept for the next question."""
        lists, missing, drops = self.cache.get(sources, MAX_POSTINGS)
        held = int(lists.ends[-1]) if len(lists.ends) else 0
        if held > MAX_POSTINGS:
            raise _too_many(len(lists.ends))
        if not len(missing):
            return lists
        absent = Sources(sources.kinds[missing], sources.ids[missing])
        read = self._read(absent, MAX_POSTINGS - held, len(lists.ends))
        self.cache.put(absent, read, drops)
        return postings.woven(lists, read, missing) if len(missing) < len(lists.ends) else read

    def _read(self, sources: Sources, most: int, asked: int) -> Postings:
        """The lists as they are on disk. Raises Exhausted over `most` rows; `asked`: sources of the question."""
        heads: list[bytes | None] = []
        frozen: list[bytes | None] = []
        head_keys: list[bytes] = []
        frozen_keys: list[bytes] = []
        partitions, left = partition_of(sources.ids, self._partitions), most * layout.ROW_BYTES
        for start in range(0, len(sources.ids), _READ_AT_ONCE):
            here = slice(start, start + _READ_AT_ONCE)
            of = (partitions[here], sources.kinds[here], sources.ids[here])
            some = layout.list_keys(*of, HEAD), layout.list_keys(*of, FROZEN)
            values = self._get(some[0] + some[1])
            head_keys += some[0]
            frozen_keys += some[1]
            heads += values[: len(of[0])]
            frozen += values[len(of[0]) :]
            left -= sum(len(value) for value in values if value)
            if left < 0:
                raise _too_many(asked)
        return postings.standing(*_rows(head_keys, frozen_keys, frozen, heads), sources.kinds == BOARD)

    def _get(self, keys: list[bytes]) -> list[bytes | None]:
        """One multi-get: it sees one state of all keys, so never a head without the frozen part it belongs to."""
        values: list[bytes | None] = self.shard.family("lists").get(keys) if keys else []
        return values


def _too_many(sources: int) -> Exhausted:
    return Exhausted(
        f"sources: these {sources} hold more than {MAX_POSTINGS} postings together, which is what one request may read; "
        "ask for fewer at once"
    )


def _rows(
    head_keys: Sequence[bytes],
    frozen_keys: Sequence[bytes],
    frozen: Sequence[bytes | None],
    heads: Sequence[bytes | None],
) -> tuple[Rows, Rows]:
    """The frozen parts, and the changes to them."""
    return layout.unpack_rows(frozen_keys, frozen), layout.unpack_rows(head_keys, heads)


def _dated(keys: Sequence[bytes]) -> Array:
    """bool[n]: which lists are of boards, where the later date decides."""
    return np.array([layout.kind_of(key) == BOARD for key in keys], bool)


def _to_freeze(heads: Sequence[bytes], limit: int, deleted: Array) -> Array:
    """The heads to freeze: those over `limit` rows or of a board deleted, and the longest of them if they are too many.
    int64[m].
    """
    lengths = np.array([len(head) for head in heads], np.int64)
    freeze = lengths > limit * layout.ROW_BYTES
    freeze[deleted] = True
    long = np.flatnonzero(freeze)
    return long[np.argsort(-lengths[long], kind="stable")[:MAX_FREEZES]]
