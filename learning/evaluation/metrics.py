"""Metrics of ranked lists, each per request, and bootstrap intervals of their means over requests."""

import numpy as np
from scipy.stats import rankdata

from services.core.columns import Array

RESAMPLES = 2000
CUT = 10


def auc(relevant: Array, scores: Array) -> float:
    """Area under the ROC curve of one request (equal scores count half); NaN without both kinds."""
    positive = relevant > 0
    p, n = int(positive.sum()), int((~positive).sum())
    if not p or not n:
        return float("nan")
    return float((rankdata(scores)[positive].sum() - p * (p + 1) / 2) / (p * n))


def ndcg(relevant: Array, scores: Array, cut: int = CUT) -> float:
    """Normalised discounted cumulative gain of one request's first `cut` by score, gains 0 or 1; NaN if none is
    relevant. Equal scores are ordered by a fixed shuffle, so that no order of the rows is rewarded.
    """
    positive = relevant > 0
    if not positive.any():
        return float("nan")
    shuffled = np.random.default_rng(len(scores)).permutation(len(scores))
    order = shuffled[np.argsort(-scores[shuffled], kind="stable")][:cut]
    discounts = 1 / np.log2(np.arange(2, cut + 2))
    ideal = discounts[: min(int(positive.sum()), cut)].sum()
    return float((positive[order] * discounts[: len(order)]).sum() / ideal)


def interval(values: Array, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float]:
    """95 % bounds of the mean by the percentile bootstrap over values (Efron); NaN are left out."""
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    random = np.random.default_rng(seed)
    means = [values[random.integers(0, len(values), len(values))].mean() for _ in range(resamples)]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def paired(values: Array, other: Array, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float]:
    """95 % bounds of the mean difference over the same requests."""
    return interval(values - other, resamples, seed)


def hit(relevant: Array, page: Array) -> float:
    """Whether any relevant id is on the page."""
    return float(np.isin(page, relevant).any())


def ndcg_of(relevant: Array, page: Array, cut: int) -> float:
    """Normalised discounted cumulative gain of a page of ids, of which `relevant` (distinct) have gain 1."""
    discounts = 1 / np.log2(np.arange(2, cut + 2))
    gained = float((np.isin(page[:cut], relevant) * discounts[: len(page[:cut])]).sum())
    return gained / float(discounts[: min(len(relevant), cut)].sum())
