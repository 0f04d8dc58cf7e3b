"""Published batches as they came: checked, and joined into one group of columns that is appended as one.

A batch stays the message that it came as until its group is appended: then a column is the bytes of all batches of the
group back to back. So what a publish costs does not grow with the number of columns that it leaves out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from protos import events_pb2 as pb
from roadrunner import kernel
from roadrunner.duplicates import keys_of
from services.core.batches import DTYPES, SIZES, joined_column, joined_runs
from services.core.columns import U32, U64, Array, Ragged
from services.core.events import (
    EARLIEST_MS,
    GOES_EVERYWHERE,
    IS_KNOWN,
    MAX_EVERYWHERE,
    MAX_JOINS,
    MOST,
    NEEDS,
    RAGGED,
    RESERVED_FROM,
    STATES_LINK,
    STATES_TITLE,
    Action,
    Batch,
    validate,
)
from services.core.external import refuse_names

_NONE = {dtype: np.frombuffer(b"", dtype) for dtype in DTYPES.values()}  # read-only, as what is read off the wire
_RUNS = [(name, values, np.dtype(dtype).itemsize, MOST[name]) for name, (dtype, values) in RAGGED.items()]
_NEEDS = IS_KNOWN.astype(np.uint8) * np.uint8(kernel.KNOWN)
for _name, _bit in (("user", kernel.USER), ("pin", kernel.PIN), ("board", kernel.BOARD), ("target", kernel.TARGET)):
    _NEEDS |= NEEDS[_name].astype(np.uint8) * np.uint8(_bit)
_NEEDS |= GOES_EVERYWHERE.astype(np.uint8) * np.uint8(kernel.FANS_OUT)
_LAST, _RULED = 2**64 - 1, (bytes([Action.SWITCH_DATASET]), bytes([Action.NAME_ID]))
_CHECKED = ("action", "user", "pin", "board", "target", "id", "at_ms", "quality")


def check(message: pb.Batch, now_ms: int, max_ahead_ms: int, own: bool = False) -> None:
    """Raise InvalidArgument as `Batch.of` and `validate` do, which say what is wrong with a batch that is not fine.

    own: the batch is the mesh's own probe, which alone may name reserved ids.
    """
    if not _is_fine(message, now_ms + max_ahead_ms, _LAST if own else RESERVED_FROM):
        batch = Batch.of(message)
        validate(batch, now_ms, max_ahead_ms, own)
        refuse_names(batch)


def _is_fine(message: Any, latest_ms: int, reserved: int) -> bool:
    n = message.n
    if len(message.action) != n or any(action in message.action for action in _RULED):  # rare, with rules of their own
        return False
    for name, size in SIZES.items():
        if len(getattr(message, name)) not in (0, n * size):
            return False
    columns: list[Any] = [_array(getattr(message, name), DTYPES[name]) for name in _CHECKED]
    if n and not kernel.allowed(EARLIEST_MS, latest_ms, np.uint64(reserved), MAX_EVERYWHERE, _NEEDS, *columns):
        return False
    if message.stated and int(_array(message.stated, DTYPES["stated"]).max()) > STATES_TITLE | STATES_LINK:
        return False
    for name, values, size, most in _RUNS:
        if message.HasField(name) and not _are_runs_fine(name, getattr(message, name), values, size, n, most, reserved):
            return False
    return True


def _are_runs_fine(name: str, field: Any, values: str, size: int, n: int, most: int, reserved: int) -> bool:
    ends, data = field.ends, getattr(field, values)
    if len(ends) != 4 * n or len(data) % size:
        return False
    if name == "interests":
        interests = np.frombuffer(data, "<u8")
        if len(interests) > MAX_JOINS or not interests.all() or bool((interests >= np.uint64(reserved)).any()):
            return False
    return kernel.runs_allowed(np.frombuffer(ends, "<u4"), len(data) // size, most)


def _array(data: bytes, dtype: Any) -> Array:
    return np.frombuffer(data, dtype) if data else _NONE[dtype]


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of several batches, one after the other. `columns` and `runs` leave out what none of them states."""

    rows: int
    publish: Array  # int64[rows]: which batch each row came with
    columns: dict[str, Array]
    runs: dict[str, Ragged]

    @staticmethod
    def of(
        messages: Sequence[pb.Batch], columns: Sequence[str] = tuple(DTYPES), runs: Sequence[str] = tuple(RAGGED)
    ) -> "Group":
        """Those columns of batches that `check` let pass."""
        fixed = {}
        for name in columns:
            data = joined_column(messages, name, b"")
            if data is not None:
                fixed[name] = np.frombuffer(data, DTYPES[name])
        stated = {name: found for name in runs if (found := joined_runs(messages, name)) is not None}
        for found in stated.values():
            for column in (found.ends, found.values):
                column.setflags(write=False)  # kernels are compiled for columns that are only read
        sizes = [message.n for message in messages]
        return Group(sum(sizes), np.repeat(np.arange(len(sizes)), sizes), fixed, stated)

    def column(self, name: str) -> Array:
        """A column, of zeros if no batch states it."""
        column = self.columns.get(name)
        return np.frombuffer(bytes(SIZES[name] * self.rows), DTYPES[name]) if column is None else column

    @property
    def keys(self) -> U64:
        """By which an event is accepted once."""
        return keys_of(self.column("id"), self.column("writer"), self.column("user"))

    @property
    def interests(self) -> tuple[U32, U64]:
        """Ends and values of the rows' interests, empty if no batch states any."""
        runs = self.runs.get("interests")
        return (runs.ends, runs.values) if runs else (_NONE[DTYPES["count"]], _NONE[DTYPES["pin"]])
