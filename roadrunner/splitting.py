"""Makes the records of views of accepted batches, on a log that is split later. Needs no log.

What is made of a record of `ingest`, and the state that decides it, are a function of the records before it in its partition:
which ids are known, and whose boards are. So two splitters that come to the same record, one after the other or beside each
other, make the same of it, and views drop what comes twice (services/log/progress.py). The quality that a save is filled in with
is the one exception: it is as last stated by then in what this splitter has gone through, which is a moment behind in partitions
that others have; views read what it wrote.

Records of a partition that are at hand together are split as one, and their parts carry the last one's offset. Where such a piece
ends is noted in the group before any of it is written (roadrunner/stage.py).

An id is known for a day after it came last, also if it was dropped then.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from protos import events_pb2 as pb
from roadrunner import layout, split_layout
from roadrunner.accepting import Shape
from roadrunner.boards import Boards
from roadrunner.duplicates import RecentIds
from roadrunner.intake import Group
from roadrunner.qualities import Qualities
from roadrunner.routing import PLACES, Records, Routed, at_of
from roadrunner.staged import Staged
from services.core.clock import DAY_MS
from services.core.columns import I64
from services.core.topics import INGEST
from services.log.protocol import LAST, Partition, Provenance, Record
from services.state.shard import Shard

RECORD_BYTES = 4 << 20  # of one record, more or less
FORGET_EVERY_MS = 600_000
SLOTS = 1 << 10  # of ids, to start with


@dataclass(frozen=True, slots=True)
class Part:
    """A record to append: its batch serialised, its events counted."""

    topic: int
    partition: int
    events: int
    value: bytes
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Made:
    """What a stage makes of records, and how its tables change with them."""

    parts: list[Part]
    records: list[Record]
    staged: Staged


class Splitting:
    """A stage (roadrunner/stage.py): of `ingest`, to all topics of views but counts. One thread uses it."""

    name, topic = "splitter", INGEST
    writes: tuple[int, ...] = tuple(map(int, PLACES))

    def __init__(self, shard: Shard, shape: Shape) -> None:
        """shard: with `split_layout.FAMILIES`."""
        self.shard, self._shape, self._partitions = shard, shape, shape.partitions
        self._recent: dict[int, RecentIds] = {}
        self._forgot: dict[int, int] = {}

    def make(self, records: Sequence[Record], parts: bool = True) -> Made:
        """Of records in order within a partition, none twice; those of a partition are split as one. What it remembers of
        their ids counts until `forget`. parts: whether any are wanted, beside the state.
        """
        staged, made = Staged(self.shard), list[Part]()
        boards, qualities = Boards(staged, self._partitions), Qualities(staged, self._partitions)
        for partition in dict.fromkeys(record.partition for record in records):
            own = [record for record in records if record.partition == partition and record.events]
            if own:
                group = Group.of([record.message for record in own])
                fresh = self._fresh(own, group, staged)
                group = qualities.filled(staged, group, fresh)
                void = boards.judge(staged, group, fresh)
                if parts:
                    made += self._split(own, group, fresh, void)
        return Made(made, list(records), staged)

    def _split(self, records: list[Record], group: Group, fresh: I64, void: I64) -> list[Part]:
        partitions, source, last = self._partitions, records[-1].partition, records[-1].offset
        routed = Routed.of(group, fresh, partitions, void)
        made, rows = Records(group, routed), dict[Partition, list[tuple[int, bytes]]]()
        for place in routed.places:
            rows[at_of(place, partitions)] = list(made.of(place, RECORD_BYTES))
        return [
            Part(*at, events, value, Provenance(INGEST, source, last, i | (LAST if i == len(pieces) - 1 else 0)))
            for at in self._awaited(group, len(records))
            for pieces in [rows.get(at) or [(0, _EMPTY)]]
            for i, (events, value) in enumerate(pieces)
        ]

    def _awaited(self, group: Group, records: int) -> list[Partition]:
        """The places where something of these records can be waited for, whatever of them is dropped."""
        places: list[list[Partition]] = [[] for _ in range(records)]
        for record, place in Routed.of(group, np.arange(group.rows), self._partitions).met(group, records):
            places[record].append(at_of(place, self._partitions))
        return sorted({at for of in places for at in self._shape.marked(of)})

    def _fresh(self, records: list[Record], group: Group, staged: Staged) -> I64:
        """The rows whose ids are not known, ascending; all of them are from now on."""
        recent, keys, found = self._recent_of(records[0].partition), group.keys, []
        for record, own in zip(
            records, np.split(keys, np.cumsum([record.events for record in records])[:-1]), strict=True
        ):
            found.append(recent.add(own, record.accepted_ms))
            recent.touch(own, record.accepted_ms)
            value = layout.accepted_value(record.accepted_ms, own)
            staged.put(split_layout.accepted_key(record.partition, record.offset), value, "accepted")
        self._forget_old(records[-1], staged)
        return np.flatnonzero(np.concatenate(found))

    def _recent_of(self, partition: int) -> RecentIds:
        if partition not in self._recent:
            recent = self._recent[partition] = RecentIds(SLOTS)
            first, end = (split_layout.accepted_key(at, 0) for at in (partition, partition + 1))
            for key, value in self.shard.family("accepted").items(first, end):
                at_ms, keys = split_layout.accepted_of(key, value)
                recent.add(keys, at_ms)
                recent.touch(keys, at_ms)
        return self._recent[partition]

    def _forget_old(self, record: Record, staged: Staged) -> None:
        """Delete notes of ids that came more than a day ago."""
        if record.accepted_ms - self._forgot.get(record.partition, 0) < FORGET_EVERY_MS:
            return
        self._forgot[record.partition] = record.accepted_ms
        first, end = (split_layout.accepted_key(at, 0) for at in (record.partition, record.partition + 1))
        for key, value in self.shard.family("accepted").items(first, end):
            if split_layout.accepted_of(key, value)[0] >= record.accepted_ms - DAY_MS:
                staged.family("accepted").forget(first, key)
                return

    def keep(self, made: Made) -> None:
        """Write how the tables have changed, and how far it has come."""
        batch = self.shard.batch()
        made.staged.write(batch)
        self.shard.commit(batch, made.records)

    def forget(self) -> None:
        """Take back what was made and not kept."""
        self._recent, self._forgot = {}, {}


_EMPTY = pb.Batch().SerializeToString()
