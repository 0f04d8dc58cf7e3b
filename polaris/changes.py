"""Events as changes to posting lists: which lists they change, the new rows of each, and when a list is frozen.

Events about a board itself change its list too. The log leaves out events that do not hold (`services/core/boards.py`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from polaris import layout
from polaris.layout import BOARD, CREATED, DELETED, FROZEN, HEAD, INTEREST, PUT, REMOVE, PostingRows, Sources
from services.core.checks import check_ends, check_lengths
from services.core.columns import I64, Array
from services.core.events import Action, Batch
from services.kernels.bloom import read_only
from services.kernels.jit import kernel

A = Action
_KIND = np.zeros(256, np.uint8)
_KIND[[A.SAVE, A.UNSAVE, A.CREATE_BOARD, A.DELETE_BOARD]] = BOARD
_KIND[[A.JOIN_INTEREST, A.LEAVE_INTEREST]] = INTEREST
_CHANGE = np.full(256, REMOVE, np.uint8)
_CHANGE[[A.SAVE, A.JOIN_INTEREST]] = PUT
_CHANGE[A.CREATE_BOARD], _CHANGE[A.DELETE_BOARD] = CREATED, DELETED


class ListChanges(NamedTuple):
    """Events by source, in the order of arrival: the sources and their partitions (int64), their heads' and frozen parts' keys,
    their new rows, and the record that each row came in (int64, ascending within a source).
    """

    sources: Sources
    partitions: I64
    heads: list[bytes]
    frozen: list[bytes]
    rows: PostingRows
    records: I64


class Freezes(NamedTuple):
    """When lists are frozen. int64[f] each: the source, the row of `ListChanges` before which its head ends then, the record
    of the last row in it, and how often the source was frozen before, by these changes.
    """

    source: I64
    stop: I64
    record: I64
    turn: I64

    def take(self, rows: Array) -> "Freezes":
        """Some of them."""
        return Freezes(*(column[rows] for column in self))


def freezes_of(changes: ListChanges, heads: Sequence[bytes], limit: int) -> Freezes:
    """When the lists are frozen, whose heads were these before: after the first record with which a head is longer than `limit`
    rows, or with which its board was deleted: little is left of it.
    """
    check_lengths(len(changes.rows.ends), heads=heads)
    check_lengths(len(changes.rows.pins), changes=changes.rows.changes, records=changes.records)
    check_ends(changes.rows.ends, len(changes.rows.pins))
    lengths = np.fromiter(map(len, heads), np.int64, len(heads)) // layout.ROW_BYTES
    rows = changes.rows
    found = np.empty((4, len(rows.pins)), np.int64)
    of = read_only(rows.ends, np.int64), read_only(rows.changes, np.uint8), read_only(changes.records, np.int64)
    n = _freezes(*of, read_only(lengths, np.int64), limit, *found)
    return Freezes(*found[:, :n])


@kernel
def _freezes(
    ends: Any, changes: Any, records: Any, lengths: Any, limit: Any, source: Any, stop: Any, record: Any, turn: Any
) -> Any:
    n = start = 0
    for list_ in range(len(ends)):
        length, deleted, times, end = lengths[list_], False, 0, ends[list_]
        for row in range(start, end):
            length += 1
            deleted = deleted or changes[row] == DELETED
            is_last = row + 1 == end or records[row + 1] != records[row]
            if is_last and (deleted or length > limit):
                source[n], stop[n], record[n], turn[n] = list_, row + 1, records[row], times
                n += 1
                times += 1
                length, deleted = 0, False
        start = end
    return n


def changes_of(batch: Batch, partition: Array, record: I64) -> ListChanges:
    """The events of a batch that change lists, by source: those of one source lie in one partition. record: int64[n], ascending
    within a partition: the record that each came in. Raises ValueError when the events of a source lie in several.
    """
    check_lengths(len(batch), partition=partition, record=record)
    kinds = _KIND[batch.action]
    at = np.flatnonzero(kinds)
    sources = np.where(kinds[at] == BOARD, batch.board[at], batch.target[at])
    order = np.lexsort((kinds[at], sources))  # stable: the order of arrival within a source
    at, sources = at[order], sources[order]
    kinds, changes = kinds[at], _CHANGE[batch.action[at]]
    new = np.append(True, (sources[1:] != sources[:-1]) | (kinds[1:] != kinds[:-1]))[: len(at)]
    first = np.flatnonzero(new)
    source = np.cumsum(new) - 1
    ends = np.cumsum(np.bincount(source, minlength=len(first)))
    elsewhere = partition[at] != partition[at[first]][source]
    if elsewhere.any():
        raise ValueError(f"partition: source {sources[elsewhere][0]} has events in several")
    changed = Sources(kinds[first], sources[first])
    where = (partition[at[first]], *changed)
    pins = np.where(changes < DELETED, batch.pin[at], np.uint64(0))
    return ListChanges(
        changed,
        partition[at[first]],
        layout.list_keys(*where, HEAD),
        layout.list_keys(*where, FROZEN),
        PostingRows(pins, batch.at_ms[at], batch.quality[at], changes, ends),
        record[at],
    )
