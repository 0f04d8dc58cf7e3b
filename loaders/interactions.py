"""Arithmetic that the sets share: when something was first used, the most used of each, quality from popularity."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.core.columns import F32, I64, Array, Ragged

DAY_MS = 86_400_000
Ints = NDArray[np.integer[Any]]


def first_use(keys: Ints, uses: Ints, at_ms: I64, default: int) -> I64:
    """int64[len(keys)]: the earliest `at_ms` among the rows of `uses` equal to each key, or `default`.

    `keys` must be sorted and distinct; every value of `uses` that is no key is ignored.
    """
    earliest = np.full(len(keys), np.iinfo(np.int64).max)
    slots = np.minimum(np.searchsorted(keys, uses), max(len(keys) - 1, 0))
    known = keys[slots] == uses if len(keys) else np.zeros(len(uses), bool)
    np.minimum.at(earliest, slots[known], at_ms[known])
    return np.where(earliest == np.iinfo(np.int64).max, default, earliest)


def most_used(owners: Ints, things: Ints, most: int, at_least: int = 1) -> tuple[Array, Array, Array]:
    """The up to `most` things that each owner uses most: (owner, thing, uses), by owner, most used first.

    A thing used less than `at_least` times counts only if it is its owner's first. Ties go to the thing that is used
    more over all, then to the lower id. Ids are below 2**31 (owners) and 2**32 (things).
    """
    pairs, uses = np.unique(owners.astype(np.int64) << 32 | things, return_counts=True)
    owner, thing = pairs >> 32, pairs & 0xFFFFFFFF
    known, total = np.unique(things, return_counts=True)
    overall = total[np.searchsorted(known, thing)]
    order = np.lexsort((thing, -overall, -uses, owner))
    owner, thing, uses = owner[order], thing[order], uses[order]
    rank = rank_in_group(owner)
    keep = (rank < most) & ((uses >= at_least) | (rank == 0))
    return owner[keep], thing[keep], uses[keep]


def rank_in_group(groups: Array) -> I64:
    """int64[n]: the place of each row within its run of equal values (0, 1, 2...); `groups` must be grouped."""
    if not len(groups):
        return np.empty(0, np.int64)
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    return np.arange(len(groups)) - np.repeat(starts, np.diff(np.r_[starts, len(groups)]))


def runs_of(keys: Ints, owners: Ints, values: Array) -> Ragged:
    """For each of `keys` (sorted) the values of the rows it owns, in their order; `owners` must be sorted."""
    starts = np.searchsorted(owners, keys, side="left")
    lengths = np.searchsorted(owners, keys, side="right") - starts
    ends = np.cumsum(lengths)
    rows = np.repeat(starts - (ends - lengths), lengths) + np.arange(lengths.sum())
    return Ragged(ends.astype(np.uint32), values[rows].astype(np.uint64))


def popularity(keys: Ints, uses: Ints) -> F32:
    """float32[len(keys)] in 0..1: log(1 + uses of the key) / log(1 + uses of the most used key)."""
    slots = np.searchsorted(keys, uses)
    counts = np.bincount(slots, minlength=len(keys))[: len(keys)]
    return np.asarray(np.log1p(counts) / np.log1p(max(int(counts.max(initial=0)), 1)), np.float32)
