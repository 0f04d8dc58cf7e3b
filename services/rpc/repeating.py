"""How often calls to a service are made a second time: hedges and retries within budgets, and after which delay.

A call may be repeated if its .proto says so (`idempotency_level`): NO_SIDE_EFFECTS of reads, IDEMPOTENT of calls that carry
ids by which their effects are dropped the second time.
"""

from array import array

from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.descriptor_pool import Default

HEDGED, RETRIED = 0.05, 0.10  # of the calls
HEDGES_SAVED, RETRIES_SAVED = 20.0, 100.0  # for calls that fail together, as when a process dies with them
FIRST = 10.0  # of a client that has just begun
KEPT, RENEWED, NEEDED = (
    256,
    16,
    64,
)  # durations kept of a method; looked at after so many; before there are so many: no hedge
QUANTILE = 0.95
LEAST_S = 0.002  # shorter waits are the event loop's


class Budget:
    """Extra calls as a share of all: each call saves up `share`, each extra call takes 1. At most `saved` are saved up."""

    __slots__ = ("_left", "_saved", "_share")

    def __init__(self, share: float, saved: float, first: float = FIRST) -> None:
        self._share, self._saved, self._left = share, saved, min(first, saved)

    def call(self) -> None:
        """A call was made."""
        self._left = min(self._saved, self._left + self._share)

    def take(self) -> bool:
        """Whether an extra call may be made now; it is counted as made."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Durations:
    """The P95 of a method's latest answers."""

    __slots__ = ("_added", "_kept", "p95")

    def __init__(self) -> None:
        self._kept, self._added = array("d"), 0
        self.p95: float | None = None  # seconds; None: not known yet

    def add(self, seconds: float) -> None:
        """A call was answered."""
        if len(self._kept) < KEPT:
            self._kept.append(seconds)
        else:
            self._kept[self._added % KEPT] = seconds
        self._added += 1
        if self._added >= NEEDED and self._added % RENEWED == 0:
            self.p95 = max(LEAST_S, sorted(self._kept)[int(QUANTILE * len(self._kept))])


class Repeated:
    """One method. safe: whether it may be made a second time; writes: it changes something, and may be."""

    __slots__ = ("durations", "safe", "writes")

    def __init__(self, level: int) -> None:
        self.safe = level != MethodOptions.IDEMPOTENCY_UNKNOWN
        self.writes = level == MethodOptions.IDEMPOTENT
        self.durations = Durations()


class Repeating:
    """Of one client and one service, over all of its shards."""

    def __init__(self, service: str) -> None:
        self._service, self._methods = service, dict[str, Repeated]()
        self.hedges, self.retries = Budget(HEDGED, HEDGES_SAVED), Budget(RETRIED, RETRIES_SAVED)

    def of(self, method: str) -> Repeated:
        """A method by its name; one that the service has not is never repeated."""
        found = self._methods.get(method)
        if found is None:
            found = self._methods[method] = Repeated(_level(self._service, method))
        return found


def is_safe(service: str, method: str) -> bool:
    """Whether the .proto of a service allows a call to be made a second time."""
    return _level(service, method) != MethodOptions.IDEMPOTENCY_UNKNOWN


def _level(service: str, method: str) -> int:
    described = Default().FindServiceByName(f"feedmesh.{service.capitalize()}").methods_by_name.get(method)
    return int(described.GetOptions().idempotency_level if described else MethodOptions.IDEMPOTENCY_UNKNOWN)
