"""The kernel against LightGBM itself, over small models of every kind that is supported."""

from typing import Any

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scorpion import forest, kernel
from scorpion.kernel import F64, ZERO
from services.core.columns import F32, Array
from services.core.errors import InvalidArgument

QUIET = {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 2, "min_data_in_bin": 1, "deterministic": True}
CATEGORIES = {"min_data_per_group": 1, "cat_smooth": 0.1, "cat_l2": 0.1}
OBJECTIVES = (
    *("regression", "regression_l1", "huber", "fair", "quantile", "mape", "poisson", "gamma", "tweedie"),
    *("binary", "multiclass", "multiclassova", "cross_entropy", "cross_entropy_lambda", "lambdarank"),
)
#: Values at which a decision could turn: zeros of both signs, what LightGBM takes for zero, codes beyond any category.
EDGES = np.array(
    [
        *(0.0, -0.0, 1e-36, -1e-36, ZERO, -ZERO, 2e-35, np.nan, np.inf, -np.inf),
        *(-0.5, -1.0, -7.0, 31.0, 32.0, 4096.5, 2.0**31, -(2.0**31), 1e20, 3.4e38),
    ],
    np.float32,
)


def table(rng: np.random.Generator, rows: int, numbers: int, categories: int, missing: float, zeros: float) -> F32:
    """float32[rows, numbers + categories]: numbers first, then codes of categories, some missing, some zero."""
    values = np.empty((rows, numbers + categories), np.float32)
    values[:, :numbers] = rng.normal(size=(rows, numbers)) * rng.choice([1e-3, 1, 1e6], numbers)
    values[:, numbers:] = rng.integers(0, 70, (rows, categories))
    values[rng.random(values.shape) < zeros] = 0
    values[rng.random(values.shape) < missing] = np.nan
    return values


def target(rng: np.random.Generator, rows: F32, objective: str) -> tuple[Array, dict[str, Any], dict[str, Any]]:
    """(labels, parameters, arguments of the Dataset) of an objective."""
    signal = np.nan_to_num(rows[:, 0] / (np.nanmax(np.abs(rows[:, 0])) + 1e-9)) + np.nan_to_num(rows[:, -1]) % 3
    signal = signal + rng.normal(size=len(rows)) * 0.1
    if objective in ("binary", "cross_entropy", "cross_entropy_lambda"):
        return (signal > np.median(signal)).astype(float), {}, {}
    if objective.startswith("multiclass"):
        return np.digitize(signal, np.quantile(signal, [0.3, 0.6])), {"num_class": 3}, {}
    if objective == "lambdarank":
        return (signal > np.median(signal)).astype(int), {}, {"group": [len(rows) // 2, len(rows) - len(rows) // 2]}
    return signal - signal.min() + 0.1, {}, {}


def trained(
    rng: np.random.Generator, rows: F32, categorical: list[int], objective: str, trees: int, **parameters: Any
) -> lightgbm.Booster:
    labels, needed, of_data = target(rng, rows, objective)
    data = lightgbm.Dataset(rows, labels, categorical_feature=categorical, free_raw_data=False, **of_data)
    return lightgbm.train({**QUIET, **CATEGORIES, "objective": objective, **needed, **parameters}, data, trees)


def probed(rng: np.random.Generator, rows: F32) -> F32:
    """The rows, and as many with values at the edges."""
    edged = rows.copy()
    edged[rng.random(rows.shape) < 0.5] = 0
    at = rng.random(rows.shape) < 0.6
    edged[at] = rng.choice(EDGES, int(at.sum()))
    return np.concatenate([rows, edged])


def reference(booster: lightgbm.Booster, rows: F32) -> F64:
    return np.asarray(booster.predict(rows, num_threads=1), np.float64)


def agree(booster: lightgbm.Booster, rows: F32) -> forest.ForestModel:
    model = forest.parse(booster.model_to_string())
    found, expected = model.score(rows), reference(booster, rows)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-300)
    transform = (model.classes, False, kernel.IDENTITY, 1.0)
    raw = kernel.score(model.forest, model.blocks, rows, *transform)
    np.testing.assert_array_equal(
        raw, kernel.score(model.forest, None, rows, *transform), err_msg="in blocks and walked"
    )
    plain = np.asarray(booster.predict(rows, raw_score=True, num_threads=1)).reshape(len(rows), -1)
    np.testing.assert_array_equal(raw, plain, err_msg="the sum of the leaves is the same to the last bit")
    return model


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    objective=st.sampled_from(OBJECTIVES),
    trees=st.integers(1, 8),
    leaves=st.sampled_from([2, 3, 8, 31, 64, 65, 100]),
    numbers=st.integers(1, 4),
    categories=st.integers(0, 2),
    missing=st.sampled_from([0.0, 0.2]),
    zeros=st.sampled_from([0.0, 0.4]),
    zero_as_missing=st.booleans(),
    use_missing=st.booleans(),
)
def test_scores_are_lightgbms(
    seed: int,
    objective: str,
    trees: int,
    leaves: int,
    numbers: int,
    categories: int,
    missing: float,
    zeros: float,
    zero_as_missing: bool,
    use_missing: bool,
) -> None:
    rng = np.random.default_rng(seed)
    rows = table(rng, 160, numbers, categories, missing, zeros)
    categorical = list(range(numbers, numbers + categories))
    how = {"num_leaves": leaves, "zero_as_missing": zero_as_missing, "use_missing": use_missing}
    agree(trained(rng, rows, categorical, objective, trees, **how), probed(rng, rows))


