"""Which replica of a shard is asked: the own zone first; of two at random the one with fewer calls under way.

That choice is Mitzenmacher's "power of two choices" (IEEE TPDS 12(10), 2001): nearly as even as asking the least busy of
all, without everybody asking the same one. A replica that fails is ejected until it has shown that it is well, but never more
than half of a shard's replicas: when most seem to fail, the fault is elsewhere, and the rest would not bear the load.
"""

from collections.abc import Callable, Collection, Sequence

from services.core.tokens import Reached
from services.rpc.replica import Replica

FAILURES = 5  # one after the other, until a replica that answers is ejected
STEADY = 20  # answers without a failure after which its next ejection is as short as the first
FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.25, 5.0


class Standing:
    """A replica as one client knows it. in_flight: the client's calls under way; out: it is ejected."""

    __slots__ = ("_good", "_reached", "backoff_s", "failures", "in_flight", "near", "out", "replica")

    def __init__(self, replica: Replica, near: bool = True) -> None:
        """near: whether it is in the client's zone."""
        self.replica, self.near = replica, near
        self.in_flight = self.failures = self._good = 0
        self.out, self.backoff_s = False, FIRST_BACKOFF_S
        self._reached: Reached = {}

    def answered(self) -> None:
        """A call was answered, be it with an error of the caller's."""
        self.failures = 0
        self._good += 1
        if self._good >= STEADY:
            self.backoff_s = FIRST_BACKOFF_S

    def failed(self) -> None:
        """A call was not answered, or not in time."""
        self.failures += 1
        self._good = 0

    def lengthen(self) -> None:
        """Stay out longer the next time."""
        self.backoff_s = min(MAX_BACKOFF_S, 2 * self.backoff_s)

    def passed(self, token: Reached) -> None:
        """It answered a read with this token."""
        for at, offset in token.items():
            if offset > self._reached.get(at, -1):
                self._reached[at] = offset

    def has_passed(self, token: Reached) -> bool:
        """Whether a read with this token needs not wait there, as far as is known."""
        return all(self._reached.get(at, -1) >= offset for at, offset in token.items())


def may_eject(shard: Sequence[Standing]) -> bool:
    """Whether one more replica of a shard may be ejected."""
    return sum(one.out for one in shard) + 1 <= len(shard) // 2


def pick(
    shard: Sequence[Standing],
    chance: Callable[[], float],
    tried: Collection[Standing] = (),
    token: Reached | None = None,
    last_resort: bool = True,
) -> Standing | None:
    """The replica to ask next, not one that was `tried`; None when none is left.

    last_resort: whether one that is ejected is better than none.
    """
    left = [one for one in shard if one not in tried]
    among = [one for one in left if one.near and not one.out] or [one for one in left if not one.out]
    if not among:
        among = left if last_resort else []
    if token:
        among = [one for one in among if one.has_passed(token)] or among
    return _less_busy(among, chance) if among else None


def _less_busy(among: Sequence[Standing], chance: Callable[[], float]) -> Standing:
    """Of two at random the one with fewer calls under way; of equals the first that was drawn."""
    n = len(among)
    if n == 1:
        return among[0]
    first = int(n * chance())
    second = (first + 1 + int((n - 1) * chance())) % n
    one, two = among[first], among[second]
    return two if two.in_flight < one.in_flight else one
