"""Measures freshness end to end: publishes probes and asks every view, as any reader does, until it shows them.

Without a token, so what is measured is what a reader waits.
"""

import asyncio
import itertools
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from services.core.clock import wall_clock
from services.core.errors import MeshError
from services.core.probes import TURNS, pin_of

logger = logging.getLogger(__name__)
POLL_S, LONGER = 0.005, 0.2  # between two questions; as a view takes longer, a fifth of what it has taken
LOST_S = 10.0

Shows = Callable[[int, int], Awaitable[bool]]  # does the view show the probe's pin, published at_ms?
Publish = Callable[[int, int], Awaitable[None]]  # a turn, and when it is


@dataclass(slots=True)
class Freshness:
    """Of one view: milliseconds from publish to shown, of the latest samples. lost: not shown in time by a view that answered
    then, or before; one that has never answered is still starting, and has lost nothing.
    """

    taken: deque[float] = field(default_factory=lambda: deque(maxlen=256))
    samples: int = 0
    lost: int = 0

    @property
    def last_ms(self) -> float:
        """The latest sample; 0 before there is one."""
        return self.taken[-1] if self.taken else 0.0

    @property
    def p50_ms(self) -> float:
        """Median of the latest samples."""
        return float(np.percentile(self.taken, 50)) if self.taken else 0.0

    @property
    def p99_ms(self) -> float:
        """99th percentile of the latest samples."""
        return float(np.percentile(self.taken, 99)) if self.taken else 0.0


class Prober:
    """Publishes a probe every few seconds and asks each view until it shows it. On one event loop."""

    def __init__(self, every_s: float, publish: Publish, views: Mapping[str, Shows]) -> None:
        """every_s: 0 for no probes."""
        self._every_s, self._publish, self._views = every_s, publish, views
        self._freshness: dict[str, Freshness] = {}
        self._running: asyncio.Task[None] | None = None

    def freshness(self) -> dict[str, Freshness]:
        """By view, as far as measured."""
        return dict(self._freshness)

    def start(self) -> None:
        """Probe until stopped, on the running event loop."""
        self._running = asyncio.get_running_loop().create_task(self.run())

    def stop(self) -> None:
        """Probe no more."""
        if self._running is not None:
            self._running.cancel()

    async def run(self) -> None:
        """Probe until cancelled."""
        if not self._every_s:
            return
        for number in itertools.count(random.randrange(TURNS)):
            await asyncio.sleep(self._every_s)
            try:
                await self._sample(number % TURNS)
            except MeshError as error:
                logger.info("no probe: %s", error)
            except Exception:
                logger.exception("the probe failed")

    async def _sample(self, turn: int) -> None:
        at_ms, started = wall_clock(), time.perf_counter()
        await self._publish(turn, at_ms)
        pin = pin_of(turn)
        await asyncio.gather(*(self._measure(view, shows, pin, at_ms, started) for view, shows in self._views.items()))

    async def _measure(self, view: str, shows: Shows, pin: int, at_ms: int, started: float) -> None:
        found = self._freshness.setdefault(view, Freshness())
        answered = found.samples + found.lost > 0
        while time.perf_counter() - started < LOST_S:
            try:
                if await shows(pin, at_ms):
                    found.samples += 1
                    found.taken.append((time.perf_counter() - started) * 1000)
                    return
                answered = True
            except MeshError:
                await asyncio.sleep(10 * POLL_S)
            await asyncio.sleep(max(POLL_S, LONGER * (time.perf_counter() - started)))
        found.lost += answered
