"""Where an event belongs: the topics, the key of each, and the split of a batch over topics and partitions.

`partition = mmh3.hash64(key as 8 little-endian bytes, seed=0)[0] mod partitions`, computed for whole columns.
A takedown goes to every partition of the topics whose views may hold the pin under another key, the switch of a
dataset to every partition of the objects that it describes. A takedown says no more than which pin: texts that a writer
states with it are dropped, since every copy would carry them. The log leaves out of users and sources the
statements of users on boards that are not theirs (`services/core/boards.py`); objects have them.
"""

from dataclasses import dataclass
from enum import IntEnum

import mmh3
import numpy as np

from services.core.columns import U64, Array, Ragged
from services.core.events import GOES_EVERYWHERE, IS_ENGAGEMENT, RAGGED, Action, Batch, Encoder, flags


class Topic(IntEnum):
    """A stream of the log, partitioned by one kind of key."""

    USERS = 0  # by user: follows and actions
    SOURCES = 1  # by board or interest: which pins it holds; boards created and deleted
    OBJECTS = 2  # by pin, board, user or interest: attributes, and what was done to a pin
    FEEDS = 3  # by user: pages served
    COUNTS = 4  # by pin, board, user or interest: how often something was done to it in an hour; from the aggregator


#: The stream of accepted batches that are still to be split, on a log that splits them later (roadrunner/splitting.py): no view
#: reads it.
INGEST = 100

A = Action
_USERS = flags(*(a for a in Action if a < A.UNSAVE))
_BOARD_HOLDS = flags(A.SAVE, A.UNSAVE, A.CREATE_BOARD, A.DELETE_BOARD)
_INTEREST_HOLDS = flags(A.JOIN_INTEREST, A.LEAVE_INTEREST)
_PINS = flags(A.CREATE_PIN, A.UPDATE_PIN, A.TAKEDOWN, A.JOIN_INTEREST, A.LEAVE_INTEREST, A.UNSAVE) | IS_ENGAGEMENT
_BOARDS = flags(A.CREATE_BOARD, A.DELETE_BOARD)
_TARGETS = flags(A.NAME_INTEREST, A.NAME_ID, A.PUT_FEATURES)


def hash64(keys: U64) -> U64:
    """uint64[n]: first half of MurmurHash3 x64 128 (Appleby) of each key's 8 little-endian bytes, seed 0."""
    c1, c2 = np.uint64(0x87C37B91114253D5), np.uint64(0x4CF5AD432745937F)
    k1 = np.asarray(keys, np.uint64) * c1
    h1 = (k1 << np.uint64(31) | k1 >> np.uint64(33)) * c2
    length = np.uint64(8)
    h1 = (h1 ^ length) + length  # h2 is the length alone: an 8-byte key is all tail, and ends in the first half
    return _fmix(h1) + _fmix(h1 + length)


def _fmix(h: U64) -> U64:
    h = (h ^ h >> np.uint64(33)) * np.uint64(0xFF51AFD7ED558CCD)
    h = (h ^ h >> np.uint64(33)) * np.uint64(0xC4CEB9FE1A85EC53)
    return h ^ h >> np.uint64(33)


def partition_of(keys: U64, partitions: int) -> Array:
    """int64[n]: the partition of each key."""
    return (hash64(keys) % np.uint64(partitions)).astype(np.int64)


def partition_of_one(key: int, partitions: int) -> int:
    """The partition of one key; numpy takes many times as long for an array of one."""
    return int(mmh3.hash64(key.to_bytes(8, "little"), seed=0, signed=False)[0] % partitions)


#: Actions of which no view reads a text or a list.
IS_BARE = flags(A.TAKEDOWN)
#: The actions that go to every partition of these topics.
_EVERYWHERE = {A.TAKEDOWN: (Topic.SOURCES, Topic.FEEDS), A.SWITCH_DATASET: (Topic.OBJECTS,)}
assert [*map(int, _EVERYWHERE)] == np.flatnonzero(GOES_EVERYWHERE).tolist()


@dataclass(frozen=True, slots=True)
class PartitionRows:
    """The rows of a batch that belong to one partition, in the order in which they came: a run of a grouped batch."""

    topic: Topic
    partition: int
    grouped: Batch
    encoder: Encoder  # of grouped
    start: int
    stop: int
    rows: Array  # int64[stop - start]: the row of the published batch that each came from

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def batch(self) -> Batch:
        """The rows themselves."""
        return self.grouped.slice(self.start, self.stop)


def _whole(topic: Topic, partition: int, batch: Batch, rows: Array) -> PartitionRows:
    return PartitionRows(topic, partition, batch, Encoder(batch), 0, len(batch), rows)


