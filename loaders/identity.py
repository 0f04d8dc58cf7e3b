"""Which event a row is: a hash of its content, so that the same row of another file is the same event.

Not counted are what a load works out for itself (a date that no row has, a computed quality) and how a file encodes a
value. See docs/decisions/0047-loads-by-content.md.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from loaders.hashes import GOLDEN, hash64, mix
from services.core.columns import U64, Array, Ragged
from services.core.events import ENGAGEMENTS, Action, Batch, Kind, flags

ROWS_AT_ONCE = 65_536
#: Actions that state how a thing is, and not an action of a user: a later row of the same thing replaces an earlier one.
DEFINES = flags(
    *(Action.NAME_USER, Action.NAME_INTEREST, Action.NAME_ID),
    *(Action.CREATE_BOARD, Action.CREATE_PIN, Action.UPDATE_PIN),
)
#: Rows with a date of their own in every set; that of others may be made up.
_DATED = flags(*ENGAGEMENTS, Action.UNSAVE)
_STATED = ("user", "action", "pin", "board", "target", "surface", "kind", "title", "link", "interests")
#: The bit of a hash which says that it is of a row's own id: such rows are one event wherever they stand.
OWN = np.uint64(1 << 63)
_REST = np.uint64((1 << 63) - 1)
_NO_DATE = np.iinfo(np.int64).min


class EventRun(Protocol):
    """A run of events of one kind (loaders/dataset.py)."""

    @property
    def name(self) -> str:
        """Of the kind."""

    @property
    def size(self) -> int:
        """How many events."""

    @property
    def rows(self) -> Callable[[int, int], Batch]:
        """(start, stop) -> Batch; its ids are hashes of the rows' contents, or 0."""


@dataclass(frozen=True, slots=True)
class Identities:
    """The identities of the n rows of a set, k of which define things.

    ids: uint64[n], the event of each row, never 0. defines: bool[n]. keys, states: uint64[k], which thing each definition is
    about, and a hash of all that the set says of that thing. last: bool[k], whether it is the set's last row about it.
    """

    ids: U64
    defines: Array
    keys: U64
    states: U64
    last: Array


def identify(name: str, parts: Iterable[EventRun]) -> Identities:
    """The identities of a set's rows; reads all of it once."""
    marks, defines, keys = [np.empty(0, np.uint64)], [np.empty(0, bool)], [np.empty(0, np.uint64)]
    for part in parts:
        seed = np.uint64(hash64("row", name, part.name))
        for start in range(0, part.size, ROWS_AT_ONCE):
            batch = part.rows(start, min(start + ROWS_AT_ONCE, part.size))
            content = np.where(batch.id == 0, content_of_batch(batch), batch.id)
            marks.append((mix(content ^ seed) & _REST) | (content & OWN))
            defines.append(DEFINES[batch.action])
            keys.append(keys_of(batch.take(defines[-1])))
    every, defining, about = (np.concatenate(found) for found in (marks, defines, keys))
    states, last = of_things(about, every[defining])
    return Identities(numbered(every), defining, about, states, last)


def content_of(n: int, columns: dict[str, Any]) -> U64:
    """uint64[n]: the content of n rows of columns (arrays of n, or Ragged of n). One that is not stated (0, NaN, no date, empty)
    counts as if the column were not there, so a column that is added empty changes nothing.
    """
    total = np.zeros(n, np.uint64)
    for name, values in columns.items():
        salt = np.uint64(hash64("column", name))
        total += (
            mix(runs_hash(values) ^ salt) - mix(salt.reshape(1)) if isinstance(values, Ragged) else _fixed(values, salt)
        )
    content = mix(total) & _REST
    return np.where(content == 0, np.uint64(1), content)


def content_of_batch(batch: Batch) -> U64:
    """uint64[n]: the same of events whose set has no other columns."""
    columns = {name: getattr(batch, name) for name in _STATED}
    return content_of(len(batch), {**columns, "at_ms": np.where(_DATED[batch.action], batch.at_ms, 0)})


