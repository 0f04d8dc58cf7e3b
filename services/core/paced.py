"""A thread that does one step of a work again and again, and rests as long as each step says."""

import threading
from collections.abc import Callable


class Paced:
    """Works in the background until it is stopped."""

    def __init__(self, name: str, step: Callable[[], float], first_s: float = 0.0) -> None:
        """step: answers for how many seconds to rest; it handles its own errors. first_s: seconds before the first."""
        self._step, self._first_s = step, first_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, within_s: float | None = None) -> None:
        """End with the step under way, also when it was never started. within_s: wait for that no longer than this."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(within_s)

    def rest(self, seconds: float) -> bool:
        """Within a long step: wait so long. False when the step is to end."""
        return not self._stopping.wait(seconds)

    def _run(self) -> None:
        rest_s = self._first_s
        while self.rest(rest_s):
            rest_s = self._step()
