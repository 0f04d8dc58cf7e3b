"""Reads LightGBM's model text (`Booster.save_model`) into the flat arrays that `kernel.py` walks.

It believes nothing: a text that is cut short, a child that is no tree's, or a feature that is not there is refused, so
that no model can make a kernel read what is not its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from scorpion import kernel
from scorpion.blocks import blocks_of
from scorpion.kernel import CATEGORY, F64, Blocks, Forest
from services.columns import F32, Array
from services.errors import InvalidArgument

_PLAIN = ("regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg", "custom", "none")
_EXP = ("poisson", "gamma", "tweedie")
_TRANSFORMS = {
    **dict.fromkeys(("regression", *_PLAIN), kernel.IDENTITY),
    **dict.fromkeys(_EXP, kernel.EXP),
    **dict.fromkeys(("binary", "multiclassova", "cross_entropy"), kernel.SIGMOID),
    "multiclass": kernel.SOFTMAX,
    "cross_entropy_lambda": kernel.LOG1P_EXP,
}
MAX_TREES, MAX_LEAVES, MAX_CLASSES = 100_000, 1 << 17, 1_000


@dataclass(frozen=True, slots=True, eq=False)
class Model:
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


@dataclass(slots=True, eq=False)
class _Tree:
    """One tree; children below 0 are its own leaves."""

    leaf: F64
    feature: Array
    threshold: F64
    decision: Array
    left: Array
    right: Array
    bounds: Array
    words: Array


def parse(text: str) -> Model:
    """The model of a text. Raises InvalidArgument saying what is wrong, and in which tree."""
    body, end, _ = text.partition("\nend of trees")
    if not end:
        raise _bad("is cut short: the line 'end of trees' is missing")
    head, *parts = body.split("\nTree=")
    header = _fields(head)
    names, classes = tuple(_need(header, "feature_names").split()), _whole(header, "num_tree_per_iteration")
    announced = len(_need(header, "tree_sizes").split())
    if announced != len(parts):
        raise _bad(f"has {len(parts)} trees, its header announces {announced}")
    if len(names) != _whole(header, "max_feature_idx") + 1:
        raise _bad(f"names {len(names)} features, max_feature_idx is {header['max_feature_idx']}")
    if not parts or len(parts) > MAX_TREES or not 1 <= classes <= MAX_CLASSES or len(parts) % classes:
        raise _bad(f"has {len(parts)} trees of {classes} classes: expected 1 to {MAX_TREES}, as many of each class")
    trees = [_tree(i, _fields(part), len(names)) for i, part in enumerate(parts)]
    transform, sigmoid = _objective(header.get("objective", "custom"))
    joined = _joined(trees)
    return Model(
        joined,
        blocks_of(joined),
        names,
        _split_by(trees, True),
        _split_by(trees, False),
        header.get("objective", "custom"),
        classes,
        "average_output" in head.splitlines(),
        transform,
        sigmoid,
        max(len(tree.leaf) for tree in trees),
    )


def _bad(what: str) -> InvalidArgument:
    return InvalidArgument(f"model.txt: {what}")


def _fields(part: str) -> dict[str, str]:
    lines = (line.partition("=") for line in part.splitlines() if "=" in line)
    return {name: value for name, _, value in lines}


def _need(fields: Mapping[str, str], name: str) -> str:
    if name not in fields:
        raise _bad(f"is no LightGBM model: {name} is missing")
    return fields[name]


def _whole(fields: Mapping[str, str], name: str) -> int:
    value = _need(fields, name)
    try:
        return int(value)
    except ValueError:
        raise _bad(f"{name}={value} is no whole number") from None


def _objective(stated: str) -> tuple[int, float]:
    """(transform, sigmoid) of an objective such as "binary sigmoid:1"."""
    name, *parameters = stated.split() or ["custom"]
    if name not in _TRANSFORMS:
        raise _bad(f"objective {name!r} is not known; known are {', '.join(_TRANSFORMS)}")
    if name == "regression" and "sqrt" in parameters:
        return kernel.SIGNED_SQUARE, 1.0
    given = dict(parameter.split(":", 1) for parameter in parameters if ":" in parameter)
    try:
        return _TRANSFORMS[name], float(given.get("sigmoid", 1.0))
    except ValueError:
        raise _bad(f"objective {stated!r}: sigmoid is no number") from None


def _tree(number: int, fields: Mapping[str, str], features: int) -> _Tree:
    where = f"tree {number}"
    if fields.get("is_linear", "0").strip() != "0":
        raise _bad(f"{where} is linear (is_linear=1), which is not supported: train with linear_tree=false")
    leaves = _whole(fields, "num_leaves")
    if not 1 <= leaves <= MAX_LEAVES:
        raise _bad(f"{where}: num_leaves={leaves}, allowed are 1 to {MAX_LEAVES}")
    cats = _whole(fields, "num_cat") if "num_cat" in fields else 0

    def column(name: str, dtype: Any, n: int | None) -> Array:
        try:
            values = np.array(fields.get(name, "").split(), dtype)
        except (ValueError, OverflowError) as error:
            raise _bad(f"{where}: {name}: {error}") from None
        if n is not None and len(values) != n:
            raise _bad(f"{where}: {name} has {len(values)} values, expected {n}")
        return values

    splits = leaves - 1
    made = _Tree(
        column("leaf_value", np.float64, leaves),
        column("split_feature", np.int64, splits),
        column("threshold", np.float64, splits),
        column("decision_type", np.int64, splits),
        column("left_child", np.int64, splits),
        column("right_child", np.int64, splits),
        column("cat_boundaries", np.int64, cats + 1) if cats else np.zeros(1, np.int64),
        column("cat_threshold", np.uint32, None) if cats else np.zeros(0, np.uint32),
    )
    _check(where, made, features)
    return made


def _check(where: str, tree: _Tree, features: int) -> None:
    splits = len(tree.feature)
    if np.any((tree.feature < 0) | (tree.feature >= features)):
        raise _bad(f"{where}: splits by feature {tree.feature.max()}, the model has {features}")
    if np.isnan(tree.threshold).any() or not np.isfinite(tree.leaf).all():
        raise _bad(f"{where}: holds a threshold or leaf value that is no number")
    if np.any((tree.decision < 0) | (tree.decision > 11)):
        raise _bad(f"{where}: decision_type {tree.decision.max()} is not known")
    children = np.concatenate([tree.left, tree.right])
    expected = np.concatenate([np.arange(1, splits), -np.arange(1, splits + 2)]) if splits else children
    if not np.array_equal(np.sort(children), np.sort(expected)):
        raise _bad(f"{where}: its children are no tree: each split and leaf must be one's child")
    parents = np.tile(np.arange(splits), 2)
    if np.any((children >= 0) & (children <= parents)):
        raise _bad(f"{where}: its children are no tree: a split comes before its parent")
    sets = tree.threshold[tree.decision & CATEGORY > 0]
    rising = np.all(np.diff(tree.bounds) >= 0) and tree.bounds[0] == 0 and tree.bounds[-1] == len(tree.words)
    if not rising or np.any((sets < 0) | (sets >= len(tree.bounds) - 1) | (sets != np.floor(sets))):
        raise _bad(f"{where}: a split names categories that are not there")


def _split_by(trees: list[_Tree], category: bool) -> frozenset[int]:
    found = [tree.feature[(tree.decision & CATEGORY > 0) == category] for tree in trees]
    return frozenset(np.concatenate(found).tolist())


def _starts(lengths: list[int]) -> list[int]:
    return [0, *accumulate(lengths)][:-1]


def _joined(trees: list[_Tree]) -> Forest:
    """One forest; of each tree its splits, then its leaves."""
    bases, sets = _starts([2 * len(t.leaf) - 1 for t in trees]), _starts([len(t.bounds) - 1 for t in trees])
    words = _starts([len(t.words) for t in trees])
    is_category = [t.decision & CATEGORY > 0 for t in trees]
    kinds = [
        np.where(c, kernel.IS_CATEGORY, t.decision >> kernel.MISSING_AT & 3)
        for t, c in zip(trees, is_category, strict=True)
    ]
    wanted = [4 * tree.feature + kind for tree, kind in zip(trees, kinds, strict=True)]
    columns = np.unique(np.concatenate(wanted))

    def nodes(of_splits: list[Array], of_leaves: float, dtype: Any) -> Array:
        both = ((of, np.full(len(t.leaf), of_leaves)) for of, t in zip(of_splits, trees, strict=True))
        return np.concatenate([part for parts in both for part in parts]).astype(dtype)

    chosen = [np.where(c, t.threshold + n, -1) for t, c, n in zip(trees, is_category, sets, strict=True)]
    leaves = [part for t in trees for part in (np.zeros(len(t.feature)), t.leaf)]
    return Forest(
        (columns // 4).astype(np.int32),
        (columns % 4).astype(np.uint8),
        np.array(bases, np.uint32),
        np.array([_depth(tree) for tree in trees], np.int32),
        nodes([np.searchsorted(columns, of) for of in wanted], 0, np.uint32),
        nodes([_rounded_down(tree.threshold) for tree in trees], 0, np.float32),
        nodes([tree.decision & kernel.DEFAULT_LEFT for tree in trees], 0, np.uint8),
        nodes(chosen, -1, np.int32),
        np.concatenate([_children(tree) + base for tree, base in zip(trees, bases, strict=True)]).astype(np.uint32),
        np.concatenate(leaves),
        np.concatenate([[0], *(t.bounds[1:] + base for t, base in zip(trees, words, strict=True))]).astype(np.int32),
        np.concatenate([t.words for t in trees]).astype(np.uint32),
    )


def _children(tree: _Tree) -> Array:
    """int64[2 n]: left and right of each node of a tree; a leaf is its own."""
    splits, leaves = len(tree.feature), np.arange(len(tree.leaf))
    sides = [np.where(side < 0, splits + ~side, side) for side in (tree.left, tree.right)]
    return np.stack([np.concatenate([side, splits + leaves]) for side in sides], axis=1).ravel()


def _depth(tree: _Tree) -> int:
    """Steps to the deepest leaf."""
    level, depth = np.array([0] if len(tree.feature) else [], np.int64), 0
    while len(level):
        level = np.concatenate([tree.left[level], tree.right[level]])
        level, depth = level[level >= 0], depth + 1
    return depth


def _rounded_down(threshold: F64) -> F32:
    """The largest float32 not above each: a float32 is below the one when it is below the other."""
    with np.errstate(over="ignore"):
        near = threshold.astype(np.float32)
    return np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near)
