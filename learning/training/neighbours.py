"""Item-KNN, a baseline without a model: how near a candidate is to the pins that its user had engaged with before."""

from collections.abc import Collection
from typing import Any

import numpy as np
import scipy.sparse as sp

from learning.training.samples import Samples
from services.core.columns import F32, U64, Array
from services.core.events import Action, Batch, flags

POPULARITY = 1e-9  # decides between candidates that are equally near


class Neighbours:
    """Cosines of pins by the users who engaged with them, each user counted once (Sarwar et al., WWW 2001)."""

    def __init__(self, events: Batch, actions: Collection[Action]) -> None:
        """events: in order of time; actions: those that count."""
        rows = np.flatnonzero(flags(*actions)[events.action])
        self._users, self._user = np.unique(events.user[rows], return_inverse=True)
        self._pins, self._pin = np.unique(events.pin[rows], return_inverse=True)
        self._at_ms = events.at_ms[rows]

    def scores(self, samples: Samples) -> F32:
        """float32[n]: the sum of the cosines of each row's pin with the pins that its user had engaged with strictly
        before the request; 0 for a pin that was not known by then.
        """
        found = np.zeros(len(samples), np.float32)
        for at_ms in np.unique(samples.at_ms).tolist():
            known = _Known(self, at_ms)
            for i in np.flatnonzero(samples.at_ms == at_ms).tolist():
                rows = slice(int(samples.starts[i]), int(samples.starts[i] + samples.sizes[i]))
                found[rows] = known.near(samples.user[i], samples.pin[rows])
        return found

    def before(self, at_ms: int) -> Any:
        """Sparse float64 users by pins: 1 where a user had engaged with a pin strictly before a moment."""
        n = int(np.searchsorted(self._at_ms, at_ms))
        shape = (len(self._users), len(self._pins))
        saves = sp.csr_array((np.ones(n), (self._user[:n], self._pin[:n])), shape=shape)
        saves.sum_duplicates()
        saves.data[:] = 1.0
        return saves

    def user_at(self, user: int) -> int:
        """Where a user is; -1: not there."""
        return int(places(self._users, np.array([user], np.uint64))[0])

    def pins_at(self, pins: U64) -> Array:
        """int64[n]: where pins are; -1: not there."""
        return places(self._pins, pins)


class _Known:
    """The neighbours as of a moment."""

    def __init__(self, all_of: Neighbours, at_ms: int) -> None:
        self._all, self._saves = all_of, all_of.before(at_ms)
        self._popularity = np.asarray(self._saves.sum(axis=0), np.float64).ravel()
        self._norm = 1 / np.sqrt(np.maximum(self._popularity, 1))

    def near(self, user: int, pins: U64) -> Array:
        own, at = self._all.user_at(user), self._all.pins_at(pins)
        scores = np.zeros(len(self._norm))
        if own >= 0:
            row = self._saves[[own]]
            start = np.zeros(len(self._norm))
            start[row.indices] = self._norm[row.indices]
            scores = (self._saves.T @ (self._saves @ start)) * self._norm
        scores = scores + POPULARITY * self._popularity
        return np.where(at >= 0, scores[at], 0.0) if len(scores) else np.zeros(len(pins))


def places(ids: U64, wanted: U64) -> Array:
    """int64[n]: the places of ids among ascending ones; -1: not among them."""
    if not len(ids):
        return np.full(len(wanted), -1, np.int64)
    at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where(ids[at] == wanted, at, -1)
