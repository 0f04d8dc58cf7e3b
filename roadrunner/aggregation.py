"""Windowed aggregation: what users did to pins becomes increments of counts, an hour each. Needs no log.

An engagement counts once for its pin, its board if it names one, its user, and every interest that the pin is in at
that point of its partition: the order of the log decides, so whoever replays the log gets the same counts. A pin is in
interests by the law of rockstore: those it states join, JOIN_INTEREST joins, LEAVE_INTEREST alone leaves, and what
would join beyond 256 is passed over. A takedown leaves counts and interests alone.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from roadrunner import kernel, layout
from roadrunner.kernel import ENGAGES, JOINS, LEAVES
from services.columns import I64, U8, U64, Array, Ragged
from services.events import IS_ENGAGEMENT, Action, Batch, Kind, events, flags
from services.log import Record, kept
from services.topics import partition_of

HOUR_MS = 3_600_000
MAX_INTERESTS = 256  # of a pin, as rockstore keeps
PIECE = 16_384  # events aggregated at once: with all of 256 interests each, 4 million rows
A = Action
_STATES = flags(A.CREATE_PIN, A.UPDATE_PIN)
RELEVANT = IS_ENGAGEMENT | _STATES | flags(A.JOIN_INTEREST, A.LEAVE_INTEREST)


class Interests(Protocol):
    """The interests of pins, by key, as `layout` packs them."""

    def get(self, keys: list[bytes]) -> list[bytes | None]:
        """The value of each key; None or empty: no interests."""
        ...

    def put(self, key: bytes, value: bytes) -> None:
        """Change a value; an empty one is none."""
        ...


class MemoryInterests:
    """A table of interests for replays."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}

    def get(self, keys: list[bytes]) -> list[bytes | None]:
        """The value of each key."""
        return [self._values.get(key) for key in keys]

    def put(self, key: bytes, value: bytes) -> None:
        """Change a value."""
        self._values[key] = value


class _Rows(NamedTuple):
    """Relevant rows of records, in order."""

    action: U8
    pin: U64
    board: U64
    user: U64
    target: U64
    at_ms: I64
    partition: Array
    interests: Ragged

    def slice(self, start: int, stop: int) -> "_Rows":
        """Rows start..stop."""
        columns: list[Any] = [column[start:stop] for column in self[:-1]]
        columns.append(self.interests.slice(start, stop))
        return _Rows(*columns)


class Aggregation:
    """Turns records of OBJECTS into increments, and keeps the table of interests up with them."""

    def __init__(self, table: Interests) -> None:
        self._table = table

    def increments(self, records: Sequence[Record], partitions: int) -> list[tuple[int, Batch]]:
        """What these records, in order within a partition and none twice, add to counts: batches for Topic.COUNTS.

        Returns [(partition of COUNTS, rows of action, kind, target, at_ms = start of the hour, count)]; a pair of
        object, action and hour may be in several batches. The table is changed.
        """
        found: list[tuple[int, Batch]] = []
        relevant = kept(records, RELEVANT)
        if relevant:
            rows = _rows(relevant)
            for start in range(0, len(rows.action), PIECE):
                found += self._piece(rows.slice(start, min(start + PIECE, len(rows.action))), partitions)
        return found

    def _piece(self, rows: _Rows, partitions: int) -> list[tuple[int, Batch]]:
        engaged, interest = self._interests(rows)
        did = np.flatnonzero(IS_ENGAGEMENT[rows.action])
        if not len(did):
            return []
        on_board = did[rows.board[did] != 0]
        hour_and_action = rows.at_ms // HOUR_MS << 16 | rows.action.astype(np.int64)
        parts = (
            (rows.pin[did], hour_and_action[did], Kind.PIN),
            (rows.board[on_board], hour_and_action[on_board], Kind.BOARD),
            (rows.user[did], hour_and_action[did], Kind.USER),
            (interest, hour_and_action[engaged], Kind.INTEREST),
        )
        objects = np.concatenate([ids for ids, _, _ in parts])
        what = np.concatenate([done | int(kind) << 8 for _, done, kind in parts])
        return _summed(objects, what, partitions)

    def _interests(self, rows: _Rows) -> tuple[I64, U64]:
        """(row, interest) of each engagement and each interest that its pin is in at that moment."""
        pins, first, pin_of = np.unique(rows.pin, return_index=True, return_inverse=True)
        keys = layout.interests_keys(rows.partition[first], pins)
        lengths, held = layout.interests_of(self._table.get(keys))
        if not len(held) and IS_ENGAGEMENT[rows.action].all():
            return np.empty(0, np.int64), np.empty(0, np.uint64)
        row, does, interest = _steps(rows)
        pin = pin_of[row]
        held, starts = _with_room(held, lengths, np.bincount(pin[does == JOINS], minlength=len(pins)))
        steps, none, nothing = (does, pin, interest), np.empty(0, np.int64), np.empty(0, np.uint64)
        pairs = kernel.follow_interests(*steps, held.copy(), starts, lengths.copy(), MAX_INTERESTS, none, nothing)
        engaged, found = np.empty(pairs, np.int64), np.empty(pairs, np.uint64)
        kernel.follow_interests(*steps, held, starts, lengths, MAX_INTERESTS, engaged, found)
        for i in np.unique(pin[does != ENGAGES]).tolist():
            self._table.put(keys[i], layout.interests_value(held[starts[i] : starts[i] + lengths[i]]))
        return row[engaged], found


