"""Features of a user and a pin together: how the user's affinities meet the pin's interests."""

from collections.abc import Mapping

import numpy as np

from features.kernel import meet
from services.core.columns import F32, U64

NAMES = ("affinity_sum", "affinity_max", "affinity_min", "affinity_share")


def columns(interests: U64, affinities: F32, of_pins: U64) -> Mapping[str, F32]:
    """float32[n] for each of NAMES.

    interests: uint64[m], the user's; affinities: float32[m], of any scale: they count relative to the sum of their
    sizes; of_pins: uint64[n, k], 0: none.
    """
    found = np.zeros((len(NAMES), len(of_pins)), np.float32)
    scale = float(np.abs(affinities).sum())
    if len(interests) and scale > 0:
        order = np.argsort(interests)
        meet(interests[order], affinities[order] / np.float32(scale), np.ascontiguousarray(of_pins), found)
    return dict(zip(NAMES, found, strict=True))
