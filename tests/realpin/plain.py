"""The arithmetic of signals in plain numpy: the reference of the kernels."""

import numpy as np

from realpin.layout import MINUTE_MS, Actions, Minutes
from realpin.signals import KIND, WINDOWS_MS, Affinities, Decay, SignalPins
from services.core.columns import F32, I64, U32, Array, Ragged
from services.core.events import Action


def take(pins: SignalPins, rows: Array) -> SignalPins:
    """The rows at int[m] positions or a bool[n] mask."""
    return SignalPins(pins.pins[rows], pins.weights[rows], pins.boards[rows], pins.at_ms[rows])


def weighed(actions: Actions, decay: Decay) -> SignalPins:
    """The pins of one user's actions (ascending by date), ascending by id."""
    if not len(actions.pins):
        return SignalPins(actions.pins, np.empty(0, np.float32), actions.boards, actions.at_ms)
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
    return SignalPins(pins[starts], total, actions.boards[order[last]], actions.at_ms[order[last]])


def strongest(values: F32, limit: int, *ties: Array) -> I64:
    """int64[m]: rows of the at most `limit` values furthest from 0, greatest value first; of equals by `ties` ascending."""
    order = np.lexsort((*ties[::-1], -np.abs(values)))
    above, below = order[values[order] > 0], order[values[order] < 0]
    below = below[: max(limit // 2, limit - len(above))]
    rows = np.concatenate([above[: limit - len(below)], below])
    return rows[np.lexsort((*(tie[rows] for tie in ties[::-1]), -values[rows]))]


def strongest_pins(found: SignalPins, limit: int) -> SignalPins:
    """At most `limit` of them, greatest weight first; of equals the newest, then the lowest id."""
    return take(found, strongest(found.weights, limit, -found.at_ms, found.pins))


def affinities_of(weights: F32, interests: Ragged) -> Affinities:
    """The affinity of each interest of n pins, ascending by id: the sum of weight / sqrt(interests) over its pins."""
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
    """uint32[windows, KINDS]: how often each action was done within each of WINDOWS_MS before now_ms."""
    ages = now_ms // MINUTE_MS - minutes.minutes
    within = (ages[None, :] >= 0) & (ages[None, :] < (WINDOWS_MS // MINUTE_MS)[:, None])
    return (within.astype(np.int64) @ minutes.counts.astype(np.int64)).astype(np.uint32)
