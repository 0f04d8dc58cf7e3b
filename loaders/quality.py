"""A pin's quality where no event states it: how well it was rated, or how often users who saw it saved it.

Both are means that are shrunk towards the mean of all pins, as if each pin had a few more average votes: the estimate of
an empirical Bayesian (Efron and Morris, 1975), and what rating sites call a Bayesian average. Without it a pin that one
person liked would be better than one that ninety of a hundred liked.
"""

import numpy as np

from loaders.hashes import mix
from loaders.interactions import Ints, popularity
from services.core.columns import F32, F64, I64, U64, Array, among
from services.core.events import Action

RATINGS = 5.0  # of the average pin that each pin is given besides its own
VIEWS = 20.0


def shrunk(sums: F64, counts: F64, prior: float) -> F64:
    """float64[n]: (sum + prior * mean) / (count + prior), where mean is that of all pins together; 0 without counts."""
    total = float(counts.sum())
    mean = float(sums.sum()) / total if total else 0.0
    return np.asarray((sums + prior * mean) / (counts + prior), np.float64)


def of_ratings(pins: Ints, rated: Ints, ratings: F64) -> F32:
    """float32[len(pins)] in 0..1: each pin's shrunk mean of ratings, where 0 is the lowest rating given and 1 the highest.

    pins: sorted and distinct. rated, ratings: one row a rating of a pin.
    """
    low, high = float(ratings.min(initial=np.inf)), float(ratings.max(initial=-np.inf))
    if not high > low:
        return popularity(pins, rated)
    slots = np.searchsorted(pins, rated)
    sums: F64 = np.bincount(slots, (ratings - low) / (high - low), len(pins)).astype(float)
    return shrunk(sums, np.bincount(slots, minlength=len(pins)).astype(float), RATINGS).astype(np.float32)


def of_saves(saves: F64, views: F64) -> F32:
    """float32[n] in 0..1: each pin's shrunk rate of saves among views, over that of the best pin.

    saves, views: float64[n] counts by pin. Where nothing was seen, log(1 + saves) over that of the most saved pin.
    """
    if not views.any():
        return np.asarray(np.log1p(saves) / np.log1p(max(float(saves.max(initial=0)), 1)), np.float32)
    rates = shrunk(saves, np.maximum(views, saves), VIEWS)  # a user who saved it saw it
    return np.asarray(rates / max(float(rates.max(initial=0)), 1e-9), np.float32)


class Votes:
    """Counts the users who saw and who saved each of the pins (uint64[n], sorted and distinct), a run of events after the other.

    A user's second save of a pin does not count, their second look does.
    """

    def __init__(self, pins: U64) -> None:
        self.pins = pins
        self._views = np.zeros(len(pins))
        self._savers: list[U64] = []
        self._saved: list[I64] = []

    def add(self, action: Array, user: U64, pin: U64) -> None:
        """Some more rows, of any action."""
        known = among(pin, self.pins)
        slots = np.searchsorted(self.pins, pin)
        self._views += np.bincount(slots[known & (action == Action.IMPRESSION)], minlength=len(self.pins))
        saved = known & (action == Action.SAVE)
        self._savers.append(mix(user[saved]) ^ pin[saved])
        self._saved.append(slots[saved])

    def quality(self) -> F32:
        """float32[len(pins)]: of_saves of the counts."""
        slots = np.concatenate([*self._saved, np.empty(0, np.int64)])
        _, first = np.unique(np.concatenate([*self._savers, np.empty(0, np.uint64)]), return_index=True)
        return of_saves(np.bincount(slots[first], minlength=len(self.pins)).astype(float), self._views)