@pytest.mark.parametrize("value", [*EDGES[:12].tolist(), 0.3])
def test_a_column_may_have_one_value_in_all_rows(value: float) -> None:
    rng = np.random.default_rng(3)
    rows = table(rng, 300, 2, 1, 0.1, 0.1)
    booster = trained(rng, rows, [2], "binary", 8, num_leaves=15)
    for column in range(3):
        same = rows.copy()
        same[:, column] = value
        agree(booster, same)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_turns_leaves_into_its_own_scores(objective: str) -> None:
    rng = np.random.default_rng(5)
    rows = table(rng, 300, 3, 1, 0.1, 0.1)
    model = agree(trained(rng, rows, [3], objective, 12, num_leaves=7), probed(rng, rows))
    assert model.classes == (3 if objective.startswith("multiclass") else 1)
    assert model.trees == 12 * model.classes


@pytest.mark.parametrize(
    "how",
    [
        {"objective": "binary", "sigmoid": 2.5},
        {"objective": "regression", "reg_sqrt": True},
        {"objective": "binary", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6},
        {"objective": "multiclass", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6},
        {"objective": "regression", "boosting": "dart", "drop_rate": 0.5},
        {"objective": "regression", "max_depth": -1, "num_leaves": 400, "min_data_in_leaf": 1},
        {"objective": "binary", "max_cat_threshold": 64, "max_cat_to_onehot": 1},
        {"objective": "binary", "max_cat_to_onehot": 100},
    ],
    ids=str,
)
def test_other_ways_to_train(how: dict[str, Any]) -> None:
    rng = np.random.default_rng(9)
    rows = table(rng, 1_500, 3, 2, 0.1, 0.1)
    agree(trained(rng, rows, [3, 4], trees=10, **how), probed(rng, rows))


def test_more_than_64_leaves_and_deep_trees() -> None:
    rng = np.random.default_rng(2)
    rows = np.sort(rng.random((4_000, 1)).astype(np.float32), axis=0)
    data = lightgbm.Dataset(rows, np.exp(np.linspace(0, 60, 4_000)))
    booster = lightgbm.train({**QUIET, "objective": "regression", "num_leaves": 120, "min_data_in_leaf": 1}, data, 3)
    assert agree(booster, probed(rng, rows)).leaves > 64


@pytest.mark.parametrize("n", [1, 2, 4, 5, 63, 64, 65, 128, 129, 192, 256, 257, 385, 640])
def test_blocks_of_any_number_of_rows(n: int) -> None:
    rng = np.random.default_rng(n)
    rows = table(rng, 700, 3, 1, 0.1, 0.1)
    booster = trained(rng, rows, [3], "multiclass", 4, num_leaves=20)
    model = agree(booster, rows[:n])
    np.testing.assert_array_equal(model.score(rows[700 - n :])[::-1], model.score(rows[700 - n :][::-1]))


