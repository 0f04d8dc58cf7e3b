"""Windowed aggregation: users' actions on pins become increments of counts, an hour each. Needs no log.

An engagement that is a voice of its own (`voices.py`: one person, one voice) counts once for its pin, its board if it
names one, its user, and every interest that the pin is in at that point of its partition; another counts nowhere. The
order of the log decides, so every replay of the log gets the same counts. A pin is in
interests by the rule of rockstore: those it states join, JOIN_INTEREST joins, LEAVE_INTEREST alone leaves, and what
would join beyond 256 is passed over. A takedown leaves counts and interests alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from protos import events_pb2 as pb
from roadrunner import kernel, layout
from roadrunner.intake import Group
from roadrunner.voices import Values, Voices
from services.core.batches import DTYPES
from services.core.columns import I64, U8, U32, U64, Array, Ragged
from services.core.events import IS_ENGAGEMENT, Action, Batch, events, flags
from services.log.protocol import Record

MAX_INTERESTS = 256  # of a pin, as rockstore keeps
PIECE = 16_384  # events aggregated in one pass: with all of 256 interests each, 4 million increments
A = Action
_DOES = IS_ENGAGEMENT.astype(np.uint8) * np.uint8(kernel.ENGAGES)
_DOES[flags(A.CREATE_PIN, A.UPDATE_PIN)] = kernel.STATES
_DOES[A.JOIN_INTEREST], _DOES[A.LEAVE_INTEREST] = kernel.JOINS, kernel.LEAVES


class MemoryValues:
    """A table for replays."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}

    def get(self, keys: list[bytes]) -> list[bytes | None]:
        """The value of each key."""
        return [self._values.get(key) for key in keys]

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Change values."""
        self._values.update(values)

    def forget(self, start: bytes, stop: bytes) -> None:
        """A replay ends, and its table with it: nothing is deleted."""


class _Rows(NamedTuple):
    """Rows of records of OBJECTS, in order; ends and values of interests are empty when no row states any."""

    action: U8
    user: U64
    pin: U64
    board: U64
    target: U64
    at_ms: I64
    interest_ends: U32
    interests: U64

    def slice(self, start: int, stop: int) -> "_Rows":
        """Rows start..stop."""
        columns: list[Any] = [column[start:stop] for column in self[:6]]
        if not len(self.interest_ends):
            columns += [self.interest_ends, self.interests]
            return _Rows(*columns)
        runs = Ragged(self.interest_ends, self.interests).slice(start, min(stop, len(self.action)))
        runs.ends.setflags(write=False)  # kernels are compiled for columns that are only read
        columns += [runs.ends, runs.values]
        return _Rows(*columns)


@dataclass(frozen=True, slots=True)
class Sums:
    """Increments of one piece, those of a partition of COUNTS together: columns of the same length."""

    starts: I64  # int64[partitions + 1]: where those of each partition begin
    action: U8
    kind: U8
    target: U64
    at_ms: I64
    count: U32

    def batches(self) -> Iterator[tuple[int, Batch]]:
        """(partition, batch) of each partition that has any."""
        columns = ("action", "kind", "target", "at_ms", "count")
        whole = events(len(self.action), **{name: getattr(self, name) for name in columns})
        for partition, (start, stop) in enumerate(pairwise(self.starts.tolist())):
            if start < stop:
                yield partition, whole.slice(start, stop)

    def records(self, most: int) -> Iterator[tuple[int, int, bytes]]:
        """(partition, rows, serialised batch) of each partition that has any, `most` rows a record."""
        packed = {name: getattr(self, name).tobytes() for name in ("action", "kind", "target", "at_ms", "count")}
        sizes = {name: DTYPES[name].itemsize for name in packed}
        for partition, (start, stop) in enumerate(pairwise(self.starts.tolist())):
            for a, b in pairwise([*range(start, stop, most), stop]):
                columns: Any = {name: data[a * sizes[name] : b * sizes[name]] for name, data in packed.items()}
                yield partition, b - a, pb.Batch(n=b - a, **columns).SerializeToString()


class Aggregation:
    """Turns records of OBJECTS into increments, and keeps the tables of interests and voices up with them."""

    def __init__(self, interests: Values, voices: Values) -> None:
        self._table, self._voices = interests, Voices(voices)

    def increments(self, records: Sequence[Record], partitions: int) -> list[tuple[int, Batch]]:
        """The increments that these records, in order within a partition and none twice, add: batches for Topic.COUNTS.

        Returns [(partition of COUNTS, rows of action, kind, target, at_ms = start of the hour, count)]; a pair of
        object, action and hour may be in several batches. The table is changed.
        """
        stored = [(record.partition, record.message) for record in records]
        return [part for sums in self.sums(stored, partitions) for part in sums.batches()]

    def sums(self, records: Sequence[tuple[int, pb.Batch]], partitions: int) -> Iterator[Sums]:
        """The same of records as the log holds them, each with its partition of OBJECTS."""
        names = _Rows._fields[:6]
        group = Group.of([batch for _, batch in records], names, ("interests",))
        columns: list[Any] = [*(group.column(name) for name in names), *group.interests]
        rows = _Rows(*columns)
        of = np.array([partition for partition, _ in records], np.int64)[group.publish]
        heard = self._voices.heard(of, rows.action, rows.user, rows.pin, rows.at_ms)
        action = np.where(heard | ~IS_ENGAGEMENT[rows.action], rows.action, np.uint8(0))
        action.setflags(write=False)  # kernels are compiled for columns that are only read
        rows = rows._replace(action=action)
        for start in range(0, group.rows, PIECE):
            yield from self._piece(rows.slice(start, start + PIECE), of[start : start + PIECE], partitions)

    def _piece(self, rows: _Rows, partition: I64, partitions: int) -> Iterator[Sums]:
        doing = np.flatnonzero(_DOES[rows.action])
        if not len(doing):
            return
        first, number = kernel.numbered(rows.pin[doing], rows.pin[doing])
        first, pins, pin_of = doing[first], len(first), np.full(len(rows.action), -1, np.int64)
        pin_of[doing] = number
        keys = layout.object_keys(partition[first], rows.pin[first])
        lengths, stored = layout.interests_of(keys, self._table.get(keys))
        starts = np.empty(pins + 1, np.int64)
        most = kernel.reserve_interests(_DOES, rows.action, pin_of, rows.interest_ends, lengths, starts)
        held = np.empty(int(starts[-1]), np.uint64)
        kernel.lay_out(stored, lengths, starts, held)
        changed = np.zeros(pins, np.bool_)
        sums = np.empty(most, np.uint64), np.empty(most, np.int64), np.empty(most, np.uint32)
        state = (pin_of, held, starts, lengths, changed, MAX_INTERESTS)
        groups = kernel.increments(_DOES, *rows, *state, _slots(most, np.int32), *sums)
        self._table.put(
            {
                keys[i]: layout.interests_value(held[starts[i] : starts[i] + lengths[i]])
                for i in np.flatnonzero(changed).tolist()
            }
        )
        if groups:
            yield _by_partition(*sums, groups, partitions)


def _slots(most: int, dtype: Any) -> Array:
    return np.zeros(2 << most.bit_length(), dtype)


def _by_partition(objects: U64, whats: I64, counts: U32, n: int, partitions: int) -> Sums:
    columns: list[Any] = [np.empty(n, DTYPES[name]) for name in ("action", "kind", "target", "at_ms", "count")]
    starts = np.zeros(partitions + 1, np.int64)
    kernel.by_partition(objects[:n], whats[:n], counts[:n], starts, *columns)
    return Sums(starts, *columns)


def warm() -> None:
    """Compile the kernels of aggregation, or load them, before they are needed."""
    aggregation = Aggregation(MemoryValues(), MemoryValues())
    for interests in ([], [1]):
        pin = events(1, action=A.CREATE_PIN, pin=1, interests=[interests]).to_proto()
        save = events(1, action=A.SAVE, user=1, pin=1, board=1).to_proto()
        list(aggregation.sums([(0, pin), (0, save)], 1))
