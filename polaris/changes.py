"""Events as changes to posting lists: which lists they change, and the new rows of each. Plain numpy.

What is said of a board itself changes its list too. The log leaves out what does not hold (`services/core/boards.py`).
"""

from typing import NamedTuple

import numpy as np

from polaris import layout
from polaris.layout import BOARD, CREATED, DELETED, FROZEN, HEAD, INTEREST, PUT, REMOVE, Rows, Sources
from services.core.columns import Array
from services.core.events import Action, Batch

A = Action
_KIND = np.zeros(256, np.uint8)
_KIND[[A.SAVE, A.UNSAVE, A.CREATE_BOARD, A.DELETE_BOARD]] = BOARD
_KIND[[A.JOIN_INTEREST, A.LEAVE_INTEREST]] = INTEREST
_CHANGE = np.full(256, REMOVE, np.uint8)
_CHANGE[[A.SAVE, A.JOIN_INTEREST]] = PUT
_CHANGE[A.CREATE_BOARD], _CHANGE[A.DELETE_BOARD] = CREATED, DELETED


class Changes(NamedTuple):
    """Events by source, in the order of arrival: the sources, their heads' and frozen parts' keys, and their new rows."""

    sources: Sources
    heads: list[bytes]
    frozen: list[bytes]
    rows: Rows
    deleted: Array  # int64, ascending: the sources that were deleted


def changes_of(batch: Batch, partition: Array) -> Changes:
    """The events of a batch that change lists, by source: those of one source lie in one partition."""
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
    changed = Sources(kinds[first], sources[first])
    where = (partition[at[first]], *changed)
    pins = np.where(changes < DELETED, batch.pin[at], np.uint64(0))
    return Changes(
        changed,
        layout.list_keys(*where, HEAD),
        layout.list_keys(*where, FROZEN),
        Rows(pins, batch.at_ms[at], batch.quality[at], changes, ends),
        np.unique(source[changes == DELETED]),
    )
