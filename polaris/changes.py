"""Events as changes to posting lists: which lists they change, and the new rows of each. Plain numpy."""

from typing import NamedTuple

import numpy as np

from polaris import layout
from polaris.layout import BOARD, FROZEN, HEAD, INTEREST, PUT, REMOVE, Rows, Sources
from services.columns import Array
from services.events import Action, Batch, flags

A = Action
_KIND = np.zeros(256, np.uint8)
_KIND[[A.SAVE, A.UNSAVE, A.DELETE_BOARD]] = BOARD
_KIND[[A.JOIN_INTEREST, A.LEAVE_INTEREST]] = INTEREST
_PUTS = flags(A.SAVE, A.JOIN_INTEREST)


class Changes(NamedTuple):
    """Events by source, in the order of arrival: the sources, their heads' and frozen parts' keys, and their new rows."""

    sources: Sources
    heads: list[bytes]
    frozen: list[bytes]
    rows: Rows
    deleted: Array  # int64: the sources that were deleted; their rows are those after the last deletion


def changes_of(batch: Batch, partition: Array) -> Changes:
    """The events of a batch that change lists, by source: those of one source lie in one partition."""
    kinds = _KIND[batch.action]
    at = np.flatnonzero(kinds)
    sources = np.where(kinds[at] == BOARD, batch.board[at], batch.target[at])
    order = np.lexsort((kinds[at], sources))  # stable: the order of arrival within a source
    at, sources = at[order], sources[order]
    kinds, action = kinds[at], batch.action[at]
    new = np.append(True, (sources[1:] != sources[:-1]) | (kinds[1:] != kinds[:-1]))[: len(at)]
    first = np.flatnonzero(new)
    source = np.cumsum(new) - 1
    kept, deleted = _after_deletions(action == A.DELETE_BOARD, source)
    ends = np.cumsum(np.bincount(source[kept], minlength=len(first)))
    changed = Sources(kinds[first], sources[first])
    where = (partition[at[first]], *changed)
    at = at[kept]
    changes = np.where(_PUTS[batch.action[at]], PUT, REMOVE).astype(np.uint8)
    return Changes(
        changed,
        layout.list_keys(*where, HEAD),
        layout.list_keys(*where, FROZEN),
        Rows(batch.pin[at], batch.at_ms[at], batch.quality[at], changes, ends),
        deleted,
    )


def _after_deletions(deletion: Array, source: Array) -> tuple[Array, Array]:
    """bool[e]: which events come after the last deletion of their source, if any; the sources deleted, ascending."""
    if not deletion.any():
        return np.ones(len(deletion), bool), np.empty(0, np.int64)
    row = np.arange(len(deletion))
    last = np.full(int(source[-1]) + 1, -1)
    np.maximum.at(last, source[deletion], row[deletion])
    return row > last[source], np.flatnonzero(last >= 0)
