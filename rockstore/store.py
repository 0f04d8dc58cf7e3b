"""Attributes of pins, boards, users and interests: the view of `objects` that keeps one packed value an object.

Beside it lie the datasets of feature rows (`datasets.py`), which the same records load, switch and update.
"""

import heapq
from collections.abc import Iterator, Sequence
from itertools import compress, islice, pairwise
from typing import Any, cast

import numpy as np

from rockstore import layout
from rockstore.datasets import Datasets
from rockstore.layout import BOARD, INTEREST, PIN, USER, Columns, Object, Parts
from rockstore.state import Event, changed
from services.blob.protocol import Blobs
from services.core import tokens
from services.core.checks import check_partitions
from services.core.columns import U8, U64, Array, Ragged, ids
from services.core.events import Action, Batch, flags
from services.core.external import MAX_EXTERNAL
from services.core.topics import Topic, partition_of
from services.log.protocol import Record, relevant_rows
from services.state.change_feed import OWN, ChangeFeed, ViewPosition, after
from services.state.second_chance import SecondChanceCache
from services.state.shard import Shard

TOPICS = (Topic.OBJECTS,)
LAST_ID = 2**64 - 1
BUCKETS = 1 << 14  # of the change feed of cached objects

A = Action
_KIND = np.zeros(256, np.uint8)
_KIND[[A.CREATE_PIN, A.UPDATE_PIN, A.TAKEDOWN, A.JOIN_INTEREST, A.LEAVE_INTEREST]] = PIN
_KIND[[A.CREATE_BOARD, A.DELETE_BOARD]] = BOARD
_KIND[A.NAME_USER], _KIND[A.NAME_INTEREST] = USER, INTEREST
_IS_OBJECTS = _KIND > 0
_IS_OBJECTS[A.NAME_ID] = True  # of the kind that the event states
_NAMED = np.array([USER, INTEREST], np.uint8)
_IS_DATASETS = flags(A.PUT_FEATURES, A.SWITCH_DATASET)


