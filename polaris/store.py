"""Which pins are on which boards and in which interests: the view of `sources`.

A list is a frozen part and a head of changes to it. An event only makes the head longer; when that gets long, the same
write batch that holds the events' offsets freezes it, as of the record that made it too long. The content of a list is always
frozen part and head, merged: once, by the first question after a change, and kept in memory for the next (`cache.py`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from polaris import layout, postings
from polaris.cache import ListCache
from polaris.changes import Freezes, ListChanges, changes_of, freezes_of
from polaris.kernel import Light, Selection, input_of, select
from polaris.layout import BOARD, FROZEN, HEAD, PostingRows, Sources
from polaris.postings import Postings
from services.core.checks import check_ascending, check_partitions
from services.core.columns import F32, I64, U32, U64, Array, among, ids
from services.core.errors import Exhausted
from services.core.events import Action, Batch
from services.core.topics import Topic
from services.kernels.checks import all_kinds, all_weights
from services.log.protocol import Record, rows
from services.state.change_feed import OWN, ChangeFeed, ViewPosition, after
from services.state.shard import Shard

__all__ = ["TOPICS", "Limits", "PolarisStore", "Sources", "Wanted"]

TOPICS = (Topic.SOURCES,)
MAX_POSTINGS = 2_000_000  # read for one question; so a request never takes more than about 200 MB
MAX_FREEZES = 1_024  # of one write batch, so that it stays small, unless one record causes more
_READ_AT_ONCE = 1_000  # sources
_NO_PINS: U64 = ids([])
_Takedowns = dict[tuple[int, int], int]  # by partition and pin: the first record of a chunk that says so
BUCKETS = 1 << 14  # of the change feed of cached lists


class Wanted(NamedTuple):
    """The choice among the postings of sources: as `polaris.kernel.select` has it. weights: float32[n]."""

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
        self._feed = ChangeFeed(partitions, BUCKETS)
        self._feed.begin(self._positions())
        self.cache = ListCache(limits.cache_bytes - self._feed.nbytes)
        partitions_of, pins = layout.takedowns_of(list(shard.family("takedowns").keys()))
        self._taken_down: U64 = input_of(np.unique(pins))
        self._in_partition = {
            p: pins[partitions_of == p] for p in np.unique(partitions_of).tolist()
        }  # ascending, as keys are

    def apply(self, records: Sequence[Record]) -> None:
        """Apply records of `sources`; other events than postings, a board's end and takedowns are passed over.

        A list is frozen after the first record with which its head is too long, or its board deleted, and without the pins
        taken down in its own partition by then: the kept postings are the same, whatever chunks the records come in. Raises
        ValueError for an event of a source in a partition of others.
        """
        write = self.shard.batch()
        if not records:
            return self.shard.commit(write, records)
        batch, partition = rows(records)
        record = np.repeat(np.arange(len(records)), [one.events for one in records])
        changes = changes_of(batch, partition, record)
        check_partitions(changes.partitions, changes.sources.ids, self._partitions)
        heads = layout.check_heads(changes.heads, self._get(changes.heads))
        freezes = freezes_of(changes, heads, self._limits.head_postings)
        if len(freezes.source) > MAX_FREEZES and len(records) > 1:
            half = len(records) // 2
            self.apply(records[:half])
            return self.apply(records[half:])
        takedowns = self._apply_takedowns(write, batch, partition, record)
        self._apply_changes(write, changes, heads, freezes, takedowns)
        return self.shard.commit(write, records, lambda: self._written(changes, takedowns, records))

    def _written(self, changes: ListChanges, takedowns: _Takedowns, records: Sequence[Record]) -> None:
        """These changes and takedowns are on the disk. A list of a board and one of an interest of the same id change together,
        as the feed has it.
        """
        for partition, pin in takedowns:
            known = self._in_partition.get(partition, _NO_PINS)
            if not among(ids([pin]), known)[0]:
                self._in_partition[partition] = np.insert(known, np.searchsorted(known, np.uint64(pin)), np.uint64(pin))
        self._feed.note(
            self._feed.places(changes.sources.ids),
            after(records, self._partitions),
            lambda: self.cache.drop(changes.sources),
        )

    def _apply_takedowns(self, write: Any, batch: Batch, partition: Array, record: I64) -> _Takedowns:
        """Before the commit: a read that waits for its offset must not see the pin again. A takedown is final."""
        found: _Takedowns = {}
        at = np.flatnonzero(batch.action == Action.TAKEDOWN)
        if len(at):
            handle = self.shard.handle("takedowns")
            for key in layout.takedown_keys(partition[at], batch.pin[at]):
                write.put(key, b"", handle)
            for one in zip(partition[at].tolist(), batch.pin[at].tolist(), record[at].tolist(), strict=True):
                found.setdefault(one[:2], one[2])
            pins = np.unique(batch.pin[at])
            pins = pins[~among(pins, self._taken_down)]
            taken_down = np.insert(self._taken_down, np.searchsorted(self._taken_down, pins), pins)
            check_ascending(taken_down=taken_down)  # here, where it changes: a request need not look at all of it
            self._taken_down = input_of(taken_down)
        return found

    def _apply_changes(
        self, write: Any, changes: ListChanges, heads: list[bytes], freezes: Freezes, takedowns: _Takedowns
    ) -> None:
        """Make the heads longer, and freeze those that are due: later records begin the head anew."""
        handle, rows_of = self.shard.handle("lists"), changes.rows
        news = layout.pack_rows(rows_of)
        heads = [head + more for head, more in zip(heads, news, strict=True)]
        if len(freezes.source):
            stops = (
                freezes.stop - rows_of.ends[freezes.source]
            ) * layout.ROW_BYTES  # from the end of the head: 0 or less
            self._freeze(write, changes, heads, freezes._replace(stop=stops), takedowns)
        for key, head in zip(changes.heads, heads, strict=True):
            if head:
                write.put(key, head, handle)
            else:
                write.delete(key, handle)

    def _freeze(
        self, write: Any, changes: ListChanges, heads: list[bytes], freezes: Freezes, takedowns: _Takedowns
    ) -> None:
        """Merge heads into their frozen parts, capped and without pins taken down, and cut them; in rounds, as one list
        may be frozen more than once. stop: where in its head each ends, in bytes from the head's end.
        """
        handle, keys = self.shard.handle("lists"), changes.frozen
        which = np.unique(freezes.source).tolist()
        frozen = dict(zip(which, self._get([keys[source] for source in which]), strict=True))
        cut = dict.fromkeys(which, 0)  # bytes of each head that are frozen by now
        for turn in range(int(freezes.turn.max()) + 1):
            due = freezes.take(freezes.turn == turn)
            sources, parts = due.source.tolist(), []
            for source, stop in zip(sources, due.stop.tolist(), strict=True):
                end = len(heads[source]) + stop
                parts.append(heads[source][cut[source] : end])
                cut[source] = end
            names = [changes.heads[source] for source in sources], [keys[source] for source in sources]
            merged = postings.merge(*_rows(*names, [frozen[source] for source in sources], parts), _dated(names[0]))
            merged = merged.keep(~self._gone(merged, changes.partitions[due.source], due.record, takedowns))
            merged = postings.capped(merged, self._limits.cap, self._light)
            frozen |= zip(sources, layout.pack_rows(merged), strict=True)
        for source in which:
            heads[source] = heads[source][cut[source] :]
            if value := frozen[source]:
                write.put(keys[source], value, handle)
            else:
                write.delete(keys[source], handle)

    def _gone(self, lists: PostingRows, partitions: Array, records: I64, takedowns: _Takedowns) -> Array:
        """bool[m]: the rows whose pins were taken down in their list's partition, up to a record of this chunk for each list."""
        gone = among(lists.pins, self._taken_down)
        rows_of = np.flatnonzero(gone)
        of = np.searchsorted(lists.ends, rows_of, side="right")
        columns = rows_of, lists.pins[rows_of], partitions[of], records[of]
        for row, pin, partition, record in zip(*(column.tolist() for column in columns), strict=True):
            before = takedowns.get((partition, pin))
            known = self._in_partition.get(partition, _NO_PINS)
            gone[row] = (before is not None and before <= record) or bool(among(ids([pin]), known)[0])
        return gone

    def retrieve(self, sources: Sources, wanted: Wanted) -> tuple[Postings, Selection]:
        """The postings of the sources, and the chosen ones of them. Raises Exhausted over MAX_POSTINGS."""
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
        """The lists of the sources, without pins that were taken down. Raises Exhausted over MAX_POSTINGS."""
        lists = self._lists(sources)
        return lists.keep(~among(lists.pins, self._taken_down))

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
        lists, missing = self.cache.get(sources, MAX_POSTINGS)
        held = int(lists.ends[-1]) if len(lists.ends) else 0
        if held > MAX_POSTINGS:
            raise _too_many(len(lists.ends))
        if not len(missing):
            return lists
        absent, position = Sources(sources.kinds[missing], sources.ids[missing]), ViewPosition(OWN, self._positions())
        places = self._feed.places(absent.ids)
        read = self._read(absent, places.partition, MAX_POSTINGS - held, len(lists.ends))
        self._feed.fill(places, position, lambda sure: self.cache.put(absent, read, sure))
        return postings.woven(lists, read, missing) if len(missing) < len(lists.ends) else read

    def _positions(self) -> dict[int, int]:
        """The next offset of each partition."""
        positions = self.shard.positions((int(Topic.SOURCES), partition) for partition in range(self._partitions))
        return {partition: offset for (_, partition), offset in positions.items()}

    def _read(self, sources: Sources, partitions: I64, most: int, asked: int) -> Postings:
        """The lists as they are on disk. partitions: int64[n]; asked: sources of the question.

        Raises Exhausted over `most` rows.
        """
        heads: list[bytes | None] = []
        frozen: list[bytes | None] = []
        head_keys: list[bytes] = []
        frozen_keys: list[bytes] = []
        left = most * layout.ROW_BYTES
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
) -> tuple[PostingRows, PostingRows]:
    """The frozen parts, and the changes to them."""
    return layout.unpack_rows(frozen_keys, frozen), layout.unpack_rows(head_keys, heads)


def _dated(keys: Sequence[bytes]) -> Array:
    """bool[n]: which lists are of boards, where the later date decides."""
    return np.array([layout.kind_of(key) == BOARD for key in keys], bool)
