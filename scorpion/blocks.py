"""A forest laid out for blocks of rows, as QuickScorer and RapidScorer have it (Lucchese et al., SIGIR 2015; Ye et al.,
KDD 2018); `kernel.py` scores with it.

The leaves of a tree are numbered, a bit each, so that of the two subtrees of a split the smaller comes first. A split
that sends a row to its larger subtree takes the bits of the smaller away, whatever the other splits say; when all have
been asked, the lowest bit that is left is the leaf the row ends in. So there is nothing to follow, only lists: for each
tree and each 8 of its leaves the splits that take some of them away, as a column, a rank and a mask. A value's rank is
how many of its column's thresholds it is above; ranks are bytes, and as many rows as registers hold are compared at once.

A column is one of a forest's prepared columns with one direction for missing values, since splits differ in that; a set
of categories is a column of its own, of rank 0 within the set and 1 outside. Each column has its ranks twice: as they
are, for the splits that take their left away from rows above, and as 255 - rank, where those that take their right
away from rows not above ask the same question.
"""

import numpy as np

from scorpion.kernel import F64, MISSING_NONE, Blocks, Forest
from services.core.columns import I64, U8, Array
from services.kernels.jit import kernel

MAX_LEAVES, MAX_THRESHOLDS = 64, 255
_LEAST_STEPS = 3  # of the search of a rank, as `simd.py` has it


def blocks_of(forest: Forest) -> Blocks | None:
    """The forest in blocks; None when a tree has more than 64 leaves, or a column more than 255 thresholds."""
    roots = forest.roots.astype(np.int64)
    ends = np.append(roots[1:], len(forest.leaf))
    most = int((ends - roots).max() + 1) // 2
    columns = _Columns(forest)
    if most > MAX_LEAVES or columns.most > MAX_THRESHOLDS:
        return None
    width = -(-most // 8)
    children, bounds = forest.children.astype(np.int64), np.append(roots, len(forest.leaf))
    first, last = np.zeros(len(forest.leaf), np.int64), np.zeros(len(forest.leaf), np.int64)
    flipped, leaves = np.zeros(len(forest.leaf), np.uint8), np.zeros((len(roots), 8 * width))
    _number(children, bounds, forest.leaf, first, last, flipped, leaves)
    splits = columns.splits
    column = 2 * columns.of + flipped[splits]
    rank = np.where(flipped[splits] > 0, MAX_THRESHOLDS - 1 - columns.rank, columns.rank)
    tree = np.searchsorted(bounds, splits, "right") - 1
    byte, split, mask = _bytes(first[splits], last[splits])
    slot = tree[split] * width + byte
    order = np.argsort(slot, kind="stable")
    split = split[order]
    entry_ends = np.concatenate([[0], np.cumsum(np.bincount(slot, minlength=len(roots) * width))])
    return Blocks(
        *columns.layout,  # type: ignore[call-arg]
        column[split].astype(np.int32),
        rank[split].astype(np.uint8),
        mask[order],
        entry_ends.astype(np.int64),
        leaves,
    )


def _bytes(first: I64, last: I64) -> tuple[I64, I64, U8]:
    """For each byte of leaves that first..last (int64[s] each) reach into: the byte, its split, the leaves that stay."""
    low, high = first // 8, (last - 1) // 8
    of = np.repeat(np.arange(len(first)), high - low + 1)
    byte = np.arange(len(of)) - np.repeat(np.cumsum(high - low + 1) - (high - low + 1), high - low + 1) + low[of]
    begin, end = np.clip(first[of] - 8 * byte, 0, 8), np.clip(last[of] - 8 * byte, 0, 8)
    return byte, of, (0xFF ^ ((1 << end) - (1 << begin))).astype(np.uint8)


@kernel
def _number(children: I64, bounds: I64, leaf: F64, first: I64, last: I64, flipped: U8, leaves: F64) -> None:
    """Number the leaves of each tree, the smaller subtree of each split first.

    Written: of each split the leaves of its smaller subtree (first, past the last), whether that is the right one, and
    `leaves`, the values of each tree in that order. A split stands before its children.
    """
    size, start = np.ones(len(leaf), np.int64), np.zeros(len(leaf), np.int64)
    for tree in range(len(bounds) - 1):
        for node in range(bounds[tree + 1] - 1, bounds[tree] - 1, -1):
            if children[2 * node] != node:
                size[node] = size[children[2 * node]] + size[children[2 * node + 1]]
        for node in range(bounds[tree], bounds[tree + 1]):
            smaller, larger = children[2 * node], children[2 * node + 1]
            if smaller == node:
                leaves[tree, start[node]] = leaf[node]
                continue
            if size[larger] < size[smaller]:
                smaller, larger, flipped[node] = larger, smaller, 1
            start[smaller], start[larger] = start[node], start[node] + size[smaller]
            first[node], last[node] = start[node], start[larger]


class _Columns:
    """Which column each split of a forest asks, and the rank it compares with there."""

    def __init__(self, forest: Forest) -> None:
        self.splits = splits = np.flatnonzero(forest.children[::2] != np.arange(len(forest.leaf)))
        category = forest.category[splits].astype(np.int64)
        prepared = forest.column[splits].astype(np.int64)
        left = np.where(forest.missing[prepared] == MISSING_NONE, 0, forest.default_left[splits]).astype(np.int64)
        key = (category + 1) << 32 | prepared << 1 | np.where(category >= 0, 0, left > 0)
        found, self.of = np.unique(key, return_inverse=True)
        thresholds = np.where(category >= 0, np.float32(0), forest.threshold[splits])
        order = np.lexsort((thresholds, self.of))
        of, values = self.of[order], thresholds[order]
        new_column = np.append(True, of[1:] != of[:-1])[: len(of)]
        new = new_column | np.append(True, values[1:] != values[:-1])[: len(of)]
        dense = np.cumsum(new) - 1  # of each (column, threshold)
        within = dense - dense[new_column][of] if len(of) else dense
        self.rank = np.empty(len(splits), np.int64)
        self.rank[order] = within
        counts = np.bincount(of[new], minlength=len(found))
        self.most = int(counts.max(initial=0))
        self.layout = self._layout(found, counts, of[new], within[new], values[new])

    @staticmethod
    def _layout(found: I64, counts: I64, of: I64, within: I64, values: Array) -> tuple[Array, ...]:
        steps = np.array([max(_LEAST_STEPS, int(n).bit_length()) for n in counts.tolist()], np.int64)
        starts = np.concatenate([[0], np.cumsum(1 << steps)]).astype(np.int64)
        padded = np.full(starts[-1], np.inf, np.float32)
        padded[starts[of] + within] = values
        category = (found >> 32) - 1
        return (found & 0xFFFFFFFF) >> 1, (found & 1).astype(np.uint8), category.astype(np.int32), starts, steps, padded
