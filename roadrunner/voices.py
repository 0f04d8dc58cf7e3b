"""One person, one voice: which engagements count. Needs no log.

A save or a hide counts once of each user and pin, for good: after an unsave, a new save is the same voice. An
impression, a close-up or a click counts once of each user and pin within a day (UTC, by `at_ms`). An engagement dated
KEPT_DAYS before the newest engagement of its partition, or earlier, counts once for good too, so days can be forgotten.
And no user raises more than MOST_OF_A_DAY voices of an action in a partition and day, or MOST_EVER for good.

The order of a partition of OBJECTS decides, and nothing else: every replay of the log gets the same voices, in
whatever chunks.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from roadrunner import voice_kernel, voice_layout
from roadrunner.kernel import numbered
from services.core.clock import DAY_MS
from services.core.columns import I64, U8, U64, Array
from services.core.events import IS_ENGAGEMENT, Action, flags

KEPT_DAYS = 7
MOST_OF_A_DAY, MOST_EVER = 1_024, 16_384
ENGAGES, FOR_GOOD = 1, 2
_DOES = IS_ENGAGEMENT.astype(np.uint8) * np.uint8(ENGAGES)
_DOES[flags(Action.SAVE, Action.HIDE)] = FOR_GOOD


class Values(Protocol):
    """A table of the aggregator, by key, as `voice_layout` packs it."""

    def get(self, keys: list[bytes]) -> list[bytes | None]:
        """The value of each key; None or empty: none."""
        ...

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Change values, by key; an empty one is none."""
        ...

    def forget(self, start: bytes, stop: bytes) -> None:
        """Keys from start to before stop are never asked for again."""
        ...


class _Engaged(NamedTuple):
    """Rows that engage in something, in order. shelf: as `voice_kernel.shelves_of` has it."""

    shelf: U64
    partition: U64
    action: U64
    user: U64
    pin: U64


class Voices:
    """Which users have been counted for which pins.

    The voices of a user on a day are one value, of all partitions, since a page is seen as a whole and its pins are in
    many; voices that count for good are one value of each partition, since it grows for years.
    """

    def __init__(self, table: Values) -> None:
        self._table = table

    def heard(self, partition: I64, action: U8, user: U64, pin: U64, at_ms: I64) -> Array:
        """bool[n]: which rows count, of records of OBJECTS in order; rows that are no engagement do not.

        partition: int64[n], of OBJECTS. The table is changed.
        """
        heard, shelf = np.zeros(len(action), np.bool_), np.empty(len(action), np.int64)
        if not _DOES[action].any():
            return heard
        before = self._newest(int(partition.max()) + 1)
        newest = before.copy()
        voice_kernel.shelves_of(_DOES, KEPT_DAYS, partition, action, at_ms, newest, shelf)
        rows = np.flatnonzero(shelf >= 0)
        columns = (column[rows].astype(np.uint64) for column in (shelf, partition, action, user, pin))
        heard[rows] = self._first(_Engaged(*columns))
        self._move(before, newest)
        return heard

    def _first(self, rows: _Engaged) -> Array:
        """Which of the rows count; they are kept."""
        first, shelf_of = numbered(rows.user, rows.shelf)
        shelf = rows.shelf[first]
        day = shelf >> np.uint64(voice_kernel.DAY_AT)
        keys = voice_layout.keys_of(day, np.where(day == 0, shelf, 0), rows.user[first])
        stored = self._table.get(keys)
        lengths, *known = voice_layout.voices_of(keys, stored)
        pin, partition, action = (column.astype(np.uint64) for column in known)
        of = np.repeat(np.arange(len(keys), dtype=np.uint64), lengths)
        heard = np.empty(len(rows.pin), np.bool_)
        voice_kernel.raise_voices(
            len(of),
            np.concatenate([of, shelf_of]),
            np.concatenate([_list(partition, action), _list(rows.partition, rows.action)]),
            np.concatenate([pin, rows.pin]),
            np.where(day == 0, MOST_EVER, MOST_OF_A_DAY),
            heard,
        )
        self._add(keys, stored, rows, np.flatnonzero(heard), shelf_of)
        return heard

    def _add(
        self, keys: Sequence[bytes], stored: Sequence[bytes | None], rows: _Engaged, new: I64, shelf_of: U64
    ) -> None:
        """Put the new rows behind what is stored under their keys."""
        new = new[np.argsort(shelf_of[new], kind="stable")]
        grown, lengths = np.unique(shelf_of[new], return_counts=True)
        values = voice_layout.values_of(rows.pin[new], rows.partition[new], rows.action[new], lengths)
        self._table.put({keys[i]: (stored[i] or b"") + value for i, value in zip(grown.tolist(), values, strict=True)})

    def _newest(self, partitions: int) -> I64:
        """int64[partitions, or more]: the newest date of an engagement of each, 0 of those without any."""
        stored = voice_layout.newest_of(self._table.get([voice_layout.NEWEST_KEY])[0])
        return np.concatenate([stored, np.zeros(max(0, partitions - len(stored)), np.int64)])

    def _move(self, before: I64, newest: I64) -> None:
        """Keep what is newer now; days that no row will be compared with again are forgotten."""
        if (newest > before).any():
            self._table.put({voice_layout.NEWEST_KEY: voice_layout.newest_value(newest)})
        if (past := _past(newest)) > _past(before):
            self._table.forget(voice_layout.first_key(1), voice_layout.first_key(past + 1))


def _list(partition: U64, action: U64) -> U64:
    return partition << np.uint64(8) | action


def _past(newest: I64) -> int:
    """The last day that is past in every partition; one that had no engagement yet has no voices to keep."""
    known = newest[newest > 0]
    return max(0, int(known.min()) // DAY_MS - KEPT_DAYS) if len(known) else 0
