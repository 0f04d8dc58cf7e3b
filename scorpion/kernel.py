"""Walks rows through the trees of a model, as LightGBM does. Arrays in, arrays out; `forest.py` reads them from a text.

The decisions are those of `Tree::NumericalDecision` and `Tree::CategoricalDecision` in LightGBM's
`include/LightGBM/tree.h`, the transforms `ConvertOutput` of its objectives; leaves are added in the order of the trees,
in float64, so that a score is equal to LightGBM's own.

Rows are prepared once, so that a decision is a comparison without a branch: values that a split takes for missing are NaN.
Thresholds are rounded down to float32, which decides float32 values alike. Many rows are scored by blocks of 64 or 256
(`blocks.py` has the idea, `simd.py` the innermost loops); a few rows, and forests that do not fit blocks, walk down the
trees: a row through several trees, or several rows through a tree, a step at a time so that their loads do not wait for
one another.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scorpion.simd import LINE, NARROW, WIDE, exit_leaves_narrow, exit_leaves_wide, ranks_of
from services.core.columns import F32, I64, U8, U32
from services.kernels.jit import kernel

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]

#: LightGBM's kZeroThreshold, a float's value: a value not further from zero than this is zero.
ZERO = np.float32(1e-35)
#: Bits of a decision: a category or a number, where missing values go, and which are missing.
CATEGORY, DEFAULT_LEFT, MISSING_AT = 1, 2, 2
MISSING_NONE, MISSING_ZERO, MISSING_NAN, IS_CATEGORY = 0, 1, 2, 3  # how a column is prepared
#: How a sum of leaves becomes a score.
IDENTITY, SIGMOID, SOFTMAX, EXP, SIGNED_SQUARE, LOG1P_EXP = range(6)

_LIMIT = 2147483648.0  # of an int32, to which a category's code is cast


ONE, TWO = np.uint32(1), np.uint32(2)
BLOCK = 128  # rows that take a step together
TREES = 8  # trees that a row walks together
TOGETHER = 10  # steps that all rows take; deeper rows go on alone
FEW = 5  # rows that are walked: a block of 64 takes as long as so many


class Forest(NamedTuple):
    """All trees of a model, their t trees and n nodes (splits and leaves) and c sets of categories back to back."""

    features: I32  # [p] the column of the rows that each prepared column is of
    missing: U8  # [p] how it is prepared: MISSING_NONE, MISSING_ZERO, MISSING_NAN or IS_CATEGORY
    roots: U32  # [t] node
    depths: I32  # [t] steps to the deepest leaf
    column: U32  # [n] prepared column that a split decides by; of a leaf: 0
    threshold: F32  # [n] goes left when not above
    default_left: U8  # [n] whether NaN goes left
    category: I32  # [n] which set of categories goes left; -1: a number
    children: (
        U32  # [2 n] left and right; of a leaf: itself. Unsigned, as an index that can be negative is one that is tested
    )
    leaf: F64  # [n] of a split: 0
    bounds: I32  # [c + 1] set i is the words bounds[i]:bounds[i + 1]
    words: U32  # bit b of a set's word w: category 32 * w + b


class Blocks(NamedTuple):
    """A forest of trees of at most 64 leaves: c columns with their thresholds back to back, t trees of w bytes of leaves,
    s entries.
    """

    column: I64  # [c] prepared column
    default_left: U8  # [c] whether a missing value is above no threshold, or else above all
    category: I32  # [c] the set of categories that it compares with; -1: a number
    starts: I64  # [c + 1] the thresholds of column i are thresholds[starts[i]:starts[i + 1]], ascending, then infinity
    steps: I64  # [c] of the search among them: there are 2 ** steps
    thresholds: F32
    entry_column: I32  # [s] 2 * column, and 1 more for 255 - rank in place of rank
    entry_rank: U8  # [s] takes leaves away from rows whose rank is above it
    entry_mask: U8  # [s] the leaves that they keep
    entry_ends: I64  # [t * w + 1] of byte b of tree i: entry_ends[i * w + b] to entry_ends[i * w + b + 1]
    leaves: F64  # [t, 8 * w] in the order of their bits


def score(
    forest: Forest, blocks: Blocks | None, rows: F32, classes: int, average: bool, transform: int, sigmoid: float
) -> F64:
    """float64[n, classes]: the score of each row. rows: float32[n, features]; tree i is of class i % classes.

    blocks: the same forest, where it fits. average: whether the leaves of a class are averaged (random forests) instead
    of summed. Raises ValueError for rows without a column that the forest reads, or trees that are not as many of each class.
    """
    least = int(forest.features.max()) + 1 if len(forest.features) else 0
    if rows.ndim != 2 or rows.shape[1] < least:
        raise ValueError(f"rows: shape {rows.shape}, expected (n, {least}) or more columns")
    if len(forest.roots) % classes:
        raise ValueError(f"forest: {len(forest.roots)} trees, expected as many of each of {classes} classes")
    out, rows = np.zeros((len(rows), classes), np.float64), np.ascontiguousarray(rows)
    if len(rows) < FEW:
        add_leaves_of_few(forest, rows, out)
    elif blocks is None:
        add_leaves(forest, rows, out)
    else:
        add_leaves_of_blocks(forest, blocks, rows, out)
    if average:
        out /= len(forest.roots) // classes
    convert(out, transform, sigmoid)
    return out


def warm() -> None:
    """Compile the kernels that score, or load them: the first request need not wait for it."""
    none, one, flag, node = np.zeros(0, np.int32), np.zeros(1, np.int32), np.zeros(1, np.uint8), np.zeros(1, np.uint32)
    leaf = np.zeros(1, np.float32), flag, one - 1, np.zeros(2, np.uint32), np.zeros(1)
    forest = Forest(none, flag[:0], node, one, node, *leaf, one, np.zeros(0, np.uint32))
    ends, byte = np.zeros(2, np.int64), np.zeros(0, np.uint8)
    none64 = ends[:0]
    blocks = Blocks(none64, byte, none, ends[:1], none64, leaf[0][:0], none, byte, byte, ends, np.zeros((1, 8)))
    for rows, fitting in ((1, blocks), (FEW, blocks), (FEW, None)):
        score(forest, fitting, np.zeros((rows, 1), np.float32), 1, False, IDENTITY, 1.0)


@kernel
def add_leaves_of_few(forest: Forest, rows: F32, out: F64) -> None:
    """Add the leaf of each tree that a row ends in to the row's class of `out`, in the order of the trees."""
    trees, classes = len(forest.roots), out.shape[1]
    prepared = np.zeros((1, max(1, len(forest.features))), np.float32)
    at = np.zeros(TREES, np.uint32)
    for row in range(len(rows)):
        _prepare(forest, rows[row : row + 1], prepared)
        for first in range(0, trees, TREES):
            n, depth = min(TREES, trees - first), 0
            for i in range(n):
                at[i] = forest.roots[first + i]
                depth = max(depth, forest.depths[first + i])
            for _ in range(min(depth, TOGETHER)):
                for i in range(n):
                    at[i] = _next(forest, at[i], prepared, 0)
            for i in range(n):
                out[row, (first + i) % classes] += forest.leaf[_exit(forest, at[i], prepared, 0)]


