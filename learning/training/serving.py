"""A new model beside the one that serves, on the same requests and candidates of the later period.

The one that serves may have learned from a part of that period: only requests that are later than its samples
are compared. Its scores are those that scorpion gives, from the rows that the replay has recorded.
"""

from typing import NamedTuple

import numpy as np

from features.catalogue import CATALOGUE
from learning.training import judge
from learning.training.samples import FEATURES, Samples
from scorpion.layout import Comparison, MetricMean
from scorpion.registry import CheckedModel, Ref
from services.core.columns import F32, F64

NO_PAST = "it reads columns of datasets, which have no past: {}"
ALL_LEARNED = "it has learned from the whole period"
FAVOURED = (
    "on pages that people saw, which favours the model that ordered them; `feedmesh model train --from replay` does not"
)


class Serving(NamedTuple):
    """The model that serves."""

    ref: Ref
    model: CheckedModel


def compared(samples: Samples, scores: F64, other: Serving, seen: bool) -> Comparison:
    """scores: of the new model, float64[n]; seen: whether the samples are pages that people saw."""
    if other.model.datasets:
        return _not_compared(other, NO_PAST.format(", ".join(other.model.datasets)))
    judged = other.model.manifest.evaluation
    later = samples.at_ms >= (judged.from_ms if judged else 0)
    rest, own = samples.requests(later), scores[np.repeat(later, samples.sizes)]
    if not rest.answered:
        return _not_compared(other, ALL_LEARNED)
    difference, users = judge.difference(rest, own, other.model.score(rows_of(other.model, rest.rows)))
    return Comparison(
        model=str(other.ref),
        difference=difference,
        users=users,
        verdict=judge.verdict(difference, users),
        needed_requests=judge.needed(difference),
        note=FAVOURED if seen else "",
    )


def rows_of(model: CheckedModel, rows: F32) -> F32:
    """float32[n, features of the model], of rows of the whole catalogue: its columns, in its order, with its defaults."""
    at = [FEATURES.index(feature.name) for feature in model.features if feature.name in CATALOGUE]
    defaults = np.array([feature.default for feature in model.features], np.float32)
    chosen = rows[:, at]
    return np.ascontiguousarray(np.where(np.isnan(chosen), defaults, chosen), np.float32)


def _not_compared(other: Serving, why: str) -> Comparison:
    return Comparison(model=str(other.ref), difference=MetricMean(value=None, requests=0), note=why)
