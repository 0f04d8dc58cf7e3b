"""What is known of pins, boards, users and interests: the view of `objects` that keeps one packed value an object.

Beside it lie the datasets of feature rows (`datasets.py`), which the same records load, switch and update.
"""

import heapq
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rockstore import layout
from rockstore.datasets import Datasets
from rockstore.layout import BOARD, CREATED, INTEREST, PIN, TAKEN_DOWN, USER, Columns, Object
from services.columns import U8, U64, Array, Ragged, ids
from services.events import Action, Batch, flags
from services.log import Record, kept, rows
from services.shard import Shard
from services.topics import Topic, partition_of

TOPICS = (Topic.OBJECTS,)
MAX_INTERESTS = 256  # of a pin; what would join beyond them is passed over, so that no value grows without end
LAST_ID = 2**64 - 1

A = Action
_KIND = np.zeros(256, np.uint8)
_KIND[[A.CREATE_PIN, A.UPDATE_PIN, A.TAKEDOWN, A.JOIN_INTEREST, A.LEAVE_INTEREST]] = PIN
_KIND[[A.CREATE_BOARD, A.DELETE_BOARD]] = BOARD
_KIND[A.NAME_USER], _KIND[A.NAME_INTEREST] = USER, INTEREST
_IS_OBJECTS = _KIND > 0
_IS_DATASETS = flags(A.PUT_FEATURES, A.SWITCH_DATASET)
_DESCRIBES_PIN = frozenset((A.CREATE_PIN, A.UPDATE_PIN))
_TAKES_DOWN = frozenset((A.TAKEDOWN, A.DELETE_BOARD))


class Event(NamedTuple):
    """One row of a batch, in plain Python."""

    action: int
    at_ms: int
    owner: int
    target: int
    quality: float
    title: bytes
    link: bytes
    interests: Sequence[int]


class RockstoreStore:
    """The objects of the partitions of one shard."""

    def __init__(
        self, shard: Shard, own: range, partitions: int, folder: Path | None = None, versions_kept: int = 3
    ) -> None:
        """`own`: the partitions of this shard; `partitions`: how many the deployment has.

        `folder`: where the bulk loader puts its versions; None: this process takes none.
        """
        self.shard, self._own, self._partitions = shard, own, partitions
        self.datasets = Datasets(shard, partitions, folder, versions_kept)

    def apply(self, records: Sequence[Record]) -> None:
        """Apply records of `objects`; what was done to a pin, other than to its attributes, is passed over."""
        write, states = self.shard.batch(), None
        if found := kept(records, _IS_OBJECTS):
            self._apply(write, *rows(found))
        if found := kept(records, _IS_DATASETS):
            states = self.datasets.apply(write, *rows(found))
        self.shard.commit(write, records)
        if states is not None:
            self.datasets.adopt(states)

    def _apply(self, write: Any, batch: Batch, partition: Array) -> None:
        kinds = _KIND[batch.action]
        columns = [batch.pin, batch.board, batch.user]
        objects_of = np.select([kinds == PIN, kinds == BOARD, kinds == USER], columns, batch.target)
        keys = layout.object_keys(partition, kinds, objects_of)
        objects: dict[bytes, Object | None] = dict.fromkeys(keys)
        for key, value in zip(objects, self.shard.family("objects").get(list(objects)), strict=True):
            objects[key] = layout.unpack_object(value) if value else None
        for key, event in zip(keys, _events(batch, kinds), strict=True):
            objects[key] = changed(objects[key], event)
        handle = self.shard.handle("objects")
        for key, known in objects.items():
            if known is not None:
                write.put(key, layout.pack_object(known), handle)

    def attributes(self, kinds: U8 | int, objects: U64, texts: bool = True) -> Columns:
        """What is known of each of these objects; `kinds`: of each, or of all; `texts`: titles and links too."""
        partition = partition_of(objects, self._partitions)
        keys = layout.object_keys(partition, kinds, objects)
        return layout.unpack_columns(self.shard.family("objects").get(keys) if keys else [], texts)

    def names(self, known: Columns) -> tuple[U8, U64, Ragged]:
        """Kinds (uint8[m]), ids and names of the owners and interests of these objects, each once: those of this shard."""
        users, interests = np.unique(known.owners), np.unique(known.interests.values)
        kinds = np.repeat(np.array([USER, INTEREST], np.uint8), [len(users), len(interests)])
        objects = np.concatenate([users, interests])
        partition = partition_of(objects, self._partitions)
        mine = np.flatnonzero((objects > 0) & (partition >= self._own.start) & (partition < self._own.stop))
        kinds, objects = kinds[mine], objects[mine]
        return kinds, objects, self.attributes(kinds, objects).titles

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
            if not layout.is_taken_down(value):
                yield layout.id_of(key)


def changed(known: Object | None, event: Event) -> Object | None:
    """What is known of an object after one more event; `known` itself is changed."""
    if event.action == A.LEAVE_INTEREST:
        if known is not None:
            known.interests.pop(event.target, None)
        return known
    known = known or Object()
    if event.action == A.JOIN_INTEREST:
        _join(known, event.target)
    elif event.action in _TAKES_DOWN:
        known.flags |= TAKEN_DOWN
    else:
        _state(known, event)
    return known


def _join(known: Object, interest: int) -> None:
    """A pin joins an interest; those it states of itself too, as polaris is told. It leaves by LEAVE_INTEREST alone."""
    if len(known.interests) < MAX_INTERESTS:
        known.interests[interest] = None


def _state(known: Object, event: Event) -> None:
    """Take what the event states; what it does not stays."""
    if event.action in _DESCRIBES_PIN:
        for interest in event.interests:
            _join(known, interest)
        if not isnan(event.quality):
            known.quality = event.quality
        known.link = event.link or known.link
    known.title = event.title or known.title
    known.owner = event.owner or known.owner
    if event.action != A.UPDATE_PIN and not known.flags & CREATED:
        known.at_ms, known.flags = event.at_ms, known.flags | CREATED


def _events(batch: Batch, kinds: Array) -> Iterator[Event]:
    owners = np.where(kinds <= BOARD, batch.user, np.uint64(0))
    fixed = [column.tolist() for column in (batch.action, batch.at_ms, owners, batch.target, batch.quality)]
    texts = [_slices(ragged, ragged.values.tobytes()) for ragged in (batch.title, batch.link)]
    interests = _slices(batch.interests, batch.interests.values.tolist())
    return map(Event._make, zip(*fixed, *texts, interests, strict=True))


def _slices(ragged: Ragged, values: Any) -> list[Any]:
    ends = ragged.ends.tolist()
    return [values[start:end] for start, end in pairwise([0, *ends])]