@kernel
def find_depths(children: I64, bounds: I64, depths: I32) -> None:
    """Steps to the deepest leaf of each tree, written. children, bounds: of nodes, a split standing before its children."""
    depth = np.zeros(len(children) // 2, np.int32)
    for tree in range(len(depths)):
        for node in range(bounds[tree], bounds[tree + 1]):
            depths[tree] = max(depths[tree], depth[node])
            for child in (children[2 * node], children[2 * node + 1]):
                if child != node:
                    depth[child] = depth[node] + 1


@kernel
def _exit(forest: Forest, node: Any, prepared: F32, row: int) -> Any:
    """The leaf below a node."""
    while forest.children[TWO * node] != node:
        node = _next(forest, node, prepared, row)
    return node


@kernel
def add_leaves(forest: Forest, rows: F32, out: F64) -> None:
    """As `add_leaves_of_few`, for any number of rows."""
    classes = out.shape[1]
    prepared = np.zeros((BLOCK, max(1, len(forest.features))), np.float32)
    at = np.zeros(BLOCK, np.uint32)
    for start in range(0, len(rows), BLOCK):
        n = min(BLOCK, len(rows) - start)
        _prepare(forest, rows[start : start + n], prepared)
        for tree in range(len(forest.roots)):
            at[:n] = forest.roots[tree]
            for _ in range(min(forest.depths[tree], TOGETHER)):
                for row in range(n):
                    at[row] = _next(forest, at[row], prepared, row)
            for row in range(n):
                out[start + row, tree % classes] += forest.leaf[_exit(forest, at[row], prepared, row)]


@kernel
def _prepare(forest: Forest, rows: F32, prepared: F32) -> None:
    """The values of each prepared column."""
    for row in range(len(rows)):
        for i in range(len(forest.features)):
            prepared[row, i] = _prepared(rows[row, forest.features[i]], forest.missing[i])


@kernel
def _prepared(value: Any, missing: int) -> Any:
    """float32: NaN where it is missing. LightGBM takes values next to zero for zero when it reads a row."""
    if missing == IS_CATEGORY:
        return value
    if abs(value) <= ZERO:
        return np.float32(np.nan if missing == MISSING_ZERO else 0)
    return np.float32(0) if missing == MISSING_NONE and math.isnan(value) else value


@kernel
def _next(forest: Forest, node: Any, prepared: F32, row: int) -> Any:
    value, category = prepared[row, forest.column[node]], forest.category[node]
    if category >= 0:
        left = _is_among(forest, category, value)
    else:
        left = (value <= forest.threshold[node]) | ((value != value) & (forest.default_left[node] > 0))  # noqa: PLR0124
    return forest.children[TWO * node + (ONE ^ np.uint32(left))]


@kernel
def _is_among(forest: Forest, category: int, value: float) -> bool:
    if math.isnan(value) or value >= _LIMIT or value <= -1.0:
        return False
    code = int(value)  # towards zero, so that values above -1 are category 0
    word = forest.bounds[category] + (code >> 5)
    if word >= forest.bounds[category + 1]:
        return False
    return bool(forest.words[word] >> np.uint32(code & 31) & np.uint32(1))


@kernel
def add_leaves_of_blocks(forest: Forest, blocks: Blocks, rows: F32, out: F64) -> None:
    """As `add_leaves`, to the last bit."""
    n, classes = out.shape
    width, columns = blocks.leaves.shape[1] // 8, 2 * len(blocks.column)
    memory = np.empty(WIDE * columns + LINE, np.uint8)  # of which a part begins where a register's load may
    start = -memory.ctypes.data % LINE
    leaf, sums = np.empty(WIDE, np.uint8), np.empty((classes, WIDE), np.float64)
    first = 0
    while first < n:
        lanes = WIDE if n - first > 2 * NARROW else NARROW
        size = min(lanes, n - first)
        ranks = memory[start : start + lanes * columns].reshape(columns, lanes)
        for part in range(0, size, NARROW):
            _rank(forest, blocks, rows[first + part : first + min(part + NARROW, size)], ranks[:, part : part + NARROW])
        sums[:] = 0.0
        for tree in range(len(blocks.leaves)):
            _exit_leaves(blocks, ranks, tree, width, leaf)
            values, total = blocks.leaves[tree], sums[tree % classes]
            for row in range(lanes):
                total[row] += values[leaf[row]]
        for row in range(size):
            for k in range(classes):
                out[first + row, k] += sums[k, row]
        first += size


@kernel
def _exit_leaves(blocks: Blocks, ranks: U8, tree: int, width: int, leaf: U8) -> None:
    """uint8[lanes] of `leaf`: the bit of the leaf that each row of ranks (uint8[2 c, lanes]) ends in."""
    column, rank, mask, ends = blocks.entry_column, blocks.entry_rank, blocks.entry_mask, blocks.entry_ends
    data = ranks.ctypes.data, column.ctypes.data, rank.ctypes.data, mask.ctypes.data, ends.ctypes.data
    if ranks.shape[1] == WIDE:
        exit_leaves_wide(*data, tree, width, leaf.ctypes.data)
    else:
        exit_leaves_narrow(*data, tree, width, leaf.ctypes.data)


@kernel
def _rank(forest: Forest, blocks: Blocks, rows: F32, ranks: U8) -> None:
    """The ranks of at most 64 rows in every column. ranks: uint8[2 c, 64], written: ranks and 255 - rank."""
    prepared = np.zeros((max(1, len(forest.features)), NARROW), np.float32)
    differ = np.zeros(len(prepared), np.uint32)  # 0: all its values are the same, as those of a user are
    for row in range(len(rows)):
        for i in range(len(forest.features)):
            prepared[i, row] = rows[row, forest.features[i]]
    for i in range(len(forest.features)):
        values, missing = prepared[i], forest.missing[i]
        for row in range(len(rows)):
            values[row] = _prepared(values[row], missing)
        bits = values.view(np.uint32)
        for row in range(len(rows)):
            differ[i] |= bits[row] ^ bits[0]
    for i in range(len(blocks.column)):
        values, found = prepared[blocks.column[i]], ranks[2 * i]
        if blocks.category[i] >= 0:
            _rank_in_set(forest, blocks.category[i], values, found)
        elif differ[blocks.column[i]] == 0:
            found[:] = _rank_of(blocks, i, values[0])
        else:
            missing = np.uint8(0 if blocks.default_left[i] else 255)
            at = blocks.thresholds[blocks.starts[i] :].ctypes.data
            ranks_of(values.ctypes.data, at, blocks.steps[i], missing, found.ctypes.data)  # type: ignore[call-arg]
        flipped = ranks[2 * i + 1]
        for row in range(NARROW):
            flipped[row] = ~found[row]


@kernel
def _rank_of(blocks: Blocks, i: int, value: float) -> Any:
    """uint8: the rank of one value in column i."""
    if math.isnan(value):
        return np.uint8(0 if blocks.default_left[i] else 255)
    thresholds, rank = blocks.thresholds[blocks.starts[i] :], 0
    for step in range(blocks.steps[i]):
        half = 1 << (blocks.steps[i] - 1 - step)
        rank += half if value > thresholds[rank + half - 1] else 0
    return np.uint8(rank)


@kernel
def _rank_in_set(forest: Forest, category: int, values: F32, found: U8) -> None:
    """The ranks of 64 categories, written: 0 within a set, 1 outside. Its first word is asked for all of them at once,
    one after the other only if it has more words.
    """
    first, end = forest.bounds[category], forest.bounds[category + 1]
    word = forest.words[first] if end > first else np.uint32(0)
    for row in range(NARROW):
        value = values[row]
        fits = (value > np.float32(-1)) & (value < np.float32(32))
        code = np.uint32(np.int32(value if fits else np.float32(0))) & np.uint32(31)  # so that LLVM shifts 32 bits
        found[row] = ONE ^ (word >> code & np.uint32(fits))
    if end - first > 1:
        for row in range(NARROW):
            found[row] = 0 if _is_among(forest, category, values[row]) else 1


@kernel
def convert(out: F64, transform: int, sigmoid: float) -> None:
    """Turn sums of leaves (float64[n, classes]) into scores, in place."""
    for row in range(out.shape[0]):
        if transform == SOFTMAX:
            _softmax(out[row])
        else:
            for k in range(out.shape[1]):
                out[row, k] = _converted(out[row, k], transform, sigmoid)


@kernel
def _converted(x: float, transform: int, sigmoid: float) -> float:
    if transform == SIGMOID:
        return 1.0 / (1.0 + math.exp(-sigmoid * x))
    if transform == EXP:
        return math.exp(x)
    if transform == SIGNED_SQUARE:
        return math.copysign(x * x, x)
    if transform == LOG1P_EXP:
        return math.log1p(math.exp(x))
    return x


@kernel
def _softmax(values: F64) -> None:
    largest, total = values.max(), 0.0
    for k in range(len(values)):
        values[k] = math.exp(values[k] - largest)
        total += values[k]
    for k in range(len(values)):
        values[k] /= total
