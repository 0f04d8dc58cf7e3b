"""Admission control of a server: how many requests run in parallel, and how many bytes they hold in sum."""

import threading

from services.core.errors import Exhausted

MAX_REQUESTS = 512
MAX_BYTES = 16 * (16 << 20)  # of the requests that run


class AdmissionLimiter:
    """Sheds calls beyond `requests` in parallel, or beyond `held` bytes of them, over all transports. Thread-safe."""

    def __init__(self, requests: int = MAX_REQUESTS, held: int = MAX_BYTES) -> None:
        self.requests, self._most_held = requests, held
        self._running = self._held = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Count a request of `size` bytes that begins; one alone is always taken. Raises Exhausted."""
        with self._lock:
            running, held = self._running, self._held
            if running < self.requests and (not held or held + size <= self._most_held):
                self._running, self._held = running + 1, held + size
                return
        if running >= self.requests:
            raise Exhausted(
                f"{self.requests} requests are under way, which is all that this process takes; try again in a moment"
            )
        raise Exhausted(
            f"requests of {held} bytes are under way and this one has {size}: {self._most_held} are allowed in sum; "
            "try again in a moment"
        )

    def give_back(self, size: int) -> None:
        """Count a request that has ended."""
        with self._lock:
            self._running -= 1
            self._held -= size
