"""The rows that a model scores: its features, in its order, from everything that is stated about a request."""

from collections.abc import Mapping, Sequence

import numpy as np

from features import catalogue, crosses, pins
from features.catalogue import Feature, Source
from features.kernel import fill, place
from features.pins import KEPT_AT, PinFacts
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
    rows = np.empty((len(known.values), len(features)), np.float32)
    rows[:] = [user.get(f.name, f.default) if f.source is Source.USER else f.default for f in features]
    kept = [(i, KEPT_AT[f.name]) for i, f in enumerate(features) if f.name in KEPT_AT]
    to, of = np.array(kept, np.int64).reshape(-1, 2).T.copy()
    place(rows, to, known.values, of)
    crossed: Mapping[str, F32] = {}
    if any(f.source is Source.CROSS for f in features):
        crossed = crosses.columns(interests, affinities, known.interests)
    for i, f in enumerate(features):
        if f.source is Source.CROSS:
            rows[:, i] = crossed[f.name]
        elif f.source is Source.REQUEST and f.name in request:
            rows[:, i] = request[f.name]
        elif f.name in pins.COMPUTED:
            rows[:, i] = pins.column(f.name, known.values, now_ms)
        elif f.name in datasets:
            rows[:, i] = datasets[f.name]
    fill(rows, np.array([f.default for f in features], np.float32))
    return rows


def warm() -> None:
    """Compile what assembles, or load it: the first request need not wait for it."""
    every, one = list(catalogue.CATALOGUE.values()), np.ones(1, np.uint64)
    for columns in (0, 1):  # of datasets, beside which facts are no array of their own
        kept = np.zeros((2, len(pins.KEPT) + columns), np.float32)[:, : len(pins.KEPT)]
        facts = PinFacts(kept, np.zeros((2, pins.INTERESTS), np.uint64))
        assemble(every, {}, one, np.ones(1, np.float32), {}, facts, {}, 0)
