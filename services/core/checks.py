"""Checks of columns before kernels and stores index by them: lengths, order and partitions, once a call. A kernel indexes
without a look at bounds, and would read memory that lies beyond.
"""

from collections.abc import Sized

import numpy as np

from services.core.columns import I64, U32, U64, Array
from services.core.topics import partition_of


def check_lengths(n: int, **columns: Sized) -> None:
    """Raises ValueError naming the first of these columns that has not n rows."""
    for name, column in columns.items():
        if len(column) != n:
            raise ValueError(f"{name}: {len(column)} rows, expected {n}")


def check_ends(ends: I64 | U32, n: int) -> None:
    """Raises ValueError unless lists back to back, which end at `ends` (int[s], not descending), have n rows in sum."""
    last = int(ends[-1]) if len(ends) else 0
    if last != n:
        raise ValueError(f"ends: the last list ends at row {last}, expected {n}")
    if len(ends) and (ends[0] < 0 or (ends[1:] < ends[:-1]).any()):
        at = int(np.argmax(np.append(ends[0] < 0, ends[1:] < ends[:-1])))
        raise ValueError(f"ends: list {at} ends at row {ends[at]}, before it begins")


def check_shapes(shape: tuple[int, ...], **columns: Array) -> None:
    """Raises ValueError naming the first of these columns that has another shape."""
    for name, column in columns.items():
        if column.shape != shape:
            raise ValueError(f"{name}: shape {column.shape}, expected {shape}")


def check_ascending(**columns: Array) -> None:
    """Raises ValueError naming the first of these columns whose values do not ascend, each above the one before."""
    for name, column in columns.items():
        if len(column) > 1 and not (column[1:] > column[:-1]).all():
            at = int(np.argmin(column[1:] > column[:-1])) + 1
            raise ValueError(f"{name}: row {at} is {column[at]}, not above {column[at - 1]} before it")


def check_partitions(partition: Array, keys: U64, partitions: int) -> None:
    """Raises ValueError naming the first of uint64[n] keys that is not of its partition (int[n]) of so many."""
    check_lengths(len(keys), partition=partition)
    wrong = partition_of(keys, partitions) != partition
    if wrong.any():
        at = int(np.argmax(wrong))
        raise ValueError(f"partition: key {keys[at]} is in {partition[at]}, not where {partitions} partitions have it")
