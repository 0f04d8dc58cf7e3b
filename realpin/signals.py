"""From a user's recent actions to signals: pure arithmetic, the same wherever signals are made (`kernel.py` does it).

Weights are as of the newest action that speaks for a pin, not as of now: an action weighs `weight * 2 ** -(age /
half-life)`, age being the time from it to that one. So a user who was away for years comes back to the interests they left
with, and a user who comes back and hides a pin has them still.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from realpin import kernel
from realpin.layout import MINUTE_MS, ROW_BYTES, Actions, Minutes, unpack_actions, unpack_minutes
from services.core.checks import check_lengths
from services.core.clock import DAY_MS
from services.core.columns import F32, I64, U32, U64
from services.core.events import ENGAGEMENTS, Action

WINDOWS_MS = np.array([10, 60, 24 * 60], np.int64) * MINUTE_MS
#: The place of an action in ENGAGEMENTS.
KIND = np.zeros(256, np.int64)
KIND[list(ENGAGEMENTS)] = np.arange(len(ENGAGEMENTS))
_HIDE, _WINDOWS = int(KIND[Action.HIDE]), WINDOWS_MS // MINUTE_MS


class Decay(NamedTuple):
    """The weight of each action and how fast it fades, in the order of ENGAGEMENTS. A hide weighs at most 0."""

    weights: NDArray[np.float64]
    half_lives_ms: NDArray[np.float64]


def decay_of(settings: object) -> Decay:
    """The decay that settings name: `<action>_weight`, and `<action>_half_life_days`, of each of ENGAGEMENTS."""
    names = [action.name.lower() for action in ENGAGEMENTS]
    weights = np.array([getattr(settings, f"{name}_weight") for name in names], np.float64)
    days = np.array([getattr(settings, f"{name}_half_life_days") for name in names], np.float64)
    return Decay(weights, days * DAY_MS)


class SignalPins(NamedTuple):
    """n distinct pins. A weight above 0 is of a pin engaged with, one below 0 of a pin hidden or disliked."""

    pins: U64
    weights: F32
    boards: U64  # of the last action; 0: none
    at_ms: I64  # of the last action


class Affinities(NamedTuple):
    """m distinct interests."""

    interests: U64
    affinities: F32


def strongest_pins(actions: Actions, decay: Decay, limit: int) -> SignalPins:
    """Of one user's actions (ascending by date), the at most `limit` pins whose weight is furthest from 0.

    Greatest weight first; of equals the newest, then the lowest id. Those below 0 are at most half of them while there are
    enough above: a user who hides a lot still likes something. A pin weighs the sum of the actions on it. One that was
    hidden weighs its hides alone: whatever was done to it besides, the user is no longer about it. Actions after
    the one that ages count from weigh in full. Raises ValueError for columns of unequal lengths.
    """
    check_lengths(len(actions.pins), boards=actions.boards, at_ms=actions.at_ms, actions=actions.actions)
    return SignalPins(*kernel.strongest_pins(*actions, KIND, _HIDE, *decay, limit))


def engaged(pins: SignalPins, known: U64, limit: int) -> SignalPins:
    """The first `limit` pins of those that weigh above 0 and were not taken down. known: of the pins, see `known.py`.

    Raises ValueError for columns of unequal lengths, and for a `known` that is not of these pins.
    """
    check_lengths(len(pins.pins), weights=pins.weights, boards=pins.boards, at_ms=pins.at_ms)
    _check_known(known, len(pins.pins))
    return SignalPins(*kernel.engaged_pins(*pins, known, limit))


def strongest_affinities(weights: F32, known: U64, limit: int) -> Affinities:
    """The at most `limit` interests of n pins whose affinity is furthest from 0, greatest first; of equals the lowest id.

    weights: float32[n]; known: of the pins, see `known.py`. An affinity is the sum of weight / sqrt(interests) over the
    pins of the interest: a pin of many interests says less of each; the square root lies between dividing a pin's weight
    among them and giving each all of it. Those below 0 are at most half, as of pins. Raises ValueError for a `known` that
    is not of these pins.
    """
    _check_known(known, len(weights))
    return Affinities(*kernel.affinities(weights, known, limit))


def _check_known(known: U64, pins: int) -> None:
    if not kernel.spans(known, pins):
        raise ValueError(f"known: {len(known)} words are not of {pins} pins")


def counted(minutes: Minutes, now_ms: int) -> U32:
    """uint32[windows, KINDS]: how often each action was done within each of WINDOWS_MS before now_ms.

    To the minute: a window of w minutes is the minute of now_ms and the w - 1 before it. So it never reaches further
    back than its length, and up to a minute less. Raises ValueError for columns of unequal lengths.
    """
    check_lengths(len(minutes.minutes), counts=minutes.counts)
    return kernel.counted(*minutes, now_ms // MINUTE_MS, _WINDOWS)


def warm(decay: Decay) -> None:
    """Compile the arithmetic, or load it: the first request need not wait for it."""
    pins = strongest_pins(unpack_actions(bytes(ROW_BYTES)), decay, 1)
    known = np.frombuffer(bytes(8 * len(pins.pins)), "<u8")  # as they come: no interests of each
    engaged(pins, known, 1)
    strongest_affinities(pins.weights, known, 1)
    counted(unpack_minutes(bytes(ROW_BYTES)), 0)
