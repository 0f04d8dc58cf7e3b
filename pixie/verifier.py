"""The thread that reads the served snapshot again and again and compares its checksums: disks change what lies on them."""

import logging
import time

from pixie.store import PixieStore
from services.core.metrics import Metrics
from services.core.paced import Paced

logger = logging.getLogger(__name__)
REST = 99.0  # so many times as long as reading a part took it rests
HOUR_S, FIRST_S = 3600.0, 600.0  # a process that has just started has other things to do


class Verifier:
    """Of one store."""

    def __init__(self, store: PixieStore, every_h: float, metrics: Metrics) -> None:
        """every_h: hours from one pass to the next; 0: none is made."""
        self._store, self._every_s = store, every_h * HOUR_S
        self._passes, self._began = 0, time.monotonic()
        self._paced = Paced("verify", self._verify, min(FIRST_S, self._every_s))
        metrics.gauge("scrubs", lambda: float(self._passes))

    def start(self) -> None:
        """Begin."""
        if self._every_s:
            self._paced.start()

    def stop(self) -> None:
        """End the pass under way."""
        self._paced.stop()

    def _verify(self) -> float:
        self._began = time.monotonic()
        try:
            self._store.verify(self._rest)
        except InterruptedError:
            return 0.0
        except Exception:
            logger.exception("cannot verify the graph")
        self._passes += 1
        return self._every_s

    def _rest(self) -> None:
        if not self._paced.rest(REST * (time.monotonic() - self._began)):
            raise InterruptedError
        self._began = time.monotonic()
