"""Features of a candidate within one request, from what its sources said of it."""

from collections.abc import Mapping
from enum import IntEnum

import numpy as np

from services.core.columns import F32, I64, U8, Array

DAY_MS = 86_400_000
HOUR_MS = 3_600_000


class CandidateOrigin(IntEnum):
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
    """float32[n] for each of NAMES. origin: CandidateOrigin of each row; weight: of the board, interest or walk that led to it;
    found: by how many sources; nearness: of the walks' best score the share of this pin's, NaN where none passed it;
    at_ms: when it was saved where it was found, 0: not known. The feature `nearness` is the logarithm.
    """
    from features.kernel import within_source  # noqa: PLC0415 - code that only reads a CandidateOrigin need not compile

    found_in = np.empty((len(NAMES), len(origin)), np.float32)
    is_of, below, rank, share, sources, near, age, hour = found_in
    light, weight = np.ascontiguousarray(light), np.ascontiguousarray(weight)
    within_source(np.ascontiguousarray(origin), light, weight, below, rank, share)
    is_of[:], sources[:], hour[:] = origin, found, now_ms // HOUR_MS % 24
    np.log(nearness, out=near)
    np.divide(now_ms - at_ms, DAY_MS, out=age, casting="same_kind")
    age[at_ms <= 0] = np.nan
    return dict(zip(NAMES, found_in, strict=True))


def warm() -> None:
    """Compile what this needs, or load it: the first request need not wait for it."""
    ones = np.ones(1, np.float32)
    columns(np.zeros(1, np.uint8), ones, ones, np.ones(1, np.uint8), ones, np.zeros(1, np.int64), 0)
