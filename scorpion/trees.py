"""The trees of LightGBM's model text as flat arrays, all trees back to back, with every way that they could be no trees
checked: trees that pass can't lead a kernel outside of its arrays.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from scorpion.kernel import CATEGORY, F64
from services.core.columns import I64, U32, Array
from services.core.errors import InvalidArgument

MAX_LEAVES = 1 << 17
SHOWN = 60  # characters of a value that is refused
Fields = Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """t trees of s splits and l leaves. A child is a split of its tree by number, or below 0 one of its leaves, ~child."""

    leaves: I64  # [t] how many each has; it has one split less
    leaf: F64  # [l]
    feature: I64  # [s]
    threshold: F64  # [s] of a category: which of its tree's sets
    decision: I64  # [s]
    left: I64  # [s]
    right: I64  # [s]
    sets: I64  # [t] how many sets of categories each has
    bounds: I64  # [sum(sets) + t] of each tree: set i is its words bounds[i]:bounds[i + 1]
    words: U32
    words_of: I64  # [t] how many each has

    def tree_of(self) -> I64:
        """int64[s]: the tree of each split."""
        return np.repeat(np.arange(len(self.leaves)), self.leaves - 1)

    def number(self) -> I64:
        """int64[s]: the number of each split within its tree."""
        splits = self.leaves - 1
        return np.arange(len(self.feature)) - np.repeat(np.cumsum(splits) - splits, splits)

    def is_category(self) -> Array:
        """bool[s]: whether a split asks for a category."""
        return self.decision & CATEGORY > 0


def refused(what: str) -> InvalidArgument:
    """The error of a text."""
    return InvalidArgument(f"model.txt: {what}")


def whole(fields: Fields, name: str) -> int:
    """A field that is a whole number."""
    if name not in fields:
        raise refused(f"is no LightGBM model: {name} is missing")
    try:
        return int(fields[name])
    except ValueError:
        raise refused(f"{name}={fields[name][:SHOWN]} is no whole number, or too large") from None


def read(trees: Sequence[Fields], features: int) -> Trees:
    """The trees whose fields these are. Raises InvalidArgument saying what is wrong, and in which tree."""
    leaves = [_leaves(i, tree) for i, tree in enumerate(trees)]
    splits = [n - 1 for n in leaves]
    sets = [_sets(i, tree) for i, tree in enumerate(trees)]
    ends = [n + 1 if n else 0 for n in sets]
    floats, ints = (float, np.float64), (int, np.int64)
    words, words_of = _column(trees, "cat_threshold", int, np.int64, [-1 if n else 0 for n in sets])
    if len(words) and (words.min() < 0 or words.max() > 0xFFFFFFFF):
        raise refused("cat_threshold: a word of categories is not of 32 bits")
    bounds, _ = _column(trees, "cat_boundaries", *ints, ends)
    made = Trees(
        np.array(leaves, np.int64),
        _column(trees, "leaf_value", *floats, leaves)[0],
        _column(trees, "split_feature", *ints, splits)[0],
        _column(trees, "threshold", *floats, splits)[0],
        _column(trees, "decision_type", *ints, splits)[0],
        _column(trees, "left_child", *ints, splits)[0],
        _column(trees, "right_child", *ints, splits)[0],
        np.array(sets, np.int64),
        bounds,
        words.astype(np.uint32),
        np.array(words_of, np.int64),
    )
    _check_values(made, features)
    _check_children(made)
    _check_sets(made)
    return made


def _leaves(number: int, tree: Fields) -> int:
    if tree.get("is_linear", "0").strip() != "0":
        raise refused(f"tree {number} is linear (is_linear=1), which is not supported: train with linear_tree=false")
    leaves = whole(tree, "num_leaves")
    if not 1 <= leaves <= MAX_LEAVES:
        raise refused(f"tree {number}: num_leaves={leaves}, allowed are 1 to {MAX_LEAVES}")
    return leaves


def _sets(number: int, tree: Fields) -> int:
    sets = whole(tree, "num_cat") if "num_cat" in tree else 0
    if not 0 <= sets < MAX_LEAVES:
        raise refused(f"tree {number}: num_cat={sets}, allowed are 0 to {MAX_LEAVES - 1}")
    return sets


def _column(
    trees: Sequence[Fields], name: str, kind: Callable[[str], Any], dtype: Any, expected: Sequence[int]
) -> tuple[Array, list[int]]:
    """The values of a field of all trees, and how many each has: as many as expected, or any number where that is -1."""
    texts: list[str] = []
    lengths = []
    for number, (tree, n) in enumerate(zip(trees, expected, strict=True)):
        values = tree.get(name, "").split() if n else []
        if n >= 0 and len(values) != n:
            raise refused(f"tree {number}: {name} has {len(values)} values, expected {n}")
        texts += values
        lengths.append(len(values))
    try:
        return np.array(list(map(kind, texts)), dtype), lengths
    except (ValueError, OverflowError):
        raise _unreadable(texts, lengths, name, kind, dtype) from None


def _unreadable(
    texts: Sequence[str], lengths: Sequence[int], name: str, kind: Callable[[str], Any], dtype: Any
) -> InvalidArgument:
    ends = list(accumulate(lengths))
    for at, text in enumerate(texts):
        try:
            np.array([kind(text)], dtype)
        except (ValueError, OverflowError):
            tree = next(number for number, end in enumerate(ends) if at < end)
            return refused(f"tree {tree}: {name}: {text[:SHOWN]!r} is no number that it can have")
    return refused(f"{name}: cannot be read")


def _refuse(trees: Trees, wrong: Array, why: Callable[[int], str]) -> None:
    """Raise for the first split that is wrong (bool[s]), naming its tree."""
    if wrong.any():
        at = int(wrong.argmax())
        raise refused(f"tree {int(trees.tree_of()[at])}: {why(at)}")


def _check_values(trees: Trees, features: int) -> None:
    feature, decision = trees.feature, trees.decision
    _refuse(
        trees,
        (feature < 0) | (feature >= features),
        lambda at: f"splits by feature {feature[at]}, the model has {features}",
    )
    _refuse(trees, np.isnan(trees.threshold), lambda _: "holds a threshold that is no number")
    if not np.isfinite(trees.leaf).all():
        at = int((~np.isfinite(trees.leaf)).argmax())
        tree = int(np.searchsorted(np.cumsum(trees.leaves), at, "right"))
        raise refused(f"tree {tree}: holds a leaf value that is no number")
    _refuse(trees, (decision < 0) | (decision > 11), lambda at: f"decision_type {decision[at]} is not known")


def _check_children(trees: Trees) -> None:
    """Each split and leaf of a tree must be one's child, but the first split, and a split comes after its parent."""
    leaves = np.repeat(trees.leaves, trees.leaves - 1)
    number, first = trees.number(), np.repeat(np.cumsum(2 * trees.leaves - 1), trees.leaves - 1) - 2 * leaves + 1
    seen = []
    for child in (trees.left, trees.right):
        _refuse(
            trees,
            (child < -leaves) | (child >= leaves - 1),
            lambda _: "its children are no tree: each split and leaf must be one's child",
        )
        _refuse(
            trees,
            (child >= 0) & (child <= number),
            lambda _: "its children are no tree: a split comes before its parent",
        )
        seen.append(first + np.where(child < 0, leaves - 1 + ~child, child))
    nodes = 2 * trees.leaves - 1
    times = np.bincount(np.concatenate(seen), minlength=int(nodes.sum()))
    times[np.cumsum(nodes) - nodes] += 1  # no child
    if (times != 1).any():
        tree = int(np.searchsorted(np.cumsum(nodes), int((times != 1).argmax()), "right"))
        raise refused(f"tree {tree}: its children are no tree: each split and leaf must be one's child")


def _check_sets(trees: Trees) -> None:
    at = 0
    for tree, (n, words) in enumerate(zip(trees.sets.tolist(), trees.words_of.tolist(), strict=True)):
        if n:
            bounds = trees.bounds[at : at + n + 1]
            at += n + 1
            if bounds[0] != 0 or bounds[-1] != words or (bounds[1:] < bounds[:-1]).any():
                raise refused(f"tree {tree}: a split names categories that are not there")
    wanted, there = trees.threshold, np.repeat(trees.sets, trees.leaves - 1)
    _refuse(
        trees,
        trees.is_category() & ((wanted < 0) | (wanted >= there) | (wanted != np.floor(wanted))),
        lambda _: "a split names categories that are not there",
    )
