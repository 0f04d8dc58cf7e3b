"""The objects that everybody saves."""

from typing import NamedTuple

import numpy as np

from counters.client import CountersClient
from services.core.clock import DAY_MS
from services.core.columns import F32, U64
from services.core.events import Action, Kind

WEEK_MS, EVER_MS = 7 * DAY_MS, 0


class Saved(NamedTuple):
    """Objects, most saved first. shares: float32[n], of the saves of the first, in (0, 1]."""

    objects: U64
    shares: F32


async def most_saved(counters: CountersClient, kind: Kind, k: int, now_ms: int, timeout: float) -> Saved:
    """The k objects saved most often in the last 7 days; when these are fewer, then those saved most often ever."""
    week = await counters.top(kind, Action.SAVE, WEEK_MS, k, now_ms=now_ms, timeout=timeout)
    if len(week.objects) >= k:
        return Saved(week.objects, _shares(week.counts))
    ever = await counters.top(kind, Action.SAVE, EVER_MS, k, now_ms=now_ms, timeout=timeout)
    more = ~np.isin(ever.objects, week.objects)
    shares = _shares(week.counts)
    below = shares.min(initial=1)
    return Saved(
        np.concatenate([week.objects, ever.objects[more]])[:k],
        np.concatenate([shares, below * _shares(ever.counts[more])])[:k],
    )


def _shares(counts: F32) -> F32:
    return np.asarray(counts / counts.max(initial=1), np.float32)
