"""The process that asks others: in which zone it is, and where it counts its calls."""

import random
import time
from collections.abc import Callable, Iterator

from services.core.metrics import Metrics

OWN, OTHER = "own", "other"
OPERATOR = "operator"  # who asks that is no service: a command, a supervisor


class Tally:
    """Of the calls of one client to one service. Counted on its event loop alone, without a lock."""

    __slots__ = ("ejections", "hedges", "other", "own", "retries")

    def __init__(self) -> None:
        self.own = self.other = 0  # calls to replicas of the caller's zone, and of others: hedges and retries too
        self.hedges = self.retries = self.ejections = 0


class Caller:
    """Thread-safe. clock: seconds that never go back; chance: numbers in [0, 1); service: which service asks."""

    def __init__(
        self,
        zone: str,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        service: str = OPERATOR,
    ) -> None:
        self.service, self.zone, self.clock, self.chance = service, zone, clock, chance
        self._tallies: list[tuple[str, Tally]] = []  # they stay when their clients are closed: counters never fall
        if metrics:
            metrics.counter("calls", self._calls)
            metrics.counter("call_hedges", lambda: self._counts("hedges"))
            metrics.counter("call_retries", lambda: self._counts("retries"))
            metrics.counter("call_ejections", lambda: self._counts("ejections"))

    def tally(self, service: str) -> Tally:
        """Where a new client of a service counts."""
        made = Tally()
        self._tallies.append((service, made))
        return made

    def _calls(self) -> Iterator[tuple[dict[str, str], int]]:
        for zone in (OWN, OTHER):
            yield from (({"to": to, "zone": zone}, n) for to, n in self._sums(zone))

    def _counts(self, name: str) -> Iterator[tuple[dict[str, str], int]]:
        return (({"to": to}, n) for to, n in self._sums(name))

    def _sums(self, name: str) -> list[tuple[str, int]]:
        """By service, of every client."""
        found: dict[str, int] = {}
        for service, tally in list(self._tallies):
            found[service] = found.get(service, 0) + getattr(tally, name)
        return sorted(found.items())
