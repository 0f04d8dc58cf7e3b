"""What everybody saves: the same for all users, so it is asked for once in a while and not for every page."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from counters.client import CountersClient
from services.core.clock import DAY_MS
from services.core.columns import F32, U64
from services.core.events import Action, Kind

T = TypeVar("T")
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


@dataclass(slots=True)
class Kept(Generic[T]):
    """An answer that is good for `keep_ms` of the clock of the requests, and until one request has asked for it again; 0:
    it is asked for each time.
    """

    keep_ms: int
    _since: int = -1
    _value: T | None = field(default=None)
    _asking: bool = False

    def at_hand(self, now_ms: int) -> T | None:
        """The answer as of now, or of `keep_ms` before; while somebody asks, the one before. None: it has to be asked for."""
        if not self.keep_ms or (now_ms // self.keep_ms != self._since and not self._asking):
            return None
        return self._value

    @property
    def latest(self) -> T | None:
        """The latest answer, whatever its age; None before the first one."""
        return self._value

    def is_due(self, now_ms: int) -> bool:
        """Whether it is old, and nobody asks again."""
        return not self._asking and (self._value is None or now_ms // max(self.keep_ms, 1) != self._since)

    async def get(self, now_ms: int, ask: Callable[[], Awaitable[T]]) -> T:
        """What is at hand, or else the answer as of now."""
        if (value := self.at_hand(now_ms)) is not None:
            return value
        if not self.keep_ms:
            self._value = await ask()
            return self._value
        self._asking = True
        try:
            value = await ask()
        finally:
            self._asking = False
        self._value, self._since = value, now_ms // self.keep_ms
        return value
