"""Fits a model to samples and says how good it is on a later period, beside what needs no model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve

from features.catalogue import Feature
from services.columns import F32, Array
from services.errors import InvalidArgument
from training.events import Progress
from training.replay import ALL_FEATURES
from training.samples import FEATURES, Periods, Samples

LEAST_POSITIVES = 50
LEAST_REQUESTS = 20  # with a positive row, of each period
GOLDEN_ROWS = 64
BINS = 10
CUT = 10
COMMON = {
    "learning_rate": 0.02,
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
TREES, PATIENCE = 400, 100


@dataclass(frozen=True, slots=True)
class Quality:
    """auc: over all rows; request_auc: mean over requests; ndcg: mean over requests, of the first CUT."""

    auc: float
    request_auc: float
    ndcg: float


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

    @property
    def metrics(self) -> dict[str, float]:
        """For the manifest: of the model, then of what it is compared with."""
        found: dict[str, float] = {}
        for method, quality in self.quality.items():
            prefix = "" if method == "model" else f"{method}_"
            found |= {
                f"{prefix}auc": quality.auc,
                f"{prefix}ndcg@{CUT}": quality.ndcg,
                f"{prefix}request_auc": quality.request_auc,
            }
            if method == "model":
                found["ece"] = self.ece
        return {name: round(value, 6) for name, value in found.items() if np.isfinite(value)}


def check(periods: Periods) -> None:
    """Raise InvalidArgument when there is too little to learn from or to judge by, with how much is needed."""
    for name in ("train", "valid", "test"):
        samples: Samples = getattr(periods, name)
        few = samples.answered < LEAST_REQUESTS or (name == "train" and samples.positives < LEAST_POSITIVES)
        if few:
            needed = f"{LEAST_REQUESTS} requests with a positive candidate"
            needed += f" and {LEAST_POSITIVES} positive candidates" if name == "train" else ""
            raise InvalidArgument(
                f"too few samples to {name} on: {len(samples.sizes)} requests, {samples.answered} with a positive "
                f"candidate, {samples.positives} positive candidates; at least {needed} are needed. More history, "
                "more --samples or a longer --horizon gives more"
            )


def train(periods: Periods, progress: Progress, objectives: Sequence[str] = tuple(OBJECTIVES)) -> Trained:
    """The objective that orders the validation best, and its quality on the test. Raises InvalidArgument."""
    check(periods)
    boosters: dict[str, Any] = {}
    tried: dict[str, float] = {}
    for i, objective in enumerate(objectives):
        progress("training", i, len(objectives))
        boosters[objective] = fit(periods, objective)
        tried[objective] = ndcg(periods.valid, boosters[objective].predict(periods.valid.rows))
    progress("training", len(objectives), len(objectives))
    best = max(tried, key=lambda name: tried[name])
    return judged(boosters[best], best, tried, periods)


def fit(periods: Periods, objective: str) -> Any:
    """A booster of at most TREES trees, stopped when validation gets no better."""
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
    return lightgbm.train(parameters, made[0], TREES, valid_sets=[made[1]], callbacks=[stop])


def judged(booster: Any, objective: str, tried: Mapping[str, float], periods: Periods) -> Trained:
    """The model and the baselines on the test's rows."""
    test = periods.test
    scores = np.asarray(booster.predict(test.rows), np.float64)
    methods = {"model": scores, **baselines(test)}
    chances = scores if objective == "binary" else _platt(booster, periods.valid)(scores)
    predicted, observed, ece = calibration(test.label, chances)
    return Trained(
        booster,
        ALL_FEATURES,
        objective,
        tried,
        {name: quality(test, values) for name, values in methods.items()},
        ece,
        (predicted, observed),
        {name: roc_curve(test.label, values)[:2] for name, values in methods.items()},
        golden_rows(periods.valid),
    )


def baselines(samples: Samples) -> dict[str, Array]:
    """Scores that need no model, of the same rows."""
    age = samples.column("pin_age_days")
    return {
        "light": samples.light,
        "popularity": np.nan_to_num(samples.column("pin_saves_ever"), nan=-1.0),
        "recency": -np.nan_to_num(age, nan=1e9),
    }


def quality(samples: Samples, scores: Array) -> Quality:
    """Of scores float[n]."""
    return Quality(float(roc_auc_score(samples.label, scores)), request_auc(samples, scores), ndcg(samples, scores))


def request_auc(samples: Samples, scores: Array) -> float:
    """Mean over requests with both kinds of rows."""
    return _mean(samples, scores, _auc)


def ndcg(samples: Samples, scores: Array) -> float:
    """NDCG@CUT, the mean over requests with a positive row; equal scores share the mean of their places' discounts."""
    return _mean(samples, scores, _ndcg)


def _mean(samples: Samples, scores: Array, metric: Callable[[Array, Array], float]) -> float:
    values = []
    for start, size in zip(samples.starts.tolist(), samples.sizes.tolist(), strict=True):
        label = samples.label[start : start + size]
        if label.any() and not label.all():
            values.append(metric(label, scores[start : start + size]))
    return float(np.mean(values)) if values else float("nan")


def _auc(label: Array, scores: Array) -> float:
    return float(roc_auc_score(label, scores))


def _ndcg(label: Array, scores: Array) -> float:
    """As sklearn's ndcg_score, at a tenth of its time on a thousand rows."""
    _, _first, of, count = np.unique(-scores, return_index=True, return_inverse=True, return_counts=True)
    discount = np.zeros(len(scores))
    discount[:CUT] = 1 / np.log2(np.arange(2, min(CUT, len(scores)) + 2))
    ends = np.cumsum(count)
    total = np.concatenate([[0.0], np.cumsum(discount)])
    shared = (total[ends] - total[ends - count]) / count
    gained = float((label * shared[of]).sum())
    return gained / float(discount[: int(label.sum())].sum())


def calibration(label: Array, chances: Array) -> tuple[Array, Array, float]:
    """(predicted, observed) means of BINS bins of equal size, and the expected calibration error over them."""
    observed, predicted = calibration_curve(label, np.clip(chances, 0, 1), n_bins=BINS, strategy="quantile")
    return predicted, observed, float(np.abs(observed - predicted).mean())


def _platt(booster: Any, valid: Samples) -> Callable[[Array], Array]:
    """A ranking score as a chance (Platt, 1999), fitted on validation."""
    fitted = LogisticRegression(C=1e6).fit(booster.predict(valid.rows)[:, None], valid.label)
    return lambda scores: np.asarray(fitted.predict_proba(scores[:, None])[:, 1])


def golden_rows(samples: Samples) -> F32:
    """Rows by which whoever takes the model checks it: some of each request, and rows with everything missing."""
    random = np.random.default_rng(1)
    rows = samples.rows[np.sort(random.permutation(len(samples))[:GOLDEN_ROWS])].copy()
    holes = random.random(rows.shape) < 0.3
    rows[::4][holes[::4]] = np.nan
    return np.concatenate([rows, np.full((1, rows.shape[1]), np.nan, np.float32)])