class RockstoreStore:
    """The objects of the partitions of one shard."""

    def __init__(
        self,
        shard: Shard,
        own: range,
        partitions: int,
        blobs: Blobs | None = None,
        versions_kept: int = 3,
        objects_mb: int = 32,
    ) -> None:
        """`own`: the partitions of this shard; `partitions`: how many the deployment has.

        `blobs`: of the datasets that the bulk loader publishes; None: this process takes none. `objects_mb`: of memory
        for the objects that are asked for most.
        """
        self.shard, self._own, self._partitions = shard, own, partitions
        self._objects = SecondChanceCache[bytes, Parts](max(0, (objects_mb << 20) - 8 * BUCKETS), layout.parts_bytes)
        self._feed = ChangeFeed(partitions, BUCKETS)  # whose lock is held while `_objects` changes
        self._feed.begin(self._positions())
        self.datasets = Datasets(shard, partitions, blobs, versions_kept)

    def apply(self, records: Sequence[Record]) -> None:
        """Apply records of `objects`; actions on a pin that do not change its attributes are passed over.

        Raises NotReady, and commits nothing, while a dataset's version that the log switches to is not there.
        """
        write, states = self.shard.batch(), None
        changed: dict[bytes, bytes] = {}
        if (found := relevant_rows(records, _IS_OBJECTS)) is not None:
            changed = self._apply(write, *_allowed(*found))
        if (found := relevant_rows(records, _IS_DATASETS)) is not None:
            states = self.datasets.apply(write, *found)

        def adopt() -> None:  # before a read that waits for these records goes on, or an answer states their offsets
            if states is not None:
                self.datasets.adopt(states)
            self._adopt(changed, records)

        self.shard.commit(write, records, adopt)

    def _apply(self, write: Any, batch: Batch, partition: Array) -> dict[bytes, bytes]:
        """Write the objects that change; their keys and values. Raises ValueError for an object in a partition of others."""
        naming = batch.action == A.NAME_ID
        kinds = np.where(naming, batch.kind, _KIND[batch.action])
        columns = [batch.pin, batch.board, batch.user]
        by_kind = [(kinds == kind) & ~naming for kind in (PIN, BOARD, USER)]
        objects_of = np.select(by_kind, columns, batch.target)
        check_partitions(partition, objects_of, self._partitions)
        keys = layout.object_keys(partition, kinds, objects_of)
        objects: dict[bytes, Object | None] = dict.fromkeys(keys)
        for key, value in zip(objects, self.shard.family("objects").get(list(objects)), strict=True):
            objects[key] = layout.unpack_object(key, value) if value is not None else None
        for key, event in zip(keys, _events(batch, kinds), strict=True):
            objects[key] = changed(objects[key], event)
        handle = self.shard.handle("objects")
        values = {key: layout.pack_object(known) for key, known in objects.items() if known is not None}
        for key, value in values.items():
            write.put(key, value, handle)
        return values

    def _adopt(self, changed: dict[bytes, bytes], records: Sequence[Record]) -> None:
        """These objects (values by key) were written: those that are cached are replaced."""
        if not changed:
            return
        named = {layout.object_name(key): value for key, value in changed.items()}

        def replace() -> None:
            cached = [name for name in named if name in self._objects]
            self._objects.put(cached, [layout.parts_of(name, named[name]) for name in cached])

        keys = ids([layout.id_of(key) for key in changed])
        self._feed.note(self._feed.places(keys), after(records, self._partitions), replace)

    def attributes(self, kinds: U8 | int, objects: U64, texts: bool = True, external: bool = False) -> Columns:
        """Attributes of each of these objects; `kinds`: of each, or of all; `texts`: titles and links too;
        `external`: external ids too.
        """
        return layout.columns_of(self._parts(kinds, objects), texts, external)

    def names(self, known: Columns) -> tuple[U8, U64, Ragged, Ragged]:
        """Kinds (uint8[m]), ids, names and external ids of the owners and interests of these objects, each once: those of
        this shard.
        """
        users, interests = (sorted({*named.tolist()} - {0}) for named in (known.owners, known.interests.values))
        kinds, objects = _NAMED.repeat([len(users), len(interests)]), ids(users + interests)
        if len(self._own) < self._partitions:
            partition = partition_of(objects, self._partitions)
            mine = (partition >= self._own.start) & (partition < self._own.stop)
            kinds, objects = kinds[mine], objects[mine]
        parts = self._parts(kinds, objects)
        return kinds, objects, layout.titles_of(parts), layout.externals_of(parts)

    def reached(self) -> bytes:
        """The token of how far the log has been applied: reads from now on show at least that. Empty before the log's
        epoch is known.
        """
        reached = {(int(Topic.OBJECTS), at): offset - 1 for at, offset in self._positions().items() if offset}
        epoch = self.shard.epoch  # after the positions, which are of its past then
        return tokens.encode(reached, epoch) if epoch else b""

    def _positions(self) -> dict[int, int]:
        """The next offset of each partition of this shard."""
        positions = self.shard.positions((int(Topic.OBJECTS), partition) for partition in self._own)
        return {partition: offset for (_, partition), offset in positions.items()}

    def _parts(self, kinds: U8 | int, objects: U64) -> list[Parts]:
        """Attributes of each of these objects: from memory, and the rest from disk in one batch."""
        names = layout.object_names(kinds, objects)
        found = self._objects.get(names)
        if None not in found:
            return cast(list[Parts], found)
        lacking = [row for row, parts in enumerate(found) if parts is None]
        some, position = objects[lacking], ViewPosition(OWN, self._positions())
        places = self._feed.places(some)
        keys = layout.object_keys(places.partition, np.broadcast_to(np.asarray(kinds), len(names))[lacking], some)
        values = self.shard.family("objects").get(keys)
        read = [
            layout.ABSENT if value is None else layout.parts_of(key, value)
            for key, value in zip(keys, values, strict=True)
        ]
        for row, parts in zip(lacking, read, strict=True):
            found[row] = parts

        def put(sure: Array) -> None:  # the rest may be of before a change
            self._objects.put([names[row] for row in compress(lacking, sure)], compress(read, sure))

        self._feed.fill(places, position, put)
        return cast(list[Parts], found)

    def listed(self, kind: int, after: int, limit: int) -> U64:
        """The first `limit` ids of a kind above `after`, ascending: found, and not taken down or deleted."""
        if after >= LAST_ID:
            return ids([])
        streams = [self._above(partition, kind, after) for partition in self._own]
        return ids(list(islice(heapq.merge(*streams), limit)))

    def _above(self, partition: int, kind: int, after: int) -> Iterator[int]:
        first = layout.object_key(partition, kind, after + 1)
        for key, value in self.shard.family("objects").items(from_key=first):
            if not layout.same_kind(key, first):
                return
            if layout.is_listed(key, value):
                yield layout.id_of(key)


def _allowed(batch: Batch, partition: Array) -> tuple[Batch, Array]:
    """Without names that the log would refuse (services/core/events.py): their texts could not be kept."""
    naming = batch.action == A.NAME_ID
    if not naming.any():
        return batch, partition
    lengths = batch.title.lengths()
    bad = naming & ((lengths < 1) | (lengths > MAX_EXTERNAL) | (batch.kind < PIN) | (batch.kind > INTEREST))
    return (batch.take(~bad), partition[~bad]) if bad.any() else (batch, partition)


def _events(batch: Batch, kinds: Array) -> Iterator[Event]:
    owners = np.where(kinds <= BOARD, batch.user, np.uint64(0))
    fixed = [
        column.tolist() for column in (batch.action, batch.at_ms, owners, batch.target, batch.quality, batch.stated)
    ]
    texts = [_slices(ragged, ragged.values.tobytes()) for ragged in (batch.title, batch.link)]
    interests = _slices(batch.interests, batch.interests.values.tolist())
    return map(Event._make, zip(*fixed, *texts, interests, strict=True))


def _slices(ragged: Ragged, values: Any) -> list[Any]:
    ends = ragged.ends.tolist()
    return [values[start:end] for start, end in pairwise([0, *ends])]