def _fixed(values: Array, salt: np.uint64) -> U64:
    if values.dtype.kind == "f":
        bits = (np.where(np.isnan(values), 0, values) + 0.0).astype(np.float64).view(np.uint64)  # + 0.0: of -0.0 too
    else:
        bits = np.where(values == _NO_DATE, 0, values).astype(np.uint64) if values.dtype == np.int64 else values
        bits = bits.astype(np.uint64)
    return np.where(bits == 0, np.uint64(0), mix(mix(bits) ^ salt))


def runs_hash(runs: Ragged) -> U64:
    """uint64[n], of each run: the sum of a hash of each value at its place (tabulation hashing); 0 of an empty run."""
    if not len(runs.values):
        return np.zeros(len(runs), np.uint64)
    lengths = runs.lengths()
    ends = runs.ends.astype(np.int64)
    place = (np.arange(len(runs.values)) - (ends - lengths).repeat(lengths)).astype(np.uint64)
    hashed = mix(mix(runs.values.astype(np.uint64) + np.uint64(1)) ^ mix(place + GOLDEN))
    sums = np.append(np.uint64(0), np.cumsum(hashed, dtype=np.uint64))
    return np.asarray(sums[ends] - sums[ends - lengths], np.uint64)


def own_ids(texts: Ragged) -> U64:
    """uint64[n]: the content of rows that state an id of their own, as text or bytes; 0 where it is empty."""
    return np.where(texts.lengths() == 0, np.uint64(0), mix(runs_hash(texts)) | OWN)


def numbered(marks: U64) -> U64:
    """uint64[n]: the event of each row. The n-th row of the same content is an event of its own: a user may look at a pin
    twice within a millisecond. Rows with the same id of their own are one.
    """
    nth = np.where(marks & OWN, np.uint64(0), occurrence(marks, np.argsort(marks, kind="stable")))
    found = np.where(nth == 0, mix(marks), mix(marks ^ mix(nth)))
    return np.where(found == 0, np.uint64(1), found)


def occurrence(keys: U64, order: Array) -> U64:
    """uint64[n]: how many rows before it have the key of each row. order: a stable argsort of the keys."""
    starts = _first_of_runs(keys[order])
    place = np.arange(len(keys))
    nth = np.empty(len(keys), np.uint64)
    nth[order] = place - np.maximum.accumulate(np.where(starts, place, 0))
    return nth


def _first_of_runs(in_order: U64) -> Array:
    return np.append(True, in_order[1:] != in_order[:-1])[: len(in_order)]


def keys_of(batch: Batch) -> U64:
    """uint64[n]: the subject of each row of definitions."""
    action = batch.action
    about = [action == Action.NAME_USER, action == Action.NAME_INTEREST, action == Action.CREATE_BOARD]
    about.append(action == Action.NAME_ID)
    names = batch.kind.astype(np.int64) + len(Kind) + 1  # of an id: besides what else is said of the thing
    kinds = np.select(about, [int(Kind.USER), int(Kind.INTEREST), int(Kind.BOARD), names], int(Kind.PIN))
    number = np.select(about, [batch.user, batch.target, batch.board, batch.target], batch.pin)
    return mix(mix(number) + kinds.astype(np.uint64))


def of_things(keys: U64, content: U64) -> tuple[U64, Array]:
    """(uint64[n] a hash of all rows about the same thing, in order; bool[n] whether the row is the last about it)."""
    order = np.argsort(keys, kind="stable")
    nth = occurrence(keys, order)
    first = np.flatnonzero(_first_of_runs(keys[order]))
    sizes = np.diff(np.append(first, len(keys)))
    hashed = mix(content ^ mix(nth + GOLDEN))[order]
    sums = np.add.reduceat(hashed, first) if len(first) else np.empty(0, np.uint64)
    states, last = np.empty(len(keys), np.uint64), np.zeros(len(keys), bool)
    states[order] = np.repeat(mix(sums), sizes)
    last[order[first + sizes - 1]] = True
    return states, last
