"""Batches as they came off the wire: looked at without making arrays of them, and joined into one.

A column of many batches is the bytes of all, back to back. So what a small batch costs does not grow with the number of columns
that it leaves out, and one batch is made of hundreds in the time of a few.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from protos import events_pb2 as pb
from services.core.columns import Array, Ragged
from services.core.errors import InvalidArgument
from services.core.events import COLUMNS, NEVER_STATED, RAGGED, Batch

AnyBytes = TypeVar("AnyBytes", bytes, bytearray)
DTYPES = {name: np.dtype(dtype) for name, dtype in COLUMNS.items()}
SIZES = {name: dtype.itemsize for name, dtype in DTYPES.items()}
_RUNS = {name: (values, np.dtype(dtype).itemsize) for name, (dtype, values) in RAGGED.items()}


def unstated(name: str) -> bytes:
    """The value of a column that a row does not state."""
    return NEVER_STATED.tobytes() if name == "quality" else bytes(SIZES[name])


def check_whole(message: pb.Batch) -> None:
    """Raise InvalidArgument, as `Batch.of` does, unless all columns have the batch's length."""
    if not _is_whole(message):
        Batch.of(message)  # which says what is wrong
        raise InvalidArgument("batch: a column has another length")


def _is_whole(message: Any) -> bool:
    n = message.n
    if len(message.action) != n:
        return False
    for field, value in message.ListFields():  # those that are stated
        name = field.name
        size = SIZES.get(name)
        if size is not None:
            if len(value) != n * size:
                return False
        elif name in _RUNS and not _are_runs_whole(value, *_RUNS[name], n):
            return False
    return True


def _are_runs_whole(field: Any, values: str, size: int, n: int) -> bool:
    ends, data = np.frombuffer(field.ends[: len(field.ends) & ~3], "<u4"), getattr(field, values)
    if not field.ends and not data:
        return True
    if len(field.ends) != 4 * n or len(data) % size or (ends[1:] < ends[:-1]).any():
        return False
    return not n or int(ends[-1]) == len(data) // size


def joined_column(messages: Sequence[Any], name: str, into: AnyBytes) -> AnyBytes | None:
    """The bytes of a column of all rows, as `into` has them, which is empty; None when no batch states any."""
    parts = [getattr(message, name) for message in messages]
    if not any(parts):
        return None
    if not all(parts):
        parts = [part or unstated(name) * message.n for part, message in zip(parts, messages, strict=True)]
    return into.join(parts)


def joined_runs(messages: Sequence[Any], name: str) -> Ragged | None:
    """The runs of all rows; None when no batch states any."""
    dtype, values = RAGGED[name]
    if not any(message.HasField(name) for message in messages):
        return None
    parts = []
    for message in messages:
        field = getattr(message, name)
        ends = np.frombuffer(field.ends, "<u4") if field.ends else np.zeros(message.n, np.uint32)
        parts.append(Ragged(ends, np.frombuffer(getattr(field, values), dtype)))
    return Ragged.concat(parts)


def joined(messages: Sequence[pb.Batch]) -> Batch:
    """All rows of batches that `check_whole` let pass, in order."""
    n = sum(message.n for message in messages)
    columns: list[Any] = []
    for name, dtype in DTYPES.items():
        data = joined_column(messages, name, bytearray())  # bytes can't be changed
        columns.append(_of_none(name, n) if data is None else np.frombuffer(data, dtype))
    ends = np.zeros(n, np.uint32)  # of every column of empty runs
    for name, (dtype_, _) in RAGGED.items():
        runs = joined_runs(messages, name)
        columns.append(Ragged(ends, np.empty(0, dtype_)) if runs is None else runs)
    return Batch(*columns)


def _of_none(name: str, n: int) -> Array:
    return np.full(n, NEVER_STATED) if name == "quality" else np.zeros(n, DTYPES[name])
