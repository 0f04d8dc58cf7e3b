"""Time, as an argument: stores take a `Clock` so that tests decide what time it is."""

import time
from collections.abc import Callable

Clock = Callable[[], int]  # Unix milliseconds


def wall_clock() -> int:
    """The machine's clock, in Unix milliseconds."""
    return time.time_ns() // 1_000_000


DAY_MS = 86_400_000
