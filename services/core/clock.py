"""Time, as an argument: stores take a `Clock` so that tests decide what time it is."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], int]  # Unix milliseconds


def wall_clock() -> int:
    """The machine's clock, in Unix milliseconds."""
    return time.time_ns() // 1_000_000


DAY_MS = 86_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def date_text(at_ms: int) -> str:
    """A date for people: 2024-02-29 13:05:00 UTC, or 2024-02-29 at midnight; the number where the calendar has none."""
    try:
        moment = _EPOCH + timedelta(milliseconds=int(at_ms))
    except OverflowError:
        return f"{at_ms} ms"
    return moment.strftime("%Y-%m-%d" if at_ms % DAY_MS == 0 else "%Y-%m-%d %H:%M:%S UTC")
