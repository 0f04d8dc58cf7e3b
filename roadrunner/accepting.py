"""A publish on a log that is split later: the records that it becomes in `ingest`, and the token that names what is made of them.

A row goes to the ingest partition of its primary key: a statement of a board that of the board, a statement of a pin that of the
pin, so that all of them are one order, and what the log decides by them is a function of one partition (roadrunner/splitting.py).
Else it is the user, or, without one, the object. Each ingest partition takes the keys of several partitions of the views' topics:
whatever a publish is cut into here, each piece is cut again by the partitions of the views.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from protos import events_pb2 as pb
from roadrunner.intake import Group
from roadrunner.routing import PLACES, Routed, at_of
from services.core.boards import IS_OF_BOARDS
from services.core.columns import U64, Array
from services.core.events import Action, Batch, Encoder, flags
from services.core.tokens import EVERY, Reached
from services.core.topics import partition_of
from services.log.protocol import Partition

MOST_NAMED = 1_024  # partitions that a token names, over all records of `ingest` that a publish becomes
_OF_PINS = flags(Action.CREATE_PIN, Action.UPDATE_PIN, Action.TAKEDOWN, Action.JOIN_INTEREST, Action.LEAVE_INTEREST)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A record of `ingest`: its partition, its rows, and the topics and partitions where what is made of it can be waited for."""

    partition: int
    batch: pb.Batch
    awaited: tuple[Partition, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """How many partitions the views' topics have, and how many `ingest` has."""

    partitions: int
    ingest: int

    def ingest_of(self, batch: Batch) -> Array:
        """int64[n]: the ingest partition of each row. Keys of one partition of the views' topics have one of these too."""
        return partition_of(primary_keys(batch), self.partitions) % self.ingest

    @property
    def named(self) -> int:
        """How many partitions a token names of one record of `ingest`; of more, all get a part or a marker, and none is named."""
        return max(1, MOST_NAMED // self.ingest)

    def awaited(self, places: Iterable[Partition]) -> tuple[Partition, ...]:
        """The places that a token names of those where rows of a record belong."""
        named = tuple(places)
        return named if len(named) <= self.named else tuple((int(topic), EVERY) for topic in PLACES)

    def marked(self, places: Collection[Partition]) -> Collection[Partition]:
        """The places that must get something of a record: what a token names is among them."""
        if len(places) <= self.named:
            return places
        return [(int(topic), partition) for topic in PLACES for partition in range(self.partitions)]


def primary_keys(batch: Batch) -> U64:
    """uint64[n]: by which the ingest partition of each row is chosen."""
    action = batch.action
    of = [IS_OF_BOARDS[action], _OF_PINS[action], batch.user != 0, batch.target != 0, batch.board != 0]
    return np.asarray(
        np.select(of, [batch.board, batch.pin, batch.user, batch.target, batch.board], batch.pin), np.uint64
    )


def accepted(message: pb.Batch, shape: Shape) -> list[Accepted]:
    """The records of `ingest` that a batch becomes which `intake.check` let pass, rows in the order in which they came."""
    if not message.n:
        return []
    batch = Batch.of(message)
    where = shape.ingest_of(batch)
    if (where == where[0]).all():
        return [Accepted(int(where[0]), message, shape.awaited(touched(message, shape.partitions)))]
    order = np.argsort(where, kind="stable")
    starts = np.flatnonzero(np.diff(where[order], prepend=-1))
    encoder, bounds = Encoder(batch.take(order)), [*starts.tolist(), len(batch)]
    group = replace(Group.of([message]), publish=where)  # the whole batch is routed in one pass
    places = dict[int, list[Partition]]()
    for partition, place in Routed.of(group, np.arange(message.n), shape.partitions).met(group, shape.ingest):
        places.setdefault(partition, []).append(at_of(place, shape.partitions))
    return [
        Accepted(partition, encoder.rows(start, stop), shape.awaited(places.get(partition, [])))
        for partition, (start, stop) in zip(where[order][starts].tolist(), pairwise(bounds), strict=True)
    ]


def touched(message: pb.Batch, partitions: int) -> list[Partition]:
    """The topics and partitions where rows of a batch belong, whatever of them turns out to be known already."""
    routed = Routed.of(Group.of([message]), np.arange(message.n), partitions)
    return [at_of(place, partitions) for place in routed.places]


def reached(records: Iterable[Accepted], offsets: Iterable[int]) -> Reached:
    """What a token says of records that lie at these offsets."""
    return {
        (*place, record.partition): offset
        for record, offset in zip(records, offsets, strict=True)
        for place in record.awaited
    }
