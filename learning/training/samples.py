"""Requests of the past with what their users did afterwards: the rows that a model learns from, and is judged on.

A row is a candidate that a feed's own pipeline found; its label is whether the user engaged with the pin within the
horizon after the moment. Every row of a request was found in the same way, so how it was found does not reveal its label.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from learning.training.events import EventHistory, Progress, moments_of
from learning.training.replay import ALL_FEATURES, FEEDS, Replay
from services.core.clock import DAY_MS
from services.core.columns import F32, I64, U64, Array
from services.core.events import Action, Batch, flags

LIGHT = "light"
MORE_MOMENTS = 32  # times as many moments as are wanted, where so few users are active that these give too few requests
POSITIVE: Mapping[Action, float] = {Action.SAVE: 1.0, Action.CLICK: 0.5}
FEATURES = [feature.name for feature in ALL_FEATURES]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The samples to make.

    requests: in all; moments: of the past, and more where these give too few requests; horizon_days: after a moment, in
    which an engagement counts;
    positive: weight of a row by the user's action; negatives: kept of a training request, drawn at random (each then
    weighs as many as it stands for); feeds: asked alternately; shares: of time for training and validation, the rest is for
    the test; until_ms: end of the moments, 0: all.
    """

    requests: int = 6_000
    moments: int = 48
    horizon_days: float = 7.0
    positive: Mapping[Action, float] = field(default_factory=lambda: POSITIVE)
    negatives: int = 200
    feeds: Sequence[str] = FEEDS
    shares: tuple[float, float] = (0.7, 0.15)
    until_ms: int = 0
    seed: int = 1

    @property
    def horizon_ms(self) -> int:
        """In milliseconds."""
        return int(self.horizon_days * DAY_MS)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to make."""

    at_ms: int
    user: int
    feed: str


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """n rows of r requests, the rows of a request together.

    rows: float32[n, f], of features.catalogue's order; label: uint8[n]; weight: float32[n]; light: float32[n];
    sizes: int64[r]; at_ms: int64[r]; user: uint64[r]; pin: uint64[n]. light_name: the method whose score `light` is.
    """

    rows: F32
    label: Array
    weight: F32
    light: F32
    sizes: I64
    at_ms: I64
    user: U64
    pin: U64
    light_name: str = LIGHT

    def __len__(self) -> int:
        return len(self.label)

    @property
    def positives(self) -> int:
        """Rows with label 1."""
        return int(self.label.sum())

    @property
    def informative(self) -> Array:
        """bool[r]: which requests have rows of both labels; of the others, every order is as good."""
        if not len(self.sizes):
            return np.zeros(0, bool)
        positives = np.add.reduceat(self.label.astype(np.int64), self.starts)
        return np.asarray((positives > 0) & (positives < self.sizes))

    @property
    def answered(self) -> int:
        """Requests with a positive row, and another."""
        return int(self.informative.sum())

    @property
    def starts(self) -> I64:
        """int64[r]: the first row of each request."""
        return np.asarray(np.cumsum(self.sizes) - self.sizes, np.int64)

    def column(self, name: str) -> F32:
        """One feature."""
        return self.rows[:, FEATURES.index(name)]

    def requests(self, keep: Array) -> "Samples":
        """Those of the requests (bool[r])."""
        rows = np.repeat(keep, self.sizes)
        columns = (self.rows[rows], self.label[rows], self.weight[rows], self.light[rows])
        requests = (self.sizes[keep], self.at_ms[keep], self.user[keep])
        return Samples(*columns, *requests, self.pin[rows], self.light_name)

    @staticmethod
    def concat(parts: "list[Samples]") -> "Samples":
        """All requests of all parts."""
        if not parts:
            none, empty, ids = np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.uint64)
            rows = np.empty((0, len(FEATURES)), np.float32)
            return Samples(rows, none.astype(np.uint8), none, none, empty, empty, ids, ids)
        names = ("rows", "label", "weight", "light", "sizes", "at_ms", "user", "pin")
        columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return Samples(**columns, light_name=parts[0].light_name)


@dataclass(frozen=True, slots=True)
class Periods:
    """Samples by time: to learn from, to stop by, to report on. without: requests that had no candidates."""

    train: Samples
    valid: Samples
    test: Samples
    without: int = 0


class Deeds:
    """Engagements by user and time: answers the actions of a user within the horizon after a moment."""

    def __init__(self, events: Batch, positive: Mapping[Action, float]) -> None:
        """events: in order of time."""
        rows = np.flatnonzero(flags(*positive)[events.action])
        weights = np.zeros(256, np.float32)
        weights[[int(action) for action in positive]] = list(positive.values())
        order = rows[np.argsort(events.user[rows], kind="stable")]
        self.user, self.pin, self.at_ms = events.user[order], events.pin[order], events.at_ms[order]
        self.weight = weights[events.action[order]]
        self.moments = np.sort(self.at_ms)

    def after(self, user: int, at_ms: int, horizon_ms: int) -> dict[int, float]:
        """Pin -> the greatest weight of the user's actions on it in [at_ms, at_ms + horizon_ms)."""
        first, last = np.searchsorted(self.user, [user, user + 1])
        times = self.at_ms[first:last]
        a, b = first + np.searchsorted(times, [at_ms, at_ms + horizon_ms])
        found: dict[int, float] = {}
        for pin, weight in zip(self.pin[a:b].tolist(), self.weight[a:b].tolist(), strict=True):
            found[pin] = max(weight, found.get(pin, 0.0))
        return found

    def active(self, at_ms: int, horizon_ms: int) -> U64:
        """Users who engage within the horizon after a moment, ascending."""
        return np.unique(self.user[(self.at_ms >= at_ms) & (self.at_ms < at_ms + horizon_ms)])