def chain(turns_left: bool) -> lightgbm.Booster:
    """A model whose trees are chains for most of their depth: a split parts a leaf or two from all the others."""
    rng = np.random.default_rng(8)
    x = np.arange(4_000, dtype=np.float32)
    steps = np.exp(np.maximum(70 - x if turns_left else x - 3_930, 0) / 2) + rng.normal(size=4_000)
    return lightgbm.train(
        {**QUIET, "objective": "regression", "num_leaves": 64, "min_data_in_leaf": 1, "max_bin": 5_000},
        lightgbm.Dataset(x[:, None], steps),
        3,
    )


@pytest.mark.parametrize("turns_left", [True, False])
def test_trees_much_deeper_than_they_are_wide(turns_left: bool) -> None:
    model = agree(chain(turns_left), np.linspace(-5, 4_005, 3_000, dtype=np.float32)[:, None])
    assert int(model.forest.depths.max()) > kernel.TOGETHER + 5


@pytest.mark.parametrize("bins", [255, 600])
def test_more_thresholds_than_a_byte_has(bins: int) -> None:
    rng = np.random.default_rng(6)
    rows = table(rng, 6_000, 2, 0, 0.05, 0.05)
    data = lightgbm.Dataset(rows, np.sin(40 * np.nan_to_num(rows[:, 0])) + np.cos(40 * np.nan_to_num(rows[:, 1])))
    how = {**QUIET, "objective": "regression", "num_leaves": 60, "max_bin": bins}
    model = agree(lightgbm.train(how, data, 40), probed(rng, rows))
    assert (model.blocks is None) == (bins > 255)


@pytest.mark.parametrize("use_missing", [True, False])
def test_categories_beyond_a_thousand(use_missing: bool) -> None:
    rng = np.random.default_rng(7)
    codes = rng.integers(0, 3_000, 8_000).astype(np.float32)
    codes[rng.random(8_000) < 0.1] = np.nan
    rows = np.stack([codes, rng.normal(size=8_000).astype(np.float32)], axis=1)
    how = {**QUIET, **CATEGORIES, "objective": "binary", "max_cat_threshold": 2_000, "use_missing": use_missing}
    labels = (np.nan_to_num(codes) * 7 % 11 > 5).astype(float)
    data = lightgbm.Dataset(rows, labels, categorical_feature=[0], params={"max_bin": 4_000})
    model = agree(lightgbm.train({**how, "max_bin": 4_000, "num_leaves": 16}, data, 8), probed(rng, rows))
    assert model.categorical == {0}
    assert len(model.forest.words) > 64


def test_a_tree_of_one_leaf() -> None:
    rows = np.ones((20, 2), np.float32)
    booster = lightgbm.train({**QUIET, "objective": "regression"}, lightgbm.Dataset(rows, np.arange(20.0)), 3)
    model = agree(booster, rows)
    assert model.leaves == 1
    assert model.score(rows)[0] == pytest.approx(9.5)


def test_an_objective_of_ones_own_is_the_sum_of_the_leaves() -> None:
    rng = np.random.default_rng(4)
    rows = table(rng, 200, 2, 0, 0.1, 0)

    def squares(predicted: Array, data: lightgbm.Dataset) -> tuple[Array, Array]:
        return predicted - data.get_label(), np.ones(len(predicted))

    data = lightgbm.Dataset(rows, np.nan_to_num(rows[:, 0]))
    agree(lightgbm.train({**QUIET, "objective": squares}, data, 3), probed(rng, rows))


def test_no_rows_no_scores() -> None:
    rng = np.random.default_rng(1)
    rows = table(rng, 50, 2, 0, 0, 0)
    model = forest.parse(trained(rng, rows, [], "binary", 2).model_to_string())
    assert model.score(rows[:0]).shape == (0,)


