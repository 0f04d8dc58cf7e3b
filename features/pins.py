"""Features of a pin, from its attributes in rockstore and its counts in counters. The stored features of a pin do not age;
ages and rates are computed for the moment of a request.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from services.core.columns import F32, I64, U32, U64, Array, Ragged
from services.core.events import ENGAGEMENTS, Action

DAY_MS = 86_400_000
INTERESTS = 8  # of a pin, the first ones it joined
WINDOWS_MS = (DAY_MS, 7 * DAY_MS, 90 * DAY_MS, 0)  # of counts; 0: ever
WINDOW_NAMES = ("1d", "7d", "90d", "ever")
ACTIONS = ENGAGEMENTS
COUNTS = tuple(f"pin_{action.name.lower()}s_{window}" for action in ACTIONS for window in WINDOW_NAMES)
ATTRIBUTES = ("created_day", "pin_quality", "pin_interests")  # then the counts
KEPT = (*ATTRIBUTES, *COUNTS)
RATES = ("pin_save_rate_7d", "pin_save_rate_ever", "pin_click_rate_ever", "pin_hide_rate_ever")
NAMES = ("pin_age_days", "pin_quality", "pin_interests", *COUNTS, *RATES)
COMPUTED = ("pin_age_days", *RATES)  # for the moment of a request
KEPT_AT = {name: at for at, name in enumerate(KEPT) if name in NAMES}  # the features that are kept as they are
_RATED = [rate.removeprefix("pin_").split("_rate_") for rate in RATES]  # what is done, and in which window
_DONE_AT = np.array([KEPT_AT[f"pin_{what}s_{window}"] for what, window in _RATED])
_SHOWN_AT = np.array([KEPT_AT[f"pin_{Action.IMPRESSION.name.lower()}s_{window}"] for _, window in _RATED])
SMOOTHING = np.float32(20)  # impressions added to every denominator


MARK_BITS = 22  # of a creator: with two bits beside it a float32 holds it exactly


def creator_marks(users: U64) -> U32:
    """uint32[n]: a mark of the creator of each pin, to ask whether it was a given user; 0: not known.

    Two users in four million have one mark; then pins of the one are taken for the other's own.
    """
    return (users * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(64 - MARK_BITS)).astype(np.uint32)


class PinFeatures(NamedTuple):
    """Stored features of n pins. values: float32[n, len(KEPT)], NaN where not known; interests: uint64[n, INTERESTS], 0: none."""

    values: F32
    interests: U64


def stored_features(found: Array, quality: F32, at_ms: I64, interests: Ragged, counts: Array) -> PinFeatures:
    """From rockstore's attributes and counters' counts (float[n, actions, windows], in the order of ACTIONS, WINDOWS_MS).

    found: bool[n]; quality: float32[n]; at_ms: int64[n], 0 where the pin's creation is not known.
    """
    values = np.empty((len(found), len(KEPT)), np.float32)
    values[:, 0] = np.where(at_ms > 0, at_ms / DAY_MS, np.nan)
    values[:, 1] = quality
    values[:, 2] = np.where(found, interests.lengths(), np.nan)
    values[:, len(ATTRIBUTES) :] = counts.reshape(len(found), len(COUNTS))
    return PinFeatures(values, first_interests(interests))


def first_interests(interests: Ragged) -> U64:
    """uint64[n, INTERESTS]: the first interests of each pin, then zeros."""
    lengths = interests.lengths()
    first = np.zeros((len(lengths), INTERESTS), np.uint64)
    row = np.repeat(np.arange(len(lengths)), lengths)
    within = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    kept = within < INTERESTS
    first[row[kept], within[kept]] = interests.values[kept]
    return first


def column(name: str, kept: F32, now_ms: int) -> F32:
    """float32[n]: one of NAMES for pins as kept (float32[n, len(KEPT)])."""
    return computed(kept, now_ms)[name] if name in COMPUTED else kept[:, KEPT_AT[name]]


def computed(kept: F32, now_ms: int) -> Mapping[str, F32]:
    """float32[n] for each of COMPUTED, for pins as kept (float32[n, len(KEPT)])."""
    from features.kernel import age_and_rates  # noqa: PLC0415 - code that only reads a pin's interests need not compile

    found = np.empty((len(COMPUTED), len(kept)), np.float32)
    age_and_rates(kept, np.float32(now_ms / DAY_MS), _DONE_AT, _SHOWN_AT, SMOOTHING, found)
    return dict(zip(COMPUTED, found, strict=True))
