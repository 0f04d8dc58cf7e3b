"""Small models for the tests of scorpion, trained by LightGBM and written as training writes them."""

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np

from features import catalogue
from features.catalogue import Feature
from scorpion import registry
from scorpion.registry import CheckedModel
from services.core.columns import F32

NAMES = (
    *("user_interests", "origin", "rank_in_source", "pin_age_days", "pin_quality", "pin_saves_7d"),
    *("pin_impressions_ever", "pin_save_rate_ever", "affinity_sum", "affinity_share"),
)
NOW = 1_750_000_000_000


def features_of(names: tuple[str, ...]) -> list[Feature]:
    return [catalogue.feature(name) for name in names]


def rows_of(features: list[Feature], n: int, seed: int) -> F32:
    """float32[n, f], some of it missing; codes of categories are small."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, len(features))).astype(np.float32) * 3
    for i, f in enumerate(features):
        if f.categorical:
            rows[:, i] = rng.integers(0, 5, n)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    return rows


def booster_of(features: list[Feature], seed: int = 1, **parameters: Any) -> lightgbm.Booster:
    """A model that leans on every feature a little."""
    rows = rows_of(features, 600, seed)
    rng = np.random.default_rng(seed)
    signal = np.nan_to_num(rows) @ rng.normal(size=len(features)) + rng.normal(size=len(rows))
    how = {"objective": "binary", "num_leaves": 15, "min_data_in_leaf": 5, "min_data_per_group": 5, "cat_smooth": 1}
    names, trees = [f.name for f in features], parameters.pop("trees", 12)
    codes = [f.name for f in features if f.categorical]
    data = lightgbm.Dataset(rows, signal > 0, feature_name=names, categorical_feature=codes)
    return lightgbm.train({**how, "verbose": -1, "num_threads": 1, "seed": seed, **parameters}, data, trees)


def written(
    folder: Path, seed: int = 1, names: tuple[str, ...] = NAMES, name: str = "ranker", **parameters: Any
) -> CheckedModel:
    """A model's folder, as training writes it."""
    features = features_of(names)
    booster = booster_of(features, seed, **parameters)
    golden = rows_of(features, 20, seed + 1)
    return registry.write(
        folder, booster, features, golden, name=name, trained_ms=NOW, metrics={"auc": 0.71}, inputs={"seed": seed}
    )
