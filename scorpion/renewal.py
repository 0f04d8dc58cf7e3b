"""Asks for counts again before they expire, at one moment for all pins that are read: requests find them good."""

import logging
import threading

from scorpion.pin_features import PinFeatureLoader

logger = logging.getLogger(__name__)
PERIODS = 8  # of a time to live; rows that would expire within two of them are renewed
TIMEOUT_S = 5.0


class Renewal:
    """A thread that renews. ttl_s: how long counts are good, in seconds; 0: they never are, and it does nothing."""

    def __init__(self, loader: PinFeatureLoader, ttl_s: float) -> None:
        self._loader, self._period_s = loader, ttl_s / PERIODS
        self._age_ms = int(ttl_s * 1000 * (PERIODS - 2) / PERIODS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="renewal", daemon=True)

    def start(self) -> None:
        """From now on."""
        if self._period_s:
            self._thread.start()

    def stop(self) -> None:
        """And wait for the call that is under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2 * TIMEOUT_S)

    def _run(self) -> None:
        while not self._stop.wait(self._period_s):
            try:
                self._loader.renew(self._age_ms, TIMEOUT_S)
            except Exception:
                logger.exception("counts were not renewed")
