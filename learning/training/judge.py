"""How good an order is on a later period, beside orders that need no model, and which of them is better.

Every method orders the same candidates of the same requests. A difference is taken request by request, and its interval
is a bootstrap over users (Efron; of clusters, Davison and Hinkley 1997): the requests of one user are alike.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata
from sklearn.metrics import roc_auc_score

from learning.training.samples import LIGHT, Samples
from scorpion.layout import Evaluation, MetricMean, Verdict
from scorpion.verdict import in_words
from services.core.columns import Array

CUT = 10
RESAMPLES = 2000
DECIDING = f"ndcg@{CUT}"  # the metric by which one method is better than another
MODEL, POPULARITY, RECENCY, NEIGHBOURS = "model", "popularity", "recency", "item-knn"
#: The methods that a model is compared with. An order as served is reported and decides nothing: people engage with a page's top.
BASELINES = (POPULARITY, RECENCY, LIGHT, NEIGHBOURS)
LEAST_USERS = 10  # below it an interval over users says nothing
POWER = 0.8  # of the number of requests that would be needed
MANY = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Quality:
    """auc: over all rows; values: by metric, float64[r] of each request that has rows of both kinds."""

    auc: float
    values: Mapping[str, Array]

    @property
    def ndcg(self) -> float:
        """The mean over requests, of the first CUT."""
        return _mean(self.values[DECIDING])

    @property
    def request_auc(self) -> float:
        """The mean over requests."""
        return _mean(self.values["request_auc"])


def quality(samples: Samples, scores: Array) -> Quality:
    """Of scores float[n]."""
    found: dict[str, list[float]] = {"request_auc": [], DECIDING: []}
    for rows in _informative(samples):
        label = samples.label[rows]
        found["request_auc"].append(_auc(label, scores[rows]))
        found[DECIDING].append(_ndcg(label, scores[rows]))
    both = 0 < samples.positives < len(samples)
    auc = float(roc_auc_score(samples.label, scores)) if both else float("nan")
    return Quality(auc, {name: np.array(values, np.float64) for name, values in found.items()})


def ndcg(samples: Samples, scores: Array) -> float:
    """The mean NDCG over requests with rows of both kinds; NaN when there is none."""
    return _mean(np.array([_ndcg(samples.label[rows], scores[rows]) for rows in _informative(samples)]))


def baselines(samples: Samples) -> dict[str, Array]:
    """Scores that need no model and no history, of the same rows."""
    age = samples.column("pin_age_days")
    return {
        samples.light_name: samples.light,
        POPULARITY: np.nan_to_num(samples.column("pin_saves_ever"), nan=-1.0),
        RECENCY: -np.nan_to_num(age, nan=1e9),
    }


def evaluation(samples: Samples, found: Mapping[str, Quality]) -> Evaluation:
    """The metrics of all methods, and whether the model is better than the best baseline."""
    resampled = _Resampled(samples)
    methods = {
        name: {"auc": MetricMean(value=_finite(one.auc), requests=len(samples.sizes))}
        | {metric: resampled.figure(values) for metric, values in one.values.items()}
        for name, one in found.items()
    }
    best = max((name for name in BASELINES if name in found), key=lambda name: _order(found[name].ndcg))
    less = found[MODEL].values[DECIDING] - found[best].values[DECIDING]
    difference = resampled.figure(less)
    judged = Evaluation(
        metric=DECIDING,
        requests=len(less),
        users=resampled.users,
        methods=methods,
        best_baseline=best,
        difference=difference,
        verdict=verdict(difference, resampled.users),
        needed_requests=needed(difference),
        from_ms=int(samples.at_ms.min()),
    )
    judged.words = in_words(judged)
    return judged


def difference(samples: Samples, own: Array, other: Array) -> tuple[MetricMean, int]:
    """Of two orders, by scores float[n]: how much more of the deciding metric the first one reaches, and the users."""
    values = [
        np.array([_ndcg(samples.label[rows], scores[rows]) for rows in _informative(samples)])
        for scores in (own, other)
    ]
    resampled = _Resampled(samples)
    return resampled.figure(values[0] - values[1]), resampled.users


def verdict(difference: MetricMean, users: int) -> Verdict:
    """Whether the interval of a difference lies above 0, below it, or over it."""
    if difference.low is None or difference.high is None or users < LEAST_USERS:
        return Verdict.UNDECIDED
    if difference.low > 0:
        return Verdict.BETTER
    return Verdict.WORSE if difference.high < 0 else Verdict.UNDECIDED


def needed(difference: MetricMean) -> int:
    """About how many requests detect such a difference, four times in five; at most MANY."""
    if difference.value is None or difference.low is None or difference.high is None:
        return 0
    half = (difference.high - difference.low) / 2
    times = (half / max(abs(difference.value), 1e-9)) ** 2 * (1 + norm.ppf(POWER) / norm.ppf(0.975)) ** 2
    return min(MANY, math.ceil(difference.requests * float(times)))


class _Resampled:
    """2000 draws of the users of the requests that distinguish methods, the same for every metric and method."""

    def __init__(self, samples: Samples) -> None:
        _, self._of = np.unique(samples.user[samples.informative], return_inverse=True)
        self.users = int(self._of.max()) + 1 if len(self._of) else 0

    def figure(self, values: Array) -> MetricMean:
        """The mean of float64[r] with its 95 % interval."""
        if self.users < 2:
            return MetricMean(value=float(values.mean()) if len(values) else None, requests=len(values))
        sums = np.bincount(self._of, values, self.users)
        counts = np.bincount(self._of, minlength=self.users).astype(np.float64)
        random, means = np.random.default_rng(0), []
        for _ in range(RESAMPLES):
            drawn = np.bincount(random.integers(0, self.users, self.users), minlength=self.users)
            means.append(float(drawn @ sums) / float(drawn @ counts))
        low, high = np.percentile(means, (2.5, 97.5)).tolist()
        return MetricMean(value=float(values.mean()), low=low, high=high, requests=len(values))


def _informative(samples: Samples) -> list[slice]:
    starts, sizes = samples.starts, samples.sizes
    return [slice(int(starts[i]), int(starts[i] + sizes[i])) for i in np.flatnonzero(samples.informative)]


def _auc(label: Array, scores: Array) -> float:
    """As sklearn's roc_auc_score of both kinds of labels, at a tenth of its time."""
    positive = int(label.sum())
    ranks = rankdata(scores)[label.astype(bool)].sum()
    return float((ranks - positive * (positive + 1) / 2) / (positive * (len(label) - positive)))


def _ndcg(label: Array, scores: Array) -> float:
    """As sklearn's ndcg_score, at a tenth of its time on a thousand rows: equal scores share the mean of their places'
    discounts.
    """
    _, _first, of, count = np.unique(-scores, return_index=True, return_inverse=True, return_counts=True)
    discount = np.zeros(len(scores))
    discount[:CUT] = 1 / np.log2(np.arange(2, min(CUT, len(scores)) + 2))
    ends = np.cumsum(count)
    total = np.concatenate([[0.0], np.cumsum(discount)])
    shared = (total[ends] - total[ends - count]) / count
    gained = float((label * shared[of]).sum())
    return gained / float(discount[: int(label.sum())].sum())


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _order(value: float) -> float:
    return value if math.isfinite(value) else -math.inf