def split(batch: Batch, partitions: int) -> list[PartitionRows]:
    """Every topic and partition where rows of the batch belong, with those rows."""
    action = batch.action
    batch = _bare(batch, IS_BARE[action])
    parts = _keyed(Topic.USERS, batch, batch.user, _USERS[action], partitions)
    parts += _sources(batch, partitions)
    objects = np.select(
        [_PINS[action], _BOARDS[action], action == A.NAME_USER, _TARGETS[action]],
        [batch.pin, batch.board, batch.user, batch.target],
    )
    parts += _keyed(Topic.OBJECTS, batch, objects, objects != 0, partitions)
    parts += _keyed(Topic.FEEDS, batch, batch.user, action == A.SERVED, partitions)
    for kind, topics in _EVERYWHERE.items():
        rows = np.flatnonzero(action == kind)
        if len(rows):
            parts = _everywhere(topics, batch, rows, parts, partitions)
    return parts


def _bare(batch: Batch, rows: Array) -> Batch:
    """The batch without the texts and lists of these rows (bool[n])."""
    if not rows.any():
        return batch
    return batch.replace(**{name: getattr(batch, name).emptied(rows) for name in RAGGED})


def _sources(batch: Batch, partitions: int) -> list[PartitionRows]:
    """Postings: by board for saves and the board's own life, by interest for pins that join one, also as they state it."""
    action = batch.action
    key = np.where(_INTEREST_HOLDS[action], batch.target, batch.board)
    rows = np.flatnonzero(_BOARD_HOLDS[action] | _INTEREST_HOLDS[action])
    stated = np.flatnonzero(np.isin(action, (A.CREATE_PIN, A.UPDATE_PIN)) & (batch.interests.lengths() > 0))
    if not len(stated):
        return _split_rows(Topic.SOURCES, batch.take(rows), rows, key[rows], partitions) if len(rows) else []
    joins = stated.repeat(batch.interests.lengths()[stated])
    interests = batch.interests.take(stated).values
    # Without what only the pin's own row needs: 64 copies of its texts and interests would outgrow any message.
    nothing = {name: Ragged.empty(len(batch), dtype) for name, (dtype, _) in RAGGED.items()}
    joining = batch.replace(**nothing).take(joins)
    joining = joining.replace(action=np.full(len(joins), A.JOIN_INTEREST, np.uint8), target=interests)
    everything = Batch.concat([batch.take(rows), joining])
    came = np.concatenate([rows, joins])
    order = np.argsort(came, kind="stable")
    keys = np.concatenate([key[rows], interests])[order]
    return _split_rows(Topic.SOURCES, everything.take(order), came[order], keys, partitions)


def _keyed(topic: Topic, batch: Batch, keys: U64, belongs: Array, partitions: int) -> list[PartitionRows]:
    rows = np.flatnonzero(belongs)
    if not len(rows):
        return []
    if len(rows) == len(batch):
        return _split_rows(topic, batch, rows, keys, partitions)
    return _split_rows(topic, batch.take(rows), rows, keys[rows], partitions)


def _split_rows(topic: Topic, batch: Batch, rows: Array, keys: U64, partitions: int) -> list[PartitionRows]:
    where = partition_of(keys, partitions)
    if len(batch) == 1:
        return [_whole(topic, int(where[0]), batch, rows)]
    order = np.argsort(where, kind="stable")
    grouped, rows, where = batch.take(order), rows[order], where[order]
    starts = np.flatnonzero(np.diff(where, prepend=-1)).tolist()
    ends, encoder = [*starts[1:], len(where)], Encoder(grouped)
    of = where[starts].tolist()
    return [
        PartitionRows(topic, partition, grouped, encoder, a, b, rows[a:b])
        for partition, a, b in zip(of, starts, ends, strict=True)
    ]


def _everywhere(
    topics: tuple[Topic, ...], batch: Batch, chosen: Array, parts: list[PartitionRows], n: int
) -> list[PartitionRows]:
    """`parts` with the chosen rows added to every partition of the topics, in the order in which the rows came."""
    at = {(part.topic, part.partition): part for part in parts}
    down = batch.take(chosen)
    for topic in topics:
        for partition in range(n):
            part = at.get((topic, partition))
            if part is None:
                at[topic, partition] = _whole(topic, partition, down, chosen)
            else:
                rows = np.concatenate([part.rows, chosen])
                order = np.argsort(rows, kind="stable")
                both = Batch.concat([part.batch, down]).take(order)
                at[topic, partition] = _whole(topic, partition, both, rows[order])
    return list(at.values())