def asks(history: EventHistory, deeds: Deeds, wanted: Wanted) -> list[Ask]:
    """The requests to make, in order of time. Users are those who come back within the horizon, drawn at random."""
    until = wanted.until_ms or int(history.events.at_ms[-1]) + 1
    moments = moments_of(deeds.moments, until, wanted.moments)
    active = [deeds.active(int(at), wanted.horizon_ms) for at in moments]
    most = wanted.moments * MORE_MOMENTS
    while sum(map(len, active)) < wanted.requests and wanted.moments <= len(moments) < most:
        before, moments = len(moments), moments_of(deeds.moments, until, min(2 * len(moments), most))
        if len(moments) == before:
            break
        active = [deeds.active(int(at), wanted.horizon_ms) for at in moments]
    random = np.random.default_rng(wanted.seed)
    found: list[Ask] = []
    for at, users, share in zip(
        moments.tolist(), active, _shares([len(u) for u in active], wanted.requests), strict=True
    ):
        chosen = np.sort(random.permutation(users)[:share]).tolist()
        found += [Ask(at, user, wanted.feeds[(i + len(found)) % len(wanted.feeds)]) for i, user in enumerate(chosen)]
    return found


def _shares(sizes: Sequence[int], wanted: int) -> list[int]:
    """How many of each to take: equal parts; the remainder of a small one goes to the others."""
    left, shares = wanted, [0] * len(sizes)
    for rank, i in enumerate(sorted(range(len(sizes)), key=lambda i: sizes[i])):
        shares[i] = min(sizes[i], left // (len(sizes) - rank))
        left -= shares[i]
    return shares


def periods_of(found: Sequence[Ask], wanted: Wanted) -> tuple[int, int]:
    """The moments at which validation and test begin, by the shares of the requests."""
    at = sorted(ask.at_ms for ask in found)
    first, second = (int(len(at) * share) for share in np.cumsum(wanted.shares))
    return at[min(first, len(at) - 1)], at[min(second, len(at) - 1)]


def collect(replay: Replay, deeds: Deeds, found: Sequence[Ask], wanted: Wanted, progress: Progress) -> Periods:
    """Make the requests, and take the rows apart by time.

    Requests whose horizon reaches into the next period are left out, so that nothing learned is known from there.
    """
    valid_ms, test_ms = periods_of(found, wanted)
    random = np.random.default_rng(wanted.seed)
    parts: dict[str, list[Samples]] = {"train": [], "valid": [], "test": []}
    without = 0
    for i, ask in enumerate(found):
        progress("asking the feeds of the past", i, len(found))
        period, end = _period(ask.at_ms, valid_ms, test_ms)
        if end and ask.at_ms + min(wanted.horizon_ms, DAY_MS) > end:
            continue
        horizon = min(wanted.horizon_ms, end - ask.at_ms) if end else wanted.horizon_ms
        replay.advance(ask.at_ms)
        one = _request(replay, ask, deeds.after(ask.user, ask.at_ms, horizon))
        if one is None:
            without += 1
            continue
        parts[period].append(_thinned(one, wanted.negatives, random) if period == "train" else one)
    progress("asking the feeds of the past", len(found), len(found))
    train, valid, test = (Samples.concat(parts[name]) for name in ("train", "valid", "test"))
    return Periods(train, valid, test, without)


def _period(at_ms: int, valid_ms: int, test_ms: int) -> tuple[str, int]:
    """Which one, and where it ends."""
    if at_ms < valid_ms:
        return "train", valid_ms
    return ("valid", test_ms) if at_ms < test_ms else ("test", 0)


def _request(replay: Replay, ask: Ask, did: Mapping[int, float]) -> Samples | None:
    candidates = replay.recorded(ask.feed, ask.user)
    n = len(candidates)
    if not n:
        return None
    weight = np.array([did.get(pin, 0.0) for pin in candidates.pin.tolist()], np.float32)
    return Samples(
        rows=candidates.column("features"),
        label=(weight > 0).astype(np.uint8),
        weight=np.where(weight > 0, weight, np.float32(1)),
        light=candidates.column("score").astype(np.float32),
        sizes=np.array([n], np.int64),
        at_ms=np.array([ask.at_ms], np.int64),
        user=np.array([ask.user], np.uint64),
        pin=candidates.pin.copy(),
    )


def _thinned(one: Samples, negatives: int, random: np.random.Generator) -> Samples:
    """With so many negatives at most, each weighing as many as it stands for."""
    negative = np.flatnonzero(one.label == 0)
    if len(negative) <= negatives:
        return one
    kept = random.permutation(negative)[:negatives]
    rows = np.sort(np.concatenate([np.flatnonzero(one.label), kept]))
    weight = one.weight.copy()
    weight[kept] = len(negative) / len(kept)
    sizes = np.array([len(rows)], np.int64)
    columns = (one.rows[rows], one.label[rows], weight[rows], one.light[rows])
    return Samples(*columns, sizes, one.at_ms, one.user, one.pin[rows], one.light_name)
