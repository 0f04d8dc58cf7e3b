"""Events: one shape, as batches of columns, from the ingest API to every view.

An event states an action: its user, its object and its date. Only this file's table says which ids an action needs and
which topics it goes to. Splitting a batch over partitions is in `services/core/topics.py`.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Self

import numpy as np

from protos import events_pb2 as pb
from services.core.clock import date_text
from services.core.columns import F32, I64, U8, U32, U64, Array, Ragged, pack, unpack
from services.core.errors import InvalidArgument


class Action(IntEnum):
    """The action of an event. The comment names the columns it reads besides at_ms, surface and id."""

    FOLLOW_USER = 1  # user, target = the user followed
    UNFOLLOW_USER = 2
    FOLLOW_BOARD = 3  # user, board
    UNFOLLOW_BOARD = 4
    FOLLOW_INTEREST = 5  # user, target = the interest
    UNFOLLOW_INTEREST = 6
    CREATE_BOARD = 10  # user = its owner, board, [title]
    DELETE_BOARD = 11  # user = its owner, board
    IMPRESSION = 20  # user, pin, [board]
    CLOSEUP = 21
    CLICK = 22
    SAVE = 23  # user, pin, board, [quality of the pin]
    HIDE = 24  # user, pin, [board]
    UNSAVE = 25  # user, pin, board
    CREATE_PIN = 30  # pin, [user = its creator, title, link, interests, quality]
    UPDATE_PIN = 31
    TAKEDOWN = 32  # pin
    JOIN_INTEREST = 33  # pin, target = the interest, [quality]
    LEAVE_INTEREST = 34  # pin, target
    PUT_FEATURES = 35  # target = the key, title = the dataset, features
    SWITCH_DATASET = 36  # target = the version, title = the dataset; written by the bulk loader
    NAME_USER = 40  # user, title = the name
    NAME_INTEREST = 41  # target = the interest, title = the name
    NAME_ID = 45  # kind and target = an object, title = its external id; where ids are text (services/core/external.py)
    SERVED = 50  # user, pin, board, surface = the feed, position, score, model, features, and from `probability` on


class Surface(IntEnum):
    """Where it happened."""

    UNKNOWN = 0
    FOLLOWING = 1
    INTEREST = 2
    PICKED = 3
    HOME = 4
    CLOSEUP = 5
    BOARD = 6
    PROFILE = 7
    SEARCH = 8
    IMPORT = 9


class Kind(IntEnum):
    """The kind of thing an id names, where its column does not say."""

    PIN = 1
    BOARD = 2
    USER = 3
    INTEREST = 4


class LostAt(IntEnum):
    """Which stage of a feed a candidate was lost at; as `lost_by` has it."""

    OTHER = 0
    SHOWN_BEFORE = 1  # on a page before
    ALREADY_SEEN = 2
    TAKEN_DOWN = 3
    UNDESCRIBED = 4
    OWN_PINS = 5
    SLATE = 6  # it was a candidate to the end, and others were chosen


def flags(*actions: Action) -> Array:
    """bool[256], true at the actions: index it with an action column."""
    table = np.zeros(256, bool)
    table[list(actions)] = True
    return table


A = Action
#: The engagements of a user with a pin; Aperture remembers these too.
ENGAGEMENTS = (A.IMPRESSION, A.CLOSEUP, A.CLICK, A.SAVE, A.HIDE)
IS_ENGAGEMENT = flags(*ENGAGEMENTS)
IS_KNOWN = flags(*Action)
KNOWN_ACTIONS = "known actions are " + ", ".join(f"{a.value} {a.name.lower()}" for a in Action)
NEEDS = {
    "user": flags(*(a for a in Action if a < 30 or a in (A.NAME_USER, A.SERVED))),
    "pin": flags(*(a for a in Action if A.IMPRESSION <= a <= A.LEAVE_INTEREST or a == A.SERVED)),
    "board": flags(A.FOLLOW_BOARD, A.UNFOLLOW_BOARD, A.CREATE_BOARD, A.DELETE_BOARD, A.SAVE, A.UNSAVE),
    "target": flags(
        *(A.FOLLOW_USER, A.UNFOLLOW_USER, A.FOLLOW_INTEREST, A.UNFOLLOW_INTEREST),
        *(A.JOIN_INTEREST, A.LEAVE_INTEREST, A.NAME_INTEREST, A.NAME_ID, A.PUT_FEATURES, A.SWITCH_DATASET),
    ),
}

#: Fixed-width columns of a batch, with the dtype each has on the wire.
COLUMNS = {
    "user": "<u8",
    "action": "<u1",
    "pin": "<u8",
    "board": "<u8",
    "target": "<u8",
    "at_ms": "<i8",
    "surface": "<u1",
    "id": "<u8",
    "quality": "<f4",
    "position": "<u4",
    "kind": "<u1",
    "count": "<u4",
    "score": "<f4",
    "model": "<u8",
    "writer": "<u8",
    "probability": "<f4",
    "candidates": "<u4",
    "stated": "<u1",
}
#: Columns of a run of values a row: the dtype on the wire, and what the message calls the values.
RAGGED = {
    "title": ("<u1", "data"),
    "link": ("<u1", "data"),
    "interests": ("<u8", "ids"),
    "features": ("<f4", "values"),
    "arms": ("<u8", "ids"),
    "lost": ("<u8", "ids"),
    "lost_by": ("<f4", "values"),
}
#: The actions that go to every partition of a topic (`services/core/topics.py`), so that one row becomes many.
GOES_EVERYWHERE = flags(A.TAKEDOWN, A.SWITCH_DATASET)
_NO_VALUES: dict[str, Array] = {dtype: np.empty(0, dtype) for dtype, _ in RAGGED.values()}
#: Ids from here on are of the probes that measure freshness (services/core/probes.py); the log refuses them from all others.
RESERVED_FROM = 2**64 - 2**20
MAX_TEXT = 2048
#: Bits of `stated`: the row states this text, which may be empty. A text that is not empty is stated without its bit.
STATES_TITLE, STATES_LINK = 1, 2
MAX_INTERESTS = 64
MAX_FEATURES = 1024
MAX_EVERYWHERE = 10_000  # of a batch: takedowns and switches, each of which becomes dozens of rows of the log
MAX_JOINS = 1_000_000  # of a batch: interests stated of pins, each of which becomes a row of the log
MAX_SWITCHES = 100  # of a batch: of datasets, each of which carries its texts to every partition
MAX_ARMS = 64
MAX_LOST = 1024
LOST_BY = 3  # numbers of each candidate that lost
#: Values a row of each ragged column, at most.
MOST = {
    **{"title": MAX_TEXT, "link": MAX_TEXT, "interests": MAX_INTERESTS, "features": MAX_FEATURES},
    **{"arms": MAX_ARMS, "lost": MAX_LOST, "lost_by": LOST_BY * MAX_LOST},
}
EARLIEST_MS = 1  # 1970-01-01: archives are old. 0 is a date that was not stated, and negative ones a parsing error
#: Numbers in here are what dates of 1979 to 2106 are in seconds; as milliseconds all are of January and February 1970.
SECONDS = (300_000_000, 1 << 32)
NEVER_STATED = np.float32("nan")


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """n events as columns of length n. Make one with `events()`, or read one with `Batch.of`."""

    user: U64
    action: U8
    pin: U64
    board: U64
    target: U64
    at_ms: I64
    surface: U8
    id: U64
    quality: F32
    position: U32
    kind: U8
    count: U32
    score: F32
    model: U64
    writer: U64
    probability: F32
    candidates: U32
    stated: U8
    title: Ragged
    link: Ragged
    interests: Ragged
    features: Ragged
    arms: Ragged
    lost: Ragged
    lost_by: Ragged

    def __len__(self) -> int:
        return len(self.action)

    def slice(self, start: int, stop: int) -> Self:
        """Rows start..stop, as views."""
        return self._each(lambda column: column[start:stop], lambda ragged: ragged.slice(start, stop))

    def take(self, rows: Array) -> Self:
        """The rows at `rows`: int[m] positions or a bool[n] mask."""
        if rows.dtype == bool:
            rows = np.flatnonzero(rows)
        return self._each(lambda column: column[rows], lambda ragged: ragged.take(rows))

    def _each(self, column: Any, ragged: Any) -> Self:
        columns: list[Any] = [column(getattr(self, name)) for name in COLUMNS]
        return type(self)(*columns, *[ragged(getattr(self, name)) for name in RAGGED])

    @staticmethod
    def concat(parts: "list[Batch]") -> "Batch":
        """All rows of all parts, in order."""
        if len(parts) == 1:
            return parts[0]
        columns: list[Any] = [np.concatenate([getattr(p, name) for p in parts]) for name in COLUMNS]
        columns += [Ragged.concat([getattr(p, name) for p in parts]) for name in RAGGED]
        return Batch(*columns)

    def replace(self, **columns: Any) -> "Batch":
        """The same rows with some columns changed."""
        return replace(self, **columns)

    def to_proto(self) -> pb.Batch:
        """As the wire has it; all-zero columns are left empty."""
        return Encoder(self).rows(0, len(self))

    @staticmethod
    def of(message: pb.Batch) -> "Batch":
        """Read a batch off the wire. Raises InvalidArgument naming a column whose length is not n.

        `action` must be there, so n never claims more memory than its sender has paid for in bytes.
        """
        n = message.n
        if len(message.action) != n:
            raise InvalidArgument(f"batch.action: {len(message.action)} values, expected {n}")
        columns: list[Any] = [_fixed(getattr(message, name), dtype, name, n) for name, dtype in COLUMNS.items()]
        unstated = np.zeros(n, np.uint32)  # the ends of every column of empty runs
        for name, (dtype, values) in RAGGED.items():
            if not message.HasField(name):  # type: ignore[arg-type]
                columns.append(Ragged(unstated, _NO_VALUES[dtype]))
                continue
            field = getattr(message, name)
            columns.append(_ragged(field.ends, getattr(field, values), dtype, name, n))
        return Batch(*columns)


class Encoder:
    """Turns runs of one batch's rows into messages: each column is looked at and packed once, however many runs."""

    def __init__(self, batch: Batch) -> None:
        self._fixed = [
            (name, np.dtype(dtype).itemsize, pack(column, dtype))
            for name, dtype in COLUMNS.items()
            if _is_stated(name, column := getattr(batch, name))
        ]
        self._ragged = [
            (name, values, dtype, column)
            for name, (dtype, values) in RAGGED.items()
            if len((column := getattr(batch, name)).values)
        ]

    def rows(self, start: int, stop: int) -> pb.Batch:
        """The message of rows start..stop."""
        message = pb.Batch(n=stop - start)
        for name, size, data in self._fixed:
            setattr(message, name, data[start * size : stop * size])
        for name, values, dtype, column in self._ragged:
            part = column.slice(start, stop)
            if len(part.values):
                field = getattr(message, name)
                field.ends = pack(part.ends, "<u4")
                setattr(field, values, pack(part.values, dtype))
        return message


