"""The rows that a model scores: its features, in its order, from everything that is stated about a request."""

from collections.abc import Mapping, Sequence

import numpy as np

from features import catalogue, crosses, pins
from features.catalogue import Feature, Source
from features.pins import PinFacts
from services.columns import F32, U64


def assemble(
    features: Sequence[Feature],
    user: Mapping[str, float],
    interests: U64,
    affinities: F32,
    request: Mapping[str, F32],
    known: PinFacts,
    datasets: Mapping[str, F32],
    now_ms: int,
) -> F32:
    """float32[n, len(features)]; a feature that nobody states, or that is NaN, has its default.

    user: values by name; interests, affinities: the user's; request: float32[n] by name; known: of the n pins;
    datasets: float32[n] by `dataset.column`.
    """
    n = len(known.values)
    crossed: Mapping[str, F32] = {}
    if any(f.source is Source.CROSS for f in features):
        crossed = crosses.columns(interests, affinities, known.interests)
    rows = np.empty((n, len(features)), np.float32)
    for i, f in enumerate(features):
        if f.source is Source.USER:
            rows[:, i] = user.get(f.name, f.default)
        elif f.source is Source.REQUEST:
            rows[:, i] = request.get(f.name, f.default)
        elif f.source is Source.CROSS:
            rows[:, i] = crossed[f.name]
        elif f.name in catalogue.CATALOGUE:
            rows[:, i] = pins.column(f.name, known.values, now_ms)
        else:
            rows[:, i] = datasets.get(f.name, f.default)
        if not np.isnan(f.default):
            np.copyto(rows[:, i], np.float32(f.default), where=np.isnan(rows[:, i]))
    return rows
