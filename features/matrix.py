"""The rows that a model scores: its features, in its order, from everything that is stated about a request."""

from collections.abc import Mapping, Sequence

import numpy as np

from features import catalogue, crosses, pins
from features.catalogue import Feature, FeatureSource
from features.kernel import place
from features.pins import KEPT_AT, PinFeatures
from services.core.columns import F32, U64


class Assembler:
    """Makes the rows of one model: what does not depend on a request is worked out once."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self.names = [f.name for f in features]
        self.of_pins = any(f.source in (FeatureSource.PIN, FeatureSource.CROSS) for f in features)
        self._at = {name: i for i, name in enumerate(self.names)}
        self._defaults = np.array([f.default for f in features], np.float32)
        self._user = [f for f in features if f.source is FeatureSource.USER]
        self._user_at = [self._at[f.name] for f in self._user]
        kept = [(i, KEPT_AT[name]) for i, name in enumerate(self.names) if name in KEPT_AT]
        self._kept_to, self._kept_of = np.array(kept, np.int64).reshape(-1, 2).T.copy()
        self._crossed = any(f.source is FeatureSource.CROSS for f in features)
        self._computed = any(name in pins.COMPUTED for name in self.names)

    def rows(
        self,
        user: Mapping[str, float],
        interests: U64,
        affinities: F32,
        request: Mapping[str, F32],
        known: PinFeatures,
        datasets: Mapping[str, F32],
        now_ms: int,
    ) -> F32:
        """float32[n, len(features)]; a feature that no service states, or that is NaN, has its default.

        user: values by name; interests, affinities: the user's; request: float32[n] by name; known: of the n pins;
        datasets: float32[n] by `dataset.column`.
        """
        n, columns = len(known.values), {**request, **datasets}
        if self._computed:
            columns |= pins.computed(known.values, now_ms)
        if self._crossed:
            columns |= crosses.columns(interests, affinities, known.interests)
        stated = [name for name in columns if name in self._at]
        values = np.array([columns[name] for name in stated], np.float32).reshape(len(stated), n)
        to = np.array([self._at[name] for name in stated], np.int64)
        first = self._defaults.copy()
        first[self._user_at] = [user.get(f.name, f.default) for f in self._user]
        rows = np.empty((n, len(first)), np.float32)
        place(rows, first, known.values, self._kept_of, self._kept_to, values, to, self._defaults)
        return rows


def warm() -> None:
    """Compile what assembles, or load it: the first request need not wait for it."""
    every, one = list(catalogue.CATALOGUE.values()), np.ones(1, np.uint64)
    for columns in (0, 1):  # of datasets, beside which these are no array of their own
        kept = np.zeros((2, len(pins.KEPT) + columns), np.float32)[:, : len(pins.KEPT)]
        known = PinFeatures(kept, np.zeros((2, pins.INTERESTS), np.uint64))
        Assembler(every).rows({}, one, np.ones(1, np.float32), {}, known, {}, 0)
