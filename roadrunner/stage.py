"""Stages: each makes records of those of one topic, and keeps how far it has come with the state that decides it.

A stage may run twice, at once or later, and every event counts once:

- Output is flushed before it is noted as done, here and in the group. A crash in between makes it again, and readers drop what is
  not above the provenance that they have applied.
- What is made again is the same: state is a function of the records before. The provenance of what a piece of records becomes is
  that of its last one, and the end of the piece is noted in the group before any of it is written. Only a member of the group can
  note it, so no two are under way with different pieces.
- A process that gets a partition from another has no state of it, or an older one. It goes through the records up to what is
  noted in the group, and writes nothing of what it makes of them. It does so all the time, for the partitions of the others
  too: so it takes one over within a moment, and whatever is made of a partition has the tables of all of them.

So no write is a transaction, and no partition has an owner that must be fenced before it may be taken over.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from roadrunner.splitting import Made, Part
from services.core.errors import NotReady
from services.log.protocol import End, Noted, Partition, Record
from services.state.shard import Shard

logger = logging.getLogger(__name__)


class Stage(Protocol):
    """What makes records of records."""

    name: str
    topic: int  # that it reads
    writes: tuple[int, ...]  # the topics
    shard: Shard

    def make(self, records: Sequence[Record], parts: bool = True) -> Made:
        """What comes of these records, in order within a partition; remembered until `keep` or `forget`. parts: False of what
        another has written.
        """
        ...

    def keep(self, made: Made) -> None:
        """Write the state, and how far it has come, as one."""
        ...

    def forget(self) -> None:
        """Take back what was made and not kept."""
        ...


Send = Callable[[Sequence[Part]], object]  # returns once they are durable
Commit = Callable[[Mapping[int, Noted]], object]  # raises for one who is no member of the group any more


class Run:
    """A stage over the partitions that this process has now. Not thread-safe."""

    def __init__(self, stage: Stage, send: Send, commit: Commit) -> None:
        self._stage, self._send, self._commit = stage, send, commit
        self._group: dict[int, int] = {}  # by partition: what the group has noted as done
        self._own = frozenset[int]()
        self._until: dict[int, int] = {}  # where the piece in hand ends
        self._pending: dict[int, list[Record]] = {}
        self._unnoted = set[int]()  # partitions of which more is done than the group has noted

    def place(self, own: Mapping[int, Noted], others: Mapping[int, Noted] | None = None) -> dict[int, int]:
        """From now on it has its own partitions, and follows the others; of both, what the group has noted. From where each is
        to be read.
        """
        self.revoke()
        noted = {**(others or {}), **own}
        positions = self.positions(noted)
        self._own = frozenset(own)
        self._group = {p: of.next for p, of in noted.items()}
        self._until = {p: of.until for p, of in own.items() if of.until > max(positions[p], of.next)}
        self._pending = {partition: [] for partition in noted}
        return positions

    def revoke(self) -> None:
        """From now on it has none."""
        self._stage.forget()
        self._own = frozenset()
        self._group, self._until, self._pending, self._unnoted = {}, {}, {}, set()

    def follow(self, noted: Mapping[int, Noted]) -> None:
        """The group has noted so much of partitions that others have."""
        for p, of in noted.items():
            if p in self._pending and p not in self._own:
                self._group[p] = max(of.next, self._group[p])

    @property
    def others(self) -> dict[int, int]:
        """The partitions that it follows, and how many records of each wait for a note of who has them."""
        return {p: len(pending) for p, pending in self._pending.items() if p not in self._own}

    @property
    def left(self) -> int:
        """Offsets of others' partitions that are noted as done, and were not gone through here."""
        at = {p: next_ for p, next_ in self._group.items() if p not in self._own}
        return sum(max(0, at[p] - position) for p, position in self.positions(at).items())

    def positions(self, partitions: Mapping[int, object]) -> dict[int, int]:
        """How far each of these has come here."""
        found = self._stage.shard.positions((self._stage.topic, partition) for partition in partitions)
        return {partition: position for (_, partition), position in found.items()}

    def step(self, records: Sequence[Record]) -> int:
        """Take the next records, which are of its partitions; make, write and note what is whole. How many records that were."""
        for record in records:
            if record.partition in self._pending:  # else it was revoked since it was read
                self._pending[record.partition].append(record)
        known = [record for p, of in self._pending.items() for record in self._taken(p, of, self._group[p])]
        if known:
            self._stage.keep(self._stage.make(self._stage.shard.fresh(known), parts=False))
        pieces = {p: piece for p in sorted(self._own) if (piece := self._piece(p))}
        if pieces:
            self._do(pieces)
        elif (
            self._unnoted and not records
        ):  # while nothing comes: who takes over then need not make the last piece again
            self._commit({p: Noted(self._group[p]) for p in self._unnoted})
            self._unnoted = set()
        return len(known) + sum(map(len, pieces.values()))

    def _taken(self, partition: int, pending: list[Record], before: int) -> list[Record]:
        """Records before an offset, which wait no more."""
        count = next((i for i, record in enumerate(pending) if record.offset >= before), len(pending))
        self._pending[partition] = pending[count:]
        return pending[:count]

    def _piece(self, partition: int) -> list[Record]:
        """The records to make something of next; none while those of a piece that was begun are not all there."""
        pending, until = self._pending[partition], self._until.get(partition, 0)
        if not until:
            return self._taken(partition, pending, pending[-1].offset + 1) if pending else []
        return self._taken(partition, pending, until) if pending and pending[-1].offset + 1 >= until else []

    def _do(self, pieces: Mapping[int, list[Record]]) -> None:
        positions = self.positions(pieces)
        begun = {p: piece[-1].offset + 1 for p, piece in pieces.items()}
        new = {p: Noted(positions[p], end) for p, end in begun.items() if self._until.get(p) != end}
        if new:
            self._commit(new)
        self._until |= begun
        made = self._stage.make(self._stage.shard.fresh([record for piece in pieces.values() for record in piece]))
        self._send(made.parts)
        self._stage.keep(made)
        for p, piece in pieces.items():
            self._until.pop(p, None)
            self._group[p] = piece[-1].offset + 1
            self._unnoted.add(p)


def check_known(stage: Stage, noted: Mapping[int, Noted], ends: Mapping[Partition, End]) -> None:
    """Raise NotReady where it is not known where pieces ended: the group has lost its notes, and the state here has not come so
    far. The records could be cut into other pieces when they are gone through again.

    noted: of every partition of the topic, asked for after the ends were. Where a piece ends is noted before anything of it is
    written: so a group without any note, whose stage has written, has lost them. One that has notes of some partitions has them
    all: nothing was made of the others yet.
    """
    written = any(end.next for (topic, _), end in ends.items() if topic in stage.writes)
    if not written or any(of.next or of.until for of in noted.values()):
        return
    positions = stage.shard.positions((stage.topic, p) for p in noted)
    lost = [p for (topic, p), position in positions.items() if not position and ends[topic, p].next]
    if lost:
        raise NotReady(
            f"{stage.name}: how far it had come in partitions {', '.join(map(str, lost))} is noted neither in its group nor in "
            f"{stage.shard.folder}, and it has written before: set the group's offsets to where it had come "
            "(kafka-consumer-groups --reset-offsets), or use a new prefix"
        )
