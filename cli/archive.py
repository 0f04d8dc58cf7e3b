"""Archives: sets whose newest event is old. Their dates are moved, so that the newest is of today.

"Fresh", "popular this week" and "of the last year" are measured from now. In an archive as it is nothing is any of
that: half of the sources of a feed are empty. Moved as one, intervals, order and the time of day stay as they are.
"""

from collections.abc import Iterator

from services.core.clock import DAY_MS, date_text
from services.core.events import Batch

OLD_MS = 7 * DAY_MS  # "popular this week" has nothing beyond it


def move_of(newest_ms: int, now_ms: int, earlier: int | None = None) -> int:
    """By how many ms the dates of a set are moved forward, whole days: 0 unless it is older than OLD_MS.

    `earlier`: the milliseconds that the data folder's earlier loads of the set were moved by. Later files follow these as far
    as they do not reach beyond now.
    """
    if not newest_ms:
        return 0  # nothing has a date
    shift_ms = max(now_ms - newest_ms, 0) // DAY_MS * DAY_MS
    if earlier is not None:
        return min(earlier, shift_ms)
    return shift_ms if now_ms - newest_ms > OLD_MS else 0


def moved(batches: Iterator[Batch], by_ms: int) -> Iterator[Batch]:
    """The same events, later."""
    for batch in batches:
        yield batch.replace(at_ms=batch.at_ms + by_ms) if by_ms else batch


def move_text(newest_ms: int, by_ms: int, now_ms: int) -> str:
    """The change to the dates, in words for people."""
    if not newest_ms:
        return "there are no events"
    if not by_ms:
        why = ", as asked, or as in an earlier load" if now_ms - newest_ms > OLD_MS else ""
        return f"dates are as they are{why}; the newest is {date_text(newest_ms)}"
    return (
        f"the newest date is {date_text(newest_ms)}: all were moved {by_ms // DAY_MS:,} days forward, so that ages count "
        "from there (--keep-dates leaves them)"
    )
