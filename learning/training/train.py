"""Fits a model to samples and says how good it is on a later period, beside what needs no model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import lightgbm
import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve

from features.catalogue import Feature
from learning.training import judge
from learning.training.events import Progress
from learning.training.judge import CUT, Quality
from learning.training.replay import ALL_FEATURES
from learning.training.samples import FEATURES, Periods, Samples
from scorpion.layout import Evaluation
from services.core.columns import F32, Array
from services.core.errors import TooLittle

LEAST_POSITIVES = 50
LEAST_REQUESTS = 20  # with a positive row, of each period
GOLDEN_ROWS = 64
MOST_RANKED = 10_000  # rows of a request that LightGBM's lambdarank takes
BINS = 10
COMMON = {
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.3,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 50.0,
    "max_bin": 255,
    "verbosity": -1,
    "seed": 1,
    "deterministic": True,
    "force_row_wise": True,
}
OBJECTIVES: Mapping[str, Mapping[str, Any]] = {
    "binary": {"objective": "binary"},
    "lambdarank": {"objective": "lambdarank", "lambdarank_truncation_level": 30, "label_gain": [0, 1]},
}
TREES, PATIENCE = 250, 50


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A booster, and how it did. curves: for the report; tried: NDCG on validation, by objective."""

    booster: Any
    features: Sequence[Feature]
    objective: str
    tried: Mapping[str, float]
    quality: Mapping[str, Quality]  # by method, on the test
    ece: float
    calibration: tuple[Array, Array]  # predicted, observed
    roc: Mapping[str, tuple[Array, Array]]
    golden: F32
    evaluation: Evaluation

    @property
    def metrics(self) -> dict[str, float]:
        """For the manifest: of the model, then of the methods that it is compared with."""
        found: dict[str, float] = {}
        for method, quality in self.quality.items():
            prefix = "" if method == judge.MODEL else f"{method}_"
            found |= {
                f"{prefix}auc": quality.auc,
                f"{prefix}ndcg@{CUT}": quality.ndcg,
                f"{prefix}request_auc": quality.request_auc,
            }
            if method == judge.MODEL:
                found["ece"] = self.ece
        return {name: round(value, 6) for name, value in found.items() if np.isfinite(value)}


def check(periods: Periods) -> None:
    """Raise TooLittle when there is too little to learn from or to judge by, with how much is needed."""
    for name in ("train", "valid", "test"):
        samples: Samples = getattr(periods, name)
        few = samples.answered < LEAST_REQUESTS or (name == "train" and samples.positives < LEAST_POSITIVES)
        if few:
            needed = f"{LEAST_REQUESTS} requests with a positive candidate"
            needed += f" and {LEAST_POSITIVES} positive candidates" if name == "train" else ""
            raise TooLittle(
                f"too few samples to {name} on: {len(samples.sizes)} requests, {samples.answered} with a positive "
                f"candidate, {samples.positives} positive candidates; at least {needed} are needed. More history, "
                "more --samples or a longer --horizon gives more"
            )


def train(
    periods: Periods,
    progress: Progress,
    objectives: Sequence[str] = tuple(OBJECTIVES),
    others: Mapping[str, Array] = MappingProxyType({}),
) -> Trained:
    """The objective that orders the validation best, and its quality on the test. Raises TooLittle.

    others: scores of the test's rows, by methods to compare with that know more than the rows.
    """
    check(periods)
    boosters: dict[str, Any] = {}
    tried: dict[str, float] = {}
    if max(periods.train.sizes.max(), periods.valid.sizes.max()) > MOST_RANKED:
        objectives = [objective for objective in objectives if objective != "lambdarank"]
    for i, objective in enumerate(objectives):
        report = partial(_report_trees, progress, i * TREES, len(objectives) * TREES)
        boosters[objective] = fit(periods, objective, report)
        tried[objective] = judge.ndcg(periods.valid, boosters[objective].predict(periods.valid.rows))
    progress("training", len(objectives) * TREES, len(objectives) * TREES)
    best = max(tried, key=lambda name: tried[name])
    return judged(boosters[best], best, tried, periods, others)


def _report_trees(progress: Progress, done: int, of: int, environment: Any) -> None:
    """LightGBM calls it after each tree."""
    progress("training", done + environment.iteration, of)


def fit(periods: Periods, objective: str, report: Callable[[Any], None]) -> Any:
    """A booster of at most TREES trees, stopped when validation gets no better. `report` is called after each tree."""
    made = []
    for samples in (periods.train, periods.valid):
        ranking = {"group": samples.sizes} if objective == "lambdarank" else {"weight": samples.weight}
        made.append(
            lightgbm.Dataset(
                samples.rows,
                samples.label,
                feature_name=FEATURES,
                categorical_feature=[f.name for f in ALL_FEATURES if f.categorical],
                free_raw_data=False,
                **ranking,
            )
        )
    ranked = {"metric": "ndcg", "eval_at": [CUT]} if objective == "lambdarank" else {"metric": "average_precision"}
    stop = lightgbm.early_stopping(PATIENCE, verbose=False)
    parameters = {**COMMON, **OBJECTIVES[objective], **ranked}
    return lightgbm.train(parameters, made[0], TREES, valid_sets=[made[1]], callbacks=[stop, report])


def judged(
    booster: Any, objective: str, tried: Mapping[str, float], periods: Periods, others: Mapping[str, Array]
) -> Trained:
    """The model and the baselines on the test's rows; others: scores of these rows by methods that need the history."""
    test = periods.test
    scores = np.asarray(booster.predict(test.rows), np.float64)
    methods = {judge.MODEL: scores, **judge.baselines(test), **others}
    chances = scores if objective == "binary" else _platt(booster, periods.valid)(scores)
    predicted, observed, ece = calibration(test.label, chances)
    found = {name: judge.quality(test, values) for name, values in methods.items()}
    return Trained(
        booster,
        ALL_FEATURES,
        objective,
        tried,
        found,
        ece,
        (predicted, observed),
        {name: roc_curve(test.label, values)[:2] for name, values in methods.items()},
        golden_rows(periods.valid),
        judge.evaluation(test, found),
    )


def calibration(label: Array, chances: Array) -> tuple[Array, Array, float]:
    """(predicted, observed) means of BINS bins of equal size, and the expected calibration error over them."""
    observed, predicted = calibration_curve(label, np.clip(chances, 0, 1), n_bins=BINS, strategy="quantile")
    return predicted, observed, float(np.abs(observed - predicted).mean())


def _platt(booster: Any, valid: Samples) -> Callable[[Array], Array]:
    """A ranking score as a chance (Platt, 1999), fitted on validation."""
    fitted = LogisticRegression(C=1e6).fit(booster.predict(valid.rows)[:, None], valid.label)
    return lambda scores: np.asarray(fitted.predict_proba(scores[:, None])[:, 1])


def golden_rows(samples: Samples) -> F32:
    """Rows by which the registry checks the model: some of each request, and rows with everything missing."""
    random = np.random.default_rng(1)
    rows = samples.rows[np.sort(random.permutation(len(samples))[:GOLDEN_ROWS])].copy()
    holes = random.random(rows.shape) < 0.3
    rows[::4][holes[::4]] = np.nan
    return np.concatenate([rows, np.full((1, rows.shape[1]), np.nan, np.float32)])
