"""A forest cut to one user: the cost of scoring when splits by the user's features are decided before, not once a row
(docs/decisions/0022-whole-forest-raw-rows.md). The cutting itself is plain Python, and not timed.
"""

from dataclasses import replace

import numpy as np

from scorpion import forest, trees
from scorpion.blocks import blocks_of
from scorpion.forest import ForestModel
from services.core.columns import F32


def cut(text: str, user: F32) -> ForestModel:
    """The model of a text for rows that begin with these values (float32[u], none missing); no split takes a category."""
    whole, parts = forest.parse(text), text.partition("\nend of trees")[0].split("\nTree=")[1:]
    of = trees.read([forest._fields(part) for part in parts], len(whole.feature_names))
    leaves: list[int] = []  # of each tree
    leaf: list[float] = []
    splits: list[tuple[int, int, int]] = []  # which it was, left, right

    def kept(child: int, split_at: int, leaf_at: int, first: tuple[int, int]) -> int:
        """The rest of a child of a tree whose first split and leaf were split_at and leaf_at, and now are `first`."""
        if child < 0:
            leaf.append(float(of.leaf[leaf_at + ~child]))
            return ~(len(leaf) - 1 - first[1])
        at = split_at + child
        if (feature := of.feature[at]) < len(user):
            side = of.left if user[feature] <= of.threshold[at] else of.right
            return kept(int(side[at]), split_at, leaf_at, first)
        here = len(splits)
        splits.append((at, 0, 0))
        left, right = (kept(int(side[at]), split_at, leaf_at, first) for side in (of.left, of.right))
        splits[here] = at, left, right
        return here - first[0]

    split_at = leaf_at = 0
    for n in of.leaves.tolist():
        before = len(leaf)
        kept(0 if n > 1 else ~0, split_at, leaf_at, (len(splits), before))
        leaves.append(len(leaf) - before)
        split_at, leaf_at = split_at + n - 1, leaf_at + n
    was, left, right = (np.array(column, np.int64) for column in zip(*splits, strict=True))
    joined = forest._joined(
        replace(
            of, leaves=np.array(leaves, np.int64), leaf=np.array(leaf), left=left, right=right,
            feature=of.feature[was], threshold=of.threshold[was], decision=of.decision[was],
        )
    )  # fmt: skip
    return replace(whole, forest=joined, blocks=blocks_of(joined), leaves=max(leaves))
