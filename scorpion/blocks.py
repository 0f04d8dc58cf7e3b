"""A forest laid out for blocks of 64 rows, as QuickScorer and RapidScorer have it (Lucchese et al., SIGIR 2015; Ye et
al., KDD 2018); `kernel.py` scores with it.

The leaves of a tree are numbered from left to right, a bit each. A split that a row does not pass to the left takes the
bits of its left subtree away, whatever the other splits say; when all have been asked, the lowest bit that is left is
the leaf the row ends in. So there is nothing to follow, only lists: for each tree and each 8 of its leaves the splits
that take some of them away, as a column, a rank and a mask. A value's rank is how many of its column's thresholds it is
above; ranks are bytes, and 64 rows are compared at once.

A column is one of a forest's prepared columns with one direction for missing values, since splits differ in that; a set
of categories is a column of its own, of rank 0 within the set and 1 outside.
"""

from itertools import pairwise

import numpy as np

from scorpion.kernel import MISSING_NONE, Blocks, Forest
from services.columns import F32, I64, Array

MAX_LEAVES, MAX_THRESHOLDS = 64, 255
_Split = tuple[int, int, int]  # its node, and the leaves of its left subtree: first, past the last


def blocks_of(forest: Forest) -> Blocks | None:
    """The forest in blocks; None when a tree has more than 64 leaves, or a column more than 255 thresholds."""
    children = forest.children.tolist()
    trees = [_in_order(children, root) for root in forest.roots.tolist()]
    most = max(len(leaves) for _, leaves in trees)
    columns = _Columns(forest)
    if most > MAX_LEAVES or columns.most > MAX_THRESHOLDS:
        return None
    width = -(-most // 8)
    entries: list[tuple[int, int, int]] = []  # column, rank, mask
    ends = [0]
    for splits, _ in trees:
        for byte in range(width):
            for node, first, last in splits:
                gone = _bits(first - 8 * byte, last - 8 * byte)
                if gone:
                    entries.append((columns.of[node], columns.rank[node], ~gone & 0xFF))
            ends.append(len(entries))
    values = np.zeros((len(trees), 8 * width))
    for tree, (_, leaves) in enumerate(trees):
        values[tree, : len(leaves)] = forest.leaf[leaves]
    column, rank, mask = np.array(entries, np.int64).reshape(-1, 3).T
    return Blocks(
        *columns.layout,
        column.astype(np.int32),
        rank.astype(np.uint8),
        mask.astype(np.uint8),
        np.array(ends, np.int64),
        values,
    )


def _bits(first: int, last: int) -> int:
    """The bits first..last, as far as they are of one byte."""
    low, high = max(first, 0), min(last, 8)
    return (1 << high) - (1 << low) if low < high else 0


def _in_order(children: list[int], root: int) -> tuple[list[_Split], list[int]]:
    """The splits of a tree with the leaves that each has to its left, and its leaves from left to right."""
    splits: list[_Split] = []
    leaves: list[int] = []
    waiting = [(root, -1)]  # a node to visit, or a split whose left subtree is done, with its first leaf
    while waiting:
        node, first = waiting.pop()
        left, right = children[2 * node], children[2 * node + 1]
        if first >= 0:
            splits.append((node, first, len(leaves)))
        elif left == node:
            leaves.append(node)
        else:
            waiting += [(right, -1), (node, len(leaves)), (left, -1)]
    return splits, leaves


class _Columns:
    """Which column each node of a forest asks, and the rank it compares with there."""

    def __init__(self, forest: Forest) -> None:
        splits = np.flatnonzero(forest.children[::2] != np.arange(len(forest.leaf)))
        category = forest.category[splits].astype(np.int64)
        prepared = forest.column[splits].astype(np.int64)
        left = np.where(forest.missing[prepared] == MISSING_NONE, 0, forest.default_left[splits])
        keys = np.stack([prepared, np.where(category >= 0, 0, left), category], axis=1)
        found, which = np.unique(keys, axis=0, return_inverse=True)
        which = which.ravel()
        thresholds = [self._thresholds(forest.threshold[splits][which == i], found[i, 2]) for i in range(len(found))]
        ends = np.cumsum([0, *(len(values) for values in thresholds)], dtype=np.int64)
        every = np.concatenate([np.empty(0, np.float32), *thresholds])
        self.most = max((len(values) for values in thresholds), default=0)
        self.layout = (found[:, 0], found[:, 1].astype(np.uint8), found[:, 2].astype(np.int32), ends, every)
        self.of, self.rank = _per_node(forest, splits, which), _per_node(forest, splits, np.zeros(len(splits)))
        for i, (start, end) in enumerate(pairwise(ends.tolist())):
            nodes = splits[which == i]
            self.rank[nodes] = np.searchsorted(every[start:end], forest.threshold[nodes])

    @staticmethod
    def _thresholds(values: F32, category: int) -> F32:
        return np.empty(0, np.float32) if category >= 0 else np.unique(values)


def _per_node(forest: Forest, splits: I64, values: Array) -> I64:
    every = np.zeros(len(forest.leaf), np.int64)
    every[splits] = values
    return every
