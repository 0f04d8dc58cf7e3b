"""Followed boards as columns: the direct ones and those of followed users, combined best first. Plain numpy."""

from typing import NamedTuple

import numpy as np

from services.columns import F32, I64, U64, Array


class Owned(NamedTuple):
    """Boards of owners: counts[i] of owner i, back to back. counts: int64[n]; boards, owners, at_ms: [m]."""

    counts: I64
    boards: U64
    owners: U64
    at_ms: I64


class FollowedBoards(NamedTuple):
    """n boards, best weight first, then newest, then by id. owners: the followed user through whom; 0: direct."""

    boards: U64
    weights: F32
    owners: U64
    at_ms: I64


def newest(ids: U64, at_ms: I64, limit: int) -> Array:
    """Rows of the `limit` newest, newest first; the higher id first among equals. int64[min(n, limit)]."""
    return np.lexsort((ids, at_ms))[::-1][:limit]


def newest_of_each(owners: U64, boards: U64, at_ms: I64, ends: I64, limit: int) -> Owned:
    """The `limit` newest boards of each owner. boards, at_ms: back to back, those of owner i end at ends[i]."""
    counts = ends.copy()
    counts[1:] -= ends[:-1]
    if counts.max(initial=0) <= limit:
        return Owned(counts, boards, owners.repeat(counts), at_ms)
    owner = np.repeat(np.arange(len(owners)), counts)
    order = np.lexsort((boards, at_ms, owner))[::-1]  # the last owner first, and of each its newest first
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts[::-1]) - counts[::-1], counts[::-1])
    kept = np.sort(order[rank < limit])
    return Owned(np.bincount(owner[kept], minlength=len(owners)), boards[kept], owners[owner[kept]], at_ms[kept])


def best(
    direct: U64, direct_at_ms: I64, direct_weight: float, owned: Owned, weight: float, limit: int
) -> FollowedBoards:
    """Direct boards and those of followed users as one list; a board that is both counts as what weighs more."""
    boards = np.concatenate([direct, owned.boards])
    weights = np.repeat(np.array([direct_weight, weight], np.float32), [len(direct), len(owned.boards)])
    owners = np.concatenate([np.zeros(len(direct), np.uint64), owned.owners])
    at_ms = np.concatenate([direct_at_ms, owned.at_ms])
    return _best(boards, weights, owners, at_ms, limit)


def merge(found: FollowedBoards, more: Owned, weight: float, limit: int) -> FollowedBoards:
    """`found` with boards that other shards knew of, best first again."""
    return _best(
        np.concatenate([found.boards, more.boards]),
        np.concatenate([found.weights, np.full(len(more.boards), weight, np.float32)]),
        np.concatenate([found.owners, more.owners]),
        np.concatenate([found.at_ms, more.at_ms]),
        limit,
    )


def _best(boards: U64, weights: F32, owners: U64, at_ms: I64, limit: int) -> FollowedBoards:
    order = np.lexsort((boards, at_ms, weights))[::-1]
    ascending = np.sort(boards)
    if (ascending[1:] == ascending[:-1]).any():
        order = order[np.sort(np.unique(boards[order], return_index=True)[1])]
    kept = order[:limit]
    return FollowedBoards(boards[kept], weights[kept], owners[kept], at_ms[kept])