def test_rows_without_a_column_that_the_forest_reads_are_refused() -> None:
    rng = np.random.default_rng(1)
    rows = table(rng, 50, 2, 0, 0, 0)
    model = forest.parse(trained(rng, rows, [], "binary", 2).model_to_string())
    least = int(model.forest.features.max()) + 1
    narrow = rf"^rows: shape \(50, {least - 1}\), expected \(n, {least}\) or more columns$"
    with pytest.raises(ValueError, match=narrow):
        model.score(rows[:, : least - 1])
    with pytest.raises(ValueError, match=r"^rows: shape \(2,\), expected"):
        model.score(rows[0])
    with pytest.raises(ValueError, match="^forest: 2 trees, expected as many of each of 3 classes$"):
        kernel.score(model.forest, model.blocks, rows, 3, False, kernel.IDENTITY, 1.0)


@pytest.fixture(scope="module")
def text() -> str:
    rng = np.random.default_rng(3)
    rows = table(rng, 200, 2, 1, 0.1, 0.1)
    return str(trained(rng, rows, [2], "binary", 2, num_leaves=6).model_to_string())


def replaced(text: str, field: str, value: str) -> str:
    """The text with the first line of a field changed."""
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(f"{field}="))
    lines[at] = f"{field}={value}"
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("is_linear", "1", "tree 0 is linear"),
        ("split_feature", "0 1 2 3 0", "splits by feature 3, the model has 3"),
        ("split_feature", "0 1", "split_feature has 2 values, expected 5"),
        ("left_child", "0 0 0 0 0", "its children are no tree"),
        ("threshold", "1 2 nan 4 5", "no number|not there"),
        ("threshold", "a b c d e", "tree 0: threshold"),
        ("decision_type", "99 2 2 2 2", "decision_type 99 is not known"),
        ("num_leaves", "0", "num_leaves=0, allowed are"),
        ("num_cat", "-1", "num_cat=-1, allowed are"),
        ("leaf_value", "1 2 3 x 5 6", "tree 0: leaf_value: 'x' is no number that it can have"),
        ("num_leaves", "many", "num_leaves=many is no whole number"),
        ("objective", "guess", "objective 'guess' is not known; known are regression"),
        ("objective", "binary sigmoid:x", "sigmoid is no number"),
        ("num_tree_per_iteration", "3", "2 trees of 3 classes"),
        ("max_feature_idx", "7", "names 3 features, max_feature_idx is 7"),
        ("tree_sizes", "100", "has 2 trees, its header announces 1"),
        ("leaf_value", "1 2 3 4 5 inf", "no number"),
    ],
)
def test_a_text_that_is_wrong_is_refused(text: str, field: str, value: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        forest.parse(replaced(text, field, value))


@pytest.mark.parametrize(
    "field", ["num_leaves", "max_feature_idx", "split_feature", "threshold", "leaf_value", "num_cat"]
)
def test_a_refusal_shows_the_beginning_of_a_value_alone(text: str, field: str) -> None:
    """A number of 5,000 digits is one that neither int nor a column takes."""
    digits = "9" * 5_000
    there = len(next(line for line in text.splitlines() if line.startswith(f"{field}=")).split(" "))
    with pytest.raises(InvalidArgument, match=field) as refused:
        forest.parse(replaced(text, field, " ".join([f"{digits}x"] * there)))
    assert len(str(refused.value)) < 250
    assert "99999" in str(refused.value)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5])
def test_a_text_that_is_cut_short_is_refused(text: str, share: float) -> None:
    trees = text.partition("\nend of trees")[0]
    with pytest.raises(InvalidArgument, match=r"model\.txt"):
        forest.parse(trees[: int(len(trees) * share)])


def test_a_split_of_categories_that_are_not_there_is_refused() -> None:
    rng = np.random.default_rng(3)
    rows = table(rng, 200, 1, 1, 0.0, 0.0)
    booster = trained(rng, rows, [1], "regression", 1, num_leaves=4)
    good = booster.model_to_string()
    assert forest.parse(good).categorical == {1}
    for bad in (replaced(good, "cat_boundaries", "0 9"), good.replace("\nnum_cat=", "\nnum_cat=0\nwas=", 1)):
        with pytest.raises(InvalidArgument, match=r"categories that are not there|cat_boundaries"):
            forest.parse(bad)
