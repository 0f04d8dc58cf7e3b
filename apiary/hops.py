"""Followed boards as columns, and the merge of several shards' answers, best first. Plain numpy: a client needs no kernels."""

from typing import NamedTuple

import numpy as np

from services.core.columns import F32, I64, U64


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


def merge(found: FollowedBoards, more: Owned, weight: float, limit: int) -> FollowedBoards:
    """`found` with boards that other shards knew of, best first again; of a board that is there twice the best."""
    boards = np.concatenate([found.boards, more.boards])
    weights = np.concatenate([found.weights, np.full(len(more.boards), weight, np.float32)])
    owners, at_ms = np.concatenate([found.owners, more.owners]), np.concatenate([found.at_ms, more.at_ms])
    order = np.lexsort((boards, at_ms, weights))[::-1]
    kept = order[np.sort(np.unique(boards[order], return_index=True)[1])][:limit]
    return FollowedBoards(boards[kept], weights[kept], owners[kept], at_ms[kept])
