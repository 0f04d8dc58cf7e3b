"""Features of a candidate within one request, from what its sources said of it."""

from collections.abc import Mapping
from enum import IntEnum

import numpy as np

from services.columns import F32, I64, U8, Array

DAY_MS = 86_400_000
HOUR_MS = 3_600_000


class Origin(IntEnum):
    """Which kind of source found a candidate."""

    FOLLOWING = 0
    INTEREST = 1
    PICKED = 2
    POPULAR = 3
    FRESH = 4
    WALKED = 5


NAMES = (
    "origin",
    "light_below_best",
    "rank_in_source",
    "source_weight",
    "sources_found",
    "nearness",
    "saved_age_days",
    "hour",
)
CATEGORICAL = frozenset({"origin"})


def columns(
    origin: U8, light: F32, weight: F32, found: Array, nearness: F32, at_ms: I64, now_ms: int
) -> Mapping[str, F32]:
    """float32[n] for each of NAMES. origin: Origin of each row; weight: of the board, interest or walk that led to it;
    found: by how many sources; nearness: of the walks' best score the share of this pin's, NaN where none passed it;
    at_ms: when it was saved where it was found, 0: not known. The feature `nearness` is the logarithm.
    """
    n = len(origin)
    below, rank, share = np.zeros(n, np.float32), np.zeros(n, np.float32), np.zeros(n, np.float32)
    for kind in np.unique(origin).tolist():
        rows = np.flatnonzero(origin == kind)
        below[rows] = light[rows] - light[rows].max()
        rank[rows[np.argsort(-light[rows], kind="stable")]] = np.arange(len(rows)) / len(rows)
        share[rows] = weight[rows] / max(float(weight[rows].max()), 1e-30)
    return {
        "origin": origin.astype(np.float32),
        "light_below_best": below,
        "rank_in_source": rank,
        "source_weight": share,
        "sources_found": found.astype(np.float32),
        "nearness": np.log(nearness),
        "saved_age_days": np.where(at_ms > 0, (now_ms - at_ms) / DAY_MS, np.nan).astype(np.float32),
        "hour": np.full(n, now_ms // HOUR_MS % 24, np.float32),
    }
