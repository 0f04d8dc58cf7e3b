"""Features of a user and a pin together: how the user's affinities meet the pin's interests."""

from collections.abc import Mapping

import numpy as np

from services.columns import F32, U64

NAMES = ("affinity_sum", "affinity_max", "affinity_min", "affinity_share")


def columns(interests: U64, affinities: F32, of_pins: U64) -> Mapping[str, F32]:
    """float32[n] for each of NAMES.

    interests: uint64[m], the user's; affinities: float32[m], of any scale: they count relative to the sum of their
    sizes; of_pins: uint64[n, k], 0: none.
    """
    n, width = of_pins.shape
    met = np.zeros((n, width), np.float32)
    scale = float(np.abs(affinities).sum())
    if len(interests) and scale > 0:
        order = np.argsort(interests)
        known, values = interests[order], affinities[order] / np.float32(scale)
        at = np.minimum(np.searchsorted(known, of_pins), len(known) - 1)
        met = np.where(known[at] == of_pins, values[at], np.float32(0))
    has = (of_pins > 0).sum(axis=1)
    return {
        "affinity_sum": met.sum(axis=1, dtype=np.float32),
        "affinity_max": met.max(axis=1, initial=0),
        "affinity_min": met.min(axis=1, initial=0),
        "affinity_share": ((met > 0).sum(axis=1) / np.maximum(has, 1)).astype(np.float32),
    }
