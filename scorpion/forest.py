"""Reads LightGBM's model text (`Booster.save_model`) into the flat arrays that `kernel.py` walks.

It believes nothing: a text that is cut short, a child that is no tree's, or a feature that is not there is refused, so
that no model can make a kernel read memory of others.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scorpion import kernel, trees
from scorpion.blocks import blocks_of
from scorpion.kernel import F64, Blocks, Forest
from scorpion.text import sections
from scorpion.trees import Trees, refused, whole
from services.core.columns import F32, I64, Array

_PLAIN = ("regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg", "custom", "none")
_EXP = ("poisson", "gamma", "tweedie")
_TRANSFORMS = {
    **dict.fromkeys(("regression", *_PLAIN), kernel.IDENTITY),
    **dict.fromkeys(_EXP, kernel.EXP),
    **dict.fromkeys(("binary", "multiclassova", "cross_entropy"), kernel.SIGMOID),
    "multiclass": kernel.SOFTMAX,
    "cross_entropy_lambda": kernel.LOG1P_EXP,
}
MAX_TREES, MAX_CLASSES = 100_000, 1_000


@dataclass(frozen=True, slots=True, eq=False)
class ForestModel:
    """A model as LightGBM describes it."""

    forest: Forest
    blocks: Blocks | None  # the same trees, where they fit
    feature_names: tuple[str, ...]
    categorical: frozenset[int]  # features that some split takes as a category
    numerical: frozenset[int]  # features that some split takes as a number
    objective: str  # as the text has it, with its parameters
    classes: int
    average: bool
    transform: int
    sigmoid: float
    leaves: int  # of the largest tree

    @property
    def trees(self) -> int:
        """How many trees it has, of all classes."""
        return len(self.forest.roots)

    def score(self, rows: F32) -> F64:
        """float64[n], or [n, classes] of several classes, for rows float32[n, features], as `Booster.predict` has it."""
        scores = kernel.score(self.forest, self.blocks, rows, self.classes, self.average, self.transform, self.sigmoid)
        return scores[:, 0] if self.classes == 1 else scores


def parse(text: str) -> ForestModel:
    """The model of a text. Raises InvalidArgument saying what is wrong, and in which tree."""
    head, parts = sections(text)
    header = _fields(head)
    names = tuple(_need(header, "feature_names").split())
    classes = whole(header, "num_tree_per_iteration" if "num_tree_per_iteration" in header else "num_class")
    if len(names) != whole(header, "max_feature_idx") + 1:
        raise refused(f"names {len(names)} features, max_feature_idx is {header['max_feature_idx']}")
    if not parts or len(parts) > MAX_TREES or not 1 <= classes <= MAX_CLASSES or len(parts) % classes:
        raise refused(f"has {len(parts)} trees of {classes} classes: expected 1 to {MAX_TREES}, as many of each class")
    found = trees.read([_fields(part) for part in parts], len(names))
    transform, sigmoid = _objective(header.get("objective", "custom"))
    joined, is_category = _joined(found), found.is_category()
    return ForestModel(
        joined,
        blocks_of(joined),
        names,
        frozenset(found.feature[is_category].tolist()),
        frozenset(found.feature[~is_category].tolist()),
        header.get("objective", "custom"),
        classes,
        "average_output" in head.splitlines(),
        transform,
        sigmoid,
        int(found.leaves.max()),
    )


def _fields(part: str) -> dict[str, str]:
    lines = (line.partition("=") for line in part.splitlines() if "=" in line)
    return {name: value for name, _, value in lines}


def _need(fields: Mapping[str, str], name: str) -> str:
    if name not in fields:
        raise refused(f"is no LightGBM model: {name} is missing")
    return fields[name]


def _objective(stated: str) -> tuple[int, float]:
    """(transform, sigmoid) of an objective such as "binary sigmoid:1"."""
    name, *parameters = stated.split() or ["custom"]
    if name not in _TRANSFORMS:
        raise refused(f"objective {name!r} is not known; known are {', '.join(_TRANSFORMS)}")
    if name == "regression" and "sqrt" in parameters:
        return kernel.SIGNED_SQUARE, 1.0
    given = dict(parameter.split(":", 1) for parameter in parameters if ":" in parameter)
    try:
        return _TRANSFORMS[name], float(given.get("sigmoid", 1.0))
    except ValueError:
        raise refused(f"objective {stated!r}: sigmoid is no number") from None


def _joined(of: Trees) -> Forest:
    """One forest; of each tree its splits, then its leaves."""
    tree, number, is_category = of.tree_of(), of.number(), of.is_category()
    nodes = 2 * of.leaves - 1
    roots = np.cumsum(nodes) - nodes
    split_at = roots[tree] + number
    firsts = roots + of.leaves - 1  # of the leaves
    leaf_at = np.repeat(firsts - (np.cumsum(of.leaves) - of.leaves), of.leaves) + np.arange(len(of.leaf))

    def placed(values: Array, elsewhere: float, dtype: type) -> Array:
        every: Array = np.full(int(nodes.sum()), elsewhere, dtype)
        every[split_at] = values
        return every

    kinds = np.where(is_category, kernel.IS_CATEGORY, of.decision >> kernel.MISSING_AT & 3)
    columns, column = np.unique(4 * of.feature + kinds, return_inverse=True)
    chosen = np.where(is_category, of.threshold + (np.cumsum(of.sets) - of.sets)[tree], -1)
    children = np.repeat(np.arange(int(nodes.sum())), 2)  # a leaf is its own child
    for side, child in enumerate((of.left, of.right)):
        children[2 * split_at + side] = np.where(child < 0, firsts[tree] + ~child, roots[tree] + child)
    leaf = np.zeros(int(nodes.sum()))
    leaf[leaf_at] = of.leaf
    bounds, depths = _bounds(of), np.zeros(len(of.leaves), np.int32)
    kernel.find_depths(children, np.append(roots, len(leaf)), depths)
    return Forest(
        (columns // 4).astype(np.int32),
        (columns % 4).astype(np.uint8),
        roots.astype(np.uint32),
        depths,
        placed(column, 0, np.uint32),
        placed(_rounded_down(of.threshold), 0, np.float32),
        placed(of.decision & kernel.DEFAULT_LEFT, 0, np.uint8),
        placed(chosen, -1, np.int32),
        children.astype(np.uint32),
        leaf,
        bounds.astype(np.int32),
        of.words,
    )


def _bounds(of: Trees) -> I64:
    """Where each set of categories begins among the words of all trees, and where the last one ends."""
    has = of.sets > 0
    ends = np.where(has, of.sets + 1, 0)
    before = np.repeat((np.cumsum(of.words_of) - of.words_of)[has], ends[has])
    first = (np.cumsum(ends) - ends)[has]
    return np.append(0, np.delete(of.bounds + before, first))


def _rounded_down(threshold: F64) -> F32:
    """The largest float32 not above each: a float32 is below the one when it is below the other."""
    with np.errstate(over="ignore"):
        near = threshold.astype(np.float32)
    return np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near)
