"""The end-to-end audit: publishes events of its own every few seconds and measures when each view shows them.

Its users, boards and pins have reserved ids (`services.events.AUDIT_FROM` on), which nobody else may write. It asks the
views as any reader does, without a token, so what it measures is what a reader waits.
"""

import asyncio
import itertools
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np

from services.clock import wall_clock
from services.errors import MeshError
from services.events import AUDIT_FROM, Action, Batch, Surface, events

logger = logging.getLogger(__name__)
POLL_S, LONGER = 0.005, 0.2  # between two questions; as a view takes longer, a fifth of what it has taken
LOST_S = 10.0
PINS = 10_000  # ids taken in turn, so that the audit's own objects stay few, and none has its turn twice in two hours
USER, BOARD = AUDIT_FROM, AUDIT_FROM + 1

Shows = Callable[[int, int], Awaitable[bool]]  # does the view show pin, published at_ms?
Publish = Callable[[Batch], Awaitable[object]]


@dataclass(slots=True)
class Freshness:
    """Of one view: milliseconds from publish to shown, of the latest samples."""

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


class Audit:
    """A thread with an event loop of its own. `wire` makes, on that loop, the publisher and a question for each view."""

    def __init__(self, every_s: float, wire: Callable[[], tuple[Publish, dict[str, Shows]]]) -> None:
        self._every_s, self._wire = every_s, wire
        self._freshness: dict[str, Freshness] = {}
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="audit", daemon=True)

    def start(self) -> None:
        """Begin to audit, unless the interval is 0."""
        if self._every_s:
            self._thread.start()

    def freshness(self) -> dict[str, Freshness]:
        """By view, as far as measured."""
        return dict(self._freshness)

    async def _run(self) -> None:
        publish, views = self._wire()
        for turn in itertools.count(random.randrange(PINS)):
            await asyncio.sleep(self._every_s)
            try:
                await self._sample(AUDIT_FROM + 2 + turn % PINS, publish, views)
            except MeshError as error:
                logger.info("audit: %s", error)
            except Exception:
                logger.exception("audit")

    async def _sample(self, pin: int, publish: Publish, views: dict[str, Shows]) -> None:
        at_ms, started = wall_clock(), time.perf_counter()
        await publish(audit_events(pin, at_ms))
        await asyncio.gather(*(self._measure(view, shows, pin, at_ms, started) for view, shows in views.items()))

    async def _measure(self, view: str, shows: Shows, pin: int, at_ms: int, started: float) -> None:
        found = self._freshness.setdefault(view, Freshness())
        while time.perf_counter() - started < LOST_S:
            try:
                if await shows(pin, at_ms):
                    found.samples += 1
                    found.taken.append((time.perf_counter() - started) * 1000)
                    return
            except MeshError:
                await asyncio.sleep(10 * POLL_S)
            await asyncio.sleep(max(POLL_S, LONGER * (time.perf_counter() - started)))
        found.lost += 1


def audit_events(pin: int, at_ms: int) -> Batch:
    """One sample: a pin is made and saved to the audit's board; the audit's user is served it, and follows an interest
    of the pin's id in place of the one of the sample before.
    """
    actions = [Action.CREATE_PIN, Action.SAVE, Action.SERVED, Action.UNFOLLOW_INTEREST, Action.FOLLOW_INTEREST]
    before = AUDIT_FROM + 2 + (pin - AUDIT_FROM - 3) % PINS
    return events(
        len(actions),
        user=USER,
        action=actions,
        pin=pin,
        board=BOARD,
        target=[0, 0, 0, before, pin],
        at_ms=at_ms,
        surface=Surface.FOLLOWING,
        id=[random.getrandbits(64) | 1 for _ in actions],
        title=[f"audit {at_ms}", "", "", "", ""],
    )
