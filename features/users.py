"""Features of a user, from realpin's signals and what apiary knows they follow."""

from collections.abc import Mapping

import numpy as np

from services.core.columns import F32, U32
from services.core.events import ENGAGEMENTS

DAY_MS = 86_400_000
WINDOW_NAMES = ("10m", "1h", "1d")  # as realpin counts
COUNTS = tuple(f"user_{action.name.lower()}s_{window}" for window in WINDOW_NAMES for action in ENGAGEMENTS)
NAMES = (
    *("user_interests", "user_top_share", "user_recent_pins", "user_idle_days", "user_followed_boards", "user_seen"),
    *COUNTS,
)


def row(
    affinities: F32, recent_pins: int, counts: U32, newest_ms: int, followed_boards: int, seen: int, now_ms: int
) -> Mapping[str, float]:
    """One value for each of NAMES. affinities: float32[m]; counts: uint32[windows, actions], or empty when not known."""
    liked = affinities[affinities > 0]
    values = [
        float(len(liked)),
        float(liked.max() / liked.sum()) if len(liked) else 0.0,
        float(recent_pins),
        (now_ms - newest_ms) / DAY_MS if newest_ms else float("nan"),
        float(followed_boards),
        float(seen),
        *(counts.ravel().tolist() if counts.size == len(COUNTS) else np.full(len(COUNTS), np.nan).tolist()),
    ]
    return dict(zip(NAMES, values, strict=True))
