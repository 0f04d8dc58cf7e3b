"""Windows of time as runs of buckets, and which of them may be asked for. Plain arithmetic."""

from typing import NamedTuple

import numpy as np

from counters.layout import DAY, EVER, HOUR, HOUR_MS, KEPT, SIZE_MS
from services.core.clock import DAY_MS
from services.core.columns import I64

ALLOWED = "whole hours up to 7 days, whole days up to 90, in milliseconds, or 0 for ever"


class Runs(NamedTuple):
    """Of w windows: the level of their buckets and the numbers of the first and last, both included. int64[w] each."""

    level: I64
    first: I64
    last: I64


def is_window(window_ms: int) -> bool:
    """Whether there are buckets for it."""
    hours, days = KEPT[HOUR] * HOUR_MS, KEPT[DAY] * DAY_MS
    if window_ms <= hours:
        return window_ms >= 0 and window_ms % HOUR_MS == 0
    return window_ms <= days and window_ms % DAY_MS == 0


def first_kept(level: int, as_of_ms: int) -> int:
    """The number of the oldest bucket that has not expired: that starts after that time less the kept span."""
    return as_of_ms // SIZE_MS[level] - KEPT[level] + 1


def runs(windows_ms: I64, now_ms: int, as_of_ms: int) -> Runs:
    """The buckets that start after now - window, not after now, and have not expired as of some time.

    So a window of h hours is the h newest hour buckets, the one under way included, and likewise of days. EVER is one
    bucket, whatever now is.
    """
    ever = windows_ms == 0
    level = np.select([ever, windows_ms <= KEPT[HOUR] * HOUR_MS], [EVER, HOUR], DAY)
    size = np.where(level == DAY, DAY_MS, HOUR_MS)
    kept = np.where(level == DAY, first_kept(DAY, as_of_ms), first_kept(HOUR, as_of_ms))
    first = np.maximum((now_ms - windows_ms) // size + 1, kept)
    return Runs(level.astype(np.int64), np.where(ever, 0, first), np.where(ever, 0, now_ms // size))