def _rows(records: Sequence[Record]) -> _Rows:
    """Only the columns that count: texts need not be copied."""
    names = ("action", "pin", "board", "user", "target", "at_ms")
    columns: list[Any] = [np.concatenate([getattr(record.batch, name) for record in records]) for name in names]
    columns.append(np.repeat([record.partition for record in records], [len(record.batch) for record in records]))
    columns.append(Ragged.concat([record.batch.interests for record in records]))
    return _Rows(*columns)


def _steps(rows: _Rows) -> tuple[I64, U8, U64]:
    """(row, what it does, interest) of each step: an engagement, or one interest that a pin joins or leaves."""
    states = _STATES[rows.action]
    times = np.where(states, rows.interests.lengths(), 1)
    row = np.repeat(np.arange(len(times)), times)
    interest = np.repeat(rows.target, times)
    interest[states[row]] = rows.interests.take(np.flatnonzero(states)).values
    does = np.where(IS_ENGAGEMENT[rows.action], ENGAGES, np.where(rows.action == A.LEAVE_INTEREST, LEAVES, JOINS))
    return row, does.astype(np.uint8)[row], interest


def _with_room(held: U64, lengths: I64, more: I64) -> tuple[U64, I64]:
    """Each pin's interests with room for as many more as join; where each begins."""
    ends = np.cumsum(lengths + more)
    starts = ends - lengths - more
    roomy = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint64)
    within = np.arange(len(held)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    roomy[np.repeat(starts, lengths) + within] = held
    return roomy, starts


def _summed(objects: U64, what: I64, partitions: int) -> list[tuple[int, Batch]]:
    """Sums of equal pairs, by partition of the object. what: hour << 16 | kind << 8 | action."""
    n = len(objects)
    slots, first, counts = np.zeros(2 << n.bit_length(), np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    groups = kernel.sum_by_key(objects, what, slots, first, counts)
    objects, what, counts = objects[first[:groups]], what[first[:groups]], counts[:groups]
    where = partition_of(objects, partitions)
    order = np.argsort(where, kind="stable")
    objects, what, counts, where = objects[order], what[order], counts[order], where[order]
    batch = events(
        groups,
        action=what & 0xFF,
        kind=what >> 8 & 0xFF,
        target=objects,
        at_ms=(what >> 16) * HOUR_MS,
        count=counts,
    )
    starts = np.flatnonzero(np.diff(where, prepend=-1)).tolist()
    ends = [*starts[1:], groups]
    return [(int(where[start]), batch.slice(start, end)) for start, end in zip(starts, ends, strict=True)]