def _is_stated(name: str, column: Array) -> bool:
    if name == "action":
        return True  # a batch of rows without an action is none; readers refuse it before they allocate its rows
    return bool(not np.isnan(column).all() if name == "quality" else column.any())


def _fixed(data: bytes, dtype: str, name: str, n: int) -> Any:
    if data:
        return unpack(data, dtype, f"batch.{name}", n)
    return np.full(n, NEVER_STATED) if name == "quality" else np.zeros(n, dtype)


def _ragged(ends: bytes, data: bytes, dtype: str, name: str, n: int) -> Ragged:
    if not ends:
        if data:
            raise InvalidArgument(f"batch.{name}: has data but no ends")
        return Ragged.empty(n, dtype)
    stops, values = unpack(ends, "<u4", f"batch.{name}.ends", n), unpack(data, dtype, f"batch.{name}")
    if len(stops) and (np.any(stops[1:] < stops[:-1]) or int(stops[-1]) != len(values)):
        raise InvalidArgument(f"batch.{name}: ends must not fall, and the last must be {len(values)}")
    return Ragged(stops, values)


def events(n: int, **columns: Any) -> Batch:
    """A batch of n events from the columns given; a scalar fills its column, a column not named is zero or empty.

    `title` and `link` take lists of str, `interests` a list of lists of ids, `features` of numbers (or a Ragged), as do
    `arms`, `lost` and `lost_by`.
    """
    given: dict[str, Any] = {}
    for name, dtype in COLUMNS.items():
        default: Any = NEVER_STATED if name == "quality" else 0
        column = np.asarray(columns.pop(name, default), dtype=dtype)
        given[name] = np.full(n, column) if column.ndim == 0 else column
        if len(given[name]) != n:
            raise InvalidArgument(f"batch.{name}: {len(given[name])} values, expected {n}")
    for name, (dtype, _) in RAGGED.items():
        value: Any = columns.pop(name, None)
        if value is None:
            value = Ragged.empty(n, dtype)
        elif not isinstance(value, Ragged):
            value = Ragged.of_strings(value) if dtype == "<u1" else Ragged.of_lists(value, dtype)
        given[name] = value
        if len(given[name]) != n:
            raise InvalidArgument(f"batch.{name}: {len(given[name])} values, expected {n}")
    if columns:
        raise TypeError(f"no such columns: {', '.join(columns)}")
    return Batch(**given)


