"""The best postings of some lists by the light score, and the interests of a user, in numpy."""

from typing import NamedTuple

import numpy as np

from bench.plain.rows import Rows, among
from bench.plain.rules import (
    ACTIONS,
    ACTIONS_KEPT,
    BOARDS,
    DAY_MS,
    DEFAULT_QUALITY,
    DIRECT,
    DISLIKED,
    HALF_LIVES_DAYS,
    HIDE,
    HOUR_MS,
    INFERRED,
    INTERESTS_LOOKED_AT,
    QUALITY,
    SCALE_DAYS,
    THROUGH,
    WEIGHTS,
)

KIND = np.zeros(256, np.int64)
KIND[list(ACTIONS)] = np.arange(len(ACTIONS))


class Best(NamedTuple):
    """Rows of the postings, best first; the list of each; its light score."""

    rows: Rows
    places: Rows
    scores: Rows


def best(postings: Rows, lengths: Rows, weights: Rows, met: Rows, now_ms: int, per_place: int, k: int) -> Best:
    """The best k postings, each pin once. lengths, weights: of the lists; met: ascending; per_place: 0 for any."""
    place = np.repeat(np.arange(len(lengths)), lengths)
    stated = postings["quality"].astype(np.float64)
    quality = np.where(np.isnan(stated), DEFAULT_QUALITY, stated)
    age = np.maximum(-(-now_ms // HOUR_MS) * HOUR_MS - postings["at_ms"], 0)
    of_weight = np.log(weights, dtype=np.float64)[place]
    score = (of_weight + QUALITY * quality - age / (SCALE_DAYS * DAY_MS)).astype(np.float32)
    rows = np.flatnonzero(~among(postings["pin"], met))
    order = rows[np.argsort(-score[rows], kind="stable")]
    order = order[np.sort(np.unique(postings["pin"][order], return_index=True)[1])]
    order = order[np.lexsort((postings["pin"][order], -score[order]))]
    if per_place:
        by_place = order[np.argsort(place[order], kind="stable")]
        held = np.bincount(place[by_place], minlength=len(lengths))
        rank = np.arange(len(by_place)) - np.repeat(np.cumsum(held) - held, held)
        allowed = np.zeros(len(postings), bool)
        allowed[by_place[rank < per_place]] = True
        order = order[allowed[order]]
    order = order[:k]
    return Best(order, place[order], score[order])


class Pins(NamedTuple):
    """The pins that a user acted on: weights above 0 of pins that they like, below 0 of pins that they hid."""

    pins: Rows
    weights: Rows


def weighed(done: Rows, most: int) -> Pins:
    """The `most` pins of greatest weight, greatest first. done: DONE[n], oldest first."""
    done = done[-ACTIONS_KEPT:]
    if not len(done):
        return Pins(np.empty(0, "<u8"), np.empty(0, np.float32))
    order = np.argsort(done["pin"], kind="stable")
    pins, at_ms, action = done["pin"][order], done["at_ms"][order], done["action"][order]
    first = np.flatnonzero(np.append(True, pins[1:] != pins[:-1]))
    lengths = np.diff(np.append(first, len(pins)))
    hide, weight = action == HIDE, np.array(WEIGHTS)[KIND[action]]
    counts = hide | ~np.repeat(np.logical_or.reduceat(hide, first), lengths)
    speaks = at_ms[counts & (weight > 0)]
    age = np.maximum((speaks if len(speaks) else at_ms).max() - at_ms, 0)
    weight = weight * np.exp2(-age / (np.array(HALF_LIVES_DAYS)[KIND[action]] * DAY_MS))
    total = np.add.reduceat(np.where(counts, weight, 0.0), first).astype(np.float32)
    last = at_ms[first + lengths - 1]
    rows = strongest(total, most, -last, pins[first])
    return Pins(pins[first][rows], total[rows])


def affinities(weights: Rows, interests: Rows, most: int) -> tuple[Rows, Rows]:
    """The `most` strongest interests and affinities. interests: uint64[n, 8] of n pins, 0: none."""
    has = interests > 0
    lengths = has.sum(axis=1)
    shares = np.repeat(weights / np.sqrt(np.maximum(lengths, 1)), lengths)
    flat = interests[has]
    order = np.argsort(flat, kind="stable")
    ids = flat[order]
    if not len(ids):
        return ids, np.empty(0, np.float32)
    first = np.flatnonzero(np.append(True, ids[1:] != ids[:-1]))
    total = np.add.reduceat(shares[order], first).astype(np.float32)
    rows = strongest(total, most, ids[first])
    return ids[first][rows], total[rows]


def strongest(values: Rows, limit: int, *ties: Rows) -> Rows:
    """Rows furthest from 0, greatest first; those below 0 at most half while there are enough above."""
    order = np.lexsort((*ties[::-1], -np.abs(values)))
    above, below = order[values[order] > 0], order[values[order] < 0]
    below = below[: max(limit // 2, limit - len(above))]
    rows = np.concatenate([above[: limit - len(below)], below])
    return np.asarray(rows[np.lexsort((*(tie[rows] for tie in ties[::-1]), -values[rows]))])


def weighed_interests(followed: Rows, inferred: Rows, affinity: Rows) -> tuple[Rows, Rows]:
    """The interests that a page looks at, greatest weight first."""
    interests = np.unique(np.concatenate([followed, inferred]))
    known = dict(zip(inferred.tolist(), affinity.tolist(), strict=True))
    of = np.array([known.get(interest, 0.0) for interest in interests.tolist()], np.float32)
    weights = np.isin(interests, followed).astype(np.float32)
    weights[of < 0] *= DISLIKED
    top = float(of.max(initial=0))
    if top > 0:
        weights += np.float32(INFERRED / top) * np.maximum(of, 0)
    order = np.lexsort((interests, -weights))[:INTERESTS_LOOKED_AT]
    order = order[weights[order] > 0]
    return interests[order], weights[order]


def followed_boards(direct: Rows, users: Rows, owned: list[Rows]) -> tuple[Rows, Rows, Rows]:
    """Boards, weights and owners of the best BOARDS. direct: FOLLOW[n]; owned: FOLLOW of each of the users."""
    boards = np.concatenate([direct, *owned])
    counts = [len(direct), *map(len, owned)]
    weights = np.repeat(np.array([DIRECT] + [THROUGH] * len(owned), np.float32), counts)
    owners = np.repeat(np.append(np.zeros(1, "<u8"), users), counts)
    order = np.lexsort((boards["id"], boards["at_ms"], weights))[::-1]
    order = order[np.sort(np.unique(boards["id"][order], return_index=True)[1])][:BOARDS]
    return boards["id"][order], weights[order], owners[order]
