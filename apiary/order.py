"""The results of reads, put in order by kernels: the newest follows, and the boards of both hops, best first."""

from typing import NamedTuple

import numpy as np

from apiary import kernel
from apiary.hops import FollowedBoards, Owned
from apiary.layout import Entries
from services.core.checks import check_ends, check_lengths
from services.core.columns import I64, U64


class Newest(NamedTuple):
    """The follows of a user: users, then boards from `users` on, then interests from `boards` on, to `interests`; each
    newest first, the higher id first among equals.
    """

    ids: U64
    at_ms: I64
    users: int
    boards: int
    interests: int


def newest(entries: Entries, limit: int) -> Newest:
    """The `limit` newest of each kind. Raises ValueError for columns of unequal lengths."""
    check_lengths(len(entries.ids), kinds=entries.kinds, at_ms=entries.at_ms)
    ids, at_ms, ends = kernel.newest(*entries, limit)
    return Newest(ids, at_ms, *ends.tolist()[1:])


def newest_of_each(owners: U64, boards: U64, at_ms: I64, ends: I64, limit: int) -> Owned:
    """The `limit` newest boards of each owner. boards, at_ms: back to back, those of owner i end at ends[i].

    Raises ValueError for columns whose lengths do not fit.
    """
    check_lengths(len(boards), at_ms=at_ms)
    check_lengths(len(owners), ends=ends)
    check_ends(ends, len(boards))
    counts, rows = kernel.newest_of_each(at_ms, ends, limit)
    return Owned(counts, boards[rows], owners.repeat(counts), at_ms[rows])


def best(
    direct: U64, direct_at_ms: I64, direct_weight: float, owned: Owned, weight: float, limit: int
) -> FollowedBoards:
    """Direct boards and those of followed users as one list; a board that is both counts as what weighs more.

    Raises ValueError for columns of unequal lengths.
    """
    check_lengths(len(direct), direct_at_ms=direct_at_ms)
    check_lengths(len(owned.boards), owners=owned.owners, at_ms=owned.at_ms)
    weights = np.full(len(direct) + len(owned.boards), weight, np.float32)
    weights[: len(direct)] = direct_weight
    return FollowedBoards(
        *kernel.best(
            np.concatenate([direct, owned.boards]),
            weights,
            np.concatenate([np.zeros(len(direct), np.uint64), owned.owners]),
            np.concatenate([direct_at_ms, owned.at_ms]),
            limit,
        )
    )
