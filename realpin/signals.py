"""From a user's recent actions to signals: pure arithmetic of plain numpy, the same wherever signals are made.

Weights are as of the newest action that speaks for a pin, not as of now: an action weighs `weight * 2 ** -(age /
half-life)`, age being the time from it to that one. So a user who was away for years comes back to the interests they left
with, and one who comes back and hides a pin has them still.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from realpin.layout import MINUTE_MS, Actions, Minutes
from services.clock import DAY_MS
from services.columns import F32, I64, U32, U64, Array, Ragged
from services.events import ENGAGEMENTS, Action

WINDOWS_MS = np.array([10, 60, 24 * 60], np.int64) * MINUTE_MS
#: The place of an action in what is listed by ENGAGEMENTS.
KIND = np.zeros(256, np.int64)
KIND[list(ENGAGEMENTS)] = np.arange(len(ENGAGEMENTS))


class Decay(NamedTuple):
    """What each action weighs and how fast it fades, in the order of ENGAGEMENTS. A hide weighs at most 0."""

    weights: NDArray[np.float64]
    half_lives_ms: NDArray[np.float64]


def decay_of(settings: object) -> Decay:
    """The decay that settings name: `<action>_weight`, and `<action>_half_life_days`, of each of ENGAGEMENTS."""
    names = [action.name.lower() for action in ENGAGEMENTS]
    weights = np.array([getattr(settings, f"{name}_weight") for name in names], np.float64)
    days = np.array([getattr(settings, f"{name}_half_life_days") for name in names], np.float64)
    return Decay(weights, days * DAY_MS)


class Pins(NamedTuple):
    """n distinct pins. A weight above 0 is of a pin engaged with, one below 0 of a pin hidden or disliked."""

    pins: U64
    weights: F32
    boards: U64  # of the last action; 0: none
    at_ms: I64  # of the last action

    def take(self, rows: Array) -> "Pins":
        """The rows at int[m] positions or a bool[n] mask."""
        return Pins(self.pins[rows], self.weights[rows], self.boards[rows], self.at_ms[rows])


class Affinities(NamedTuple):
    """m distinct interests."""

    interests: U64
    affinities: F32


def weighed(actions: Actions, decay: Decay) -> Pins:
    """The pins of one user's actions (ascending by date), ascending by id.

    A pin weighs the sum of what was done to it. One that was hidden weighs its hides alone: whatever was done to it
    besides, it is no longer what the user is about. What comes after the action that ages count from weighs in full.
    """
    if not len(actions.pins):
        return Pins(actions.pins, np.empty(0, np.float32), actions.boards, actions.at_ms)
    order = np.argsort(actions.pins, kind="stable")  # of one pin, the last action stays last
    pins, kind, at_ms = actions.pins[order], KIND[actions.actions[order]], actions.at_ms[order]
    hides, weights = actions.actions[order] == Action.HIDE, decay.weights[kind]
    starts = np.flatnonzero(np.append(True, pins[1:] != pins[:-1]))
    last = np.append(starts[1:], len(pins)) - 1
    hidden = np.logical_or.reduceat(hides, starts)
    counts = hides | ~np.repeat(hidden, last - starts + 1)
    speaks = at_ms[counts & (weights > 0)]
    ages = np.maximum((speaks.max() if len(speaks) else at_ms.max()) - at_ms, 0)
    weights = weights * np.exp2(-ages / decay.half_lives_ms[kind])
    total = np.add.reduceat(np.where(counts, weights, 0.0), starts).astype(np.float32)
    return Pins(pins[starts], total, actions.boards[order[last]], actions.at_ms[order[last]])


def strongest(values: F32, limit: int, *ties: Array) -> I64:
    """int64[m]: rows of the at most `limit` values furthest from 0, greatest value first; of equals by `ties` ascending.

    Those below 0 are at most half of them while there are enough above: whoever hides a lot still likes something.
    """
    order = np.lexsort((*ties[::-1], -np.abs(values)))
    above, below = order[values[order] > 0], order[values[order] < 0]
    below = below[: max(limit // 2, limit - len(above))]
    rows = np.concatenate([above[: limit - len(below)], below])
    return rows[np.lexsort((*(tie[rows] for tie in ties[::-1]), -values[rows]))]


def strongest_pins(found: Pins, limit: int) -> Pins:
    """At most `limit` of them, greatest weight first; of equals the newest, then the lowest id."""
    return found.take(strongest(found.weights, limit, -found.at_ms, found.pins))


def affinities_of(weights: F32, interests: Ragged) -> Affinities:
    """The affinity of each interest of n pins, ascending by id: the sum of weight / sqrt(interests) over its pins.

    weights: float32[n]; interests: n runs of uint64. A pin of many interests says less of each; the square root lies
    between dividing a pin's weight among them and giving each all of it.
    """
    lengths = interests.lengths()
    shares = np.repeat(weights / np.sqrt(np.maximum(lengths, 1)), lengths)
    order = np.argsort(interests.values, kind="stable")
    ids = interests.values[order]
    starts = np.flatnonzero(np.append(True, ids[1:] != ids[:-1])) if len(ids) else np.empty(0, np.int64)
    total = np.add.reduceat(shares[order], starts) if len(ids) else shares
    return Affinities(ids[starts].astype(np.uint64), total.astype(np.float32))


def strongest_affinities(found: Affinities, limit: int) -> Affinities:
    """At most `limit` of them, greatest affinity first; of equals the lowest id."""
    rows = strongest(found.affinities, limit, found.interests)
    return Affinities(found.interests[rows], found.affinities[rows])


def counted(minutes: Minutes, now_ms: int) -> U32:
    """uint32[windows, KINDS]: how often each action was done within each of WINDOWS_MS before now_ms.

    To the minute: a window of w minutes is the minute of now_ms and the w - 1 before it. So it never reaches further
    back than its length, and up to a minute less.
    """
    ages = now_ms // MINUTE_MS - minutes.minutes
    within = (ages[None, :] >= 0) & (ages[None, :] < (WINDOWS_MS // MINUTE_MS)[:, None])
    return (within.astype(np.int64) @ minutes.counts.astype(np.int64)).astype(np.uint32)