def validate(batch: Batch, now_ms: int, max_ahead_ms: int, own: bool = False) -> None:
    """Raise InvalidArgument naming the first row, column and value that is not allowed.

    own: the batch is the mesh's own probe, which alone may name reserved ids.
    """
    _refuse(batch, "action", ~IS_KNOWN[batch.action], KNOWN_ACTIONS)
    for column, needed in NEEDS.items():
        values = getattr(batch, column)
        if not values.all():
            _refuse(batch, column, needed[batch.action] & (values == 0), "this action needs one, and 0 is not an id")
    if not batch.id.all():
        _refuse(batch, "id", batch.id == 0, "every event needs its writer's idempotency key, and 0 is none")
    if not own:
        _refuse_reserved(batch)
    _refuse_dates(batch, now_ms, now_ms + max_ahead_ms)
    _refuse(batch, "quality", (batch.quality < 0) | (batch.quality > 1), "0 to 1, or NaN when not stated")
    if not batch.interests.values.all():
        row = int(np.searchsorted(batch.interests.ends, batch.interests.values.argmin(), side="right"))
        raise InvalidArgument(f"batch.interests[{row}]: holds 0, and 0 is not an id")
    _refuse(batch, "stated", batch.stated > STATES_TITLE | STATES_LINK, "1 for a title, 2 for a link, 3 for both, or 0")
    _refuse_fan_out(batch)
    for name, most in MOST.items():
        ragged = getattr(batch, name)
        if len(ragged.values) > most:
            lengths = ragged.lengths()
            if lengths.max() > most:
                row = int(lengths.argmax())
                raise InvalidArgument(f"batch.{name}[{row}]: {lengths[row]} long, at most {most} is allowed")


def _refuse_reserved(batch: Batch) -> None:
    rule = f"ids from {RESERVED_FROM} on are the mesh's own"
    for column in NEEDS:
        _refuse(batch, column, getattr(batch, column) >= np.uint64(RESERVED_FROM), rule)
    reserved = batch.interests.values >= np.uint64(RESERVED_FROM)
    if reserved.any():
        at = int(reserved.argmax())
        row = int(np.searchsorted(batch.interests.ends, at, side="right"))
        raise InvalidArgument(f"batch.interests[{row}]: holds {batch.interests.values[at]}, and {rule}")


def _refuse_fan_out(batch: Batch) -> None:
    """Rows that would become many times as many: one publish must not hold up all others."""
    if (n := int(GOES_EVERYWHERE[batch.action].sum())) > MAX_EVERYWHERE:
        what = f"{n} takedowns and switches of datasets, which go to every partition"
        raise InvalidArgument(f"batch: {what}; at most {MAX_EVERYWHERE} are allowed: send them as several batches")
    if (n := int((batch.action == A.SWITCH_DATASET).sum())) > MAX_SWITCHES:
        raise InvalidArgument(f"batch: {n} switches of datasets; at most {MAX_SWITCHES} are allowed")
    if (n := len(batch.interests.values)) > MAX_JOINS:
        what = f"{n} of all pins, each of which becomes a row of the log"
        raise InvalidArgument(f"batch.interests: {what}; at most {MAX_JOINS} are allowed: send several batches")


def _refuse_dates(batch: Batch, now_ms: int, latest_ms: int) -> None:
    bad = (batch.at_ms < EARLIEST_MS) | (batch.at_ms > latest_ms)
    if bad.any():
        row = int(bad.argmax())
        at_ms = int(batch.at_ms[row])
        meant = "no date" if at_ms == 0 else date_text(at_ms)
        allowed = (
            f"Unix milliseconds of a date from 1970-01-01 to {date_text(latest_ms)}; it is {date_text(now_ms)} now"
        )
        raise InvalidArgument(f"batch.at_ms[{row}] = {at_ms} ({meant}) is not allowed: {allowed}")


def _refuse(batch: Batch, column: str, bad: Array, allowed: str) -> None:
    if bad.any():
        row = int(bad.argmax())
        value = getattr(batch, column)[row]
        action = int(batch.action[row])
        doing = "" if column == "action" else f" (action {Action(action).name.lower()})"
        raise InvalidArgument(f"batch.{column}[{row}] = {value}{doing} is not allowed: {allowed}")
