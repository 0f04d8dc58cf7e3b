"""The cache of pin features under a Zipf law, and forests over the rows of a request beside LightGBM's own.

Cost as the work grows: 1 to 10,000 rows by 300 trees, and 1,000 rows by 50 to 1,000 trees, of 64 leaves.
"""

import time
from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np

from bench.cut import cut
from bench.report import Figure, over
from features.pins import INTERESTS, KEPT
from scorpion import forest
from scorpion.cache import HIT, PLACE, PinCache, row_bytes
from services.core.clock import wall_clock
from services.core.columns import F32, Array

PINS, ROOM, REQUESTS, ROWS = 1_000_000, 200_000, 3_000, 1_000
FORESTS = ((300, 64, 60, 12.0), (200, 31, 45, None))  # trees, leaves, features, times LightGBM that are wanted
COLD = "rows of all the rest are scored between two"
USERS_PART = 21 / 60  # of a model's features, those that are one user's
REPEATS = 30
SWEPT_ROWS, SWEPT_TREES, LEAVES, FEATURES, TURNS = (1, 10, 100, 1_000, 10_000), (50, 100, 300, 1_000), 64, 60, 11


def measure(_: str | None) -> list[Figure]:
    """Hits of the cache, then scoring, then scoring over sizes."""
    return [*_cache(), *(figure for forest_ in FORESTS for figure in _forest(*forest_)), *_sweeps()]


def _cache() -> list[Figure]:
    """Requests of 1,000 draws by a Zipf law of exponent 1; the last third is counted."""
    rng, now = np.random.default_rng(1), wall_clock()
    shares = 1 / np.arange(1, PINS + 1)
    drawn = np.cumsum(shares / shares.sum())
    cache = PinCache((), ROOM * row_bytes(0) + PLACE * (1 << (2 * ROOM - 1).bit_length()) + (1 << 20), 10**9)
    best = float(shares[: cache.capacity].sum() / shares.sum())
    hits = asked = 0
    took = []
    for request in range(REQUESTS):
        pins = np.searchsorted(drawn, rng.random(ROWS)).astype(np.uint64) + np.uint64(1)
        started = time.perf_counter()
        found = cache.get(pins, now).found
        took.append(time.perf_counter() - started)
        missed = pins[found != HIT]
        rows = np.zeros((len(missed), len(KEPT)), np.float32)
        cache.put(missed, rows, np.zeros((len(missed), INTERESTS), np.uint64), now, np.ones(len(missed), bool))
        if request >= REQUESTS * 2 // 3:
            hits, asked = hits + int((found == HIT).sum()), asked + len(pins)
    note = (
        f"out of reach: a cache that held the {cache.capacity:,} most frequent pins, none else, would find {best:.1%}"
    )
    what = f"cache hits, Zipf(1.0) over {PINS:,} pins, {cache.capacity:,} rows"
    return [
        Figure("scorpion", what, hits / asked * 100, "%", 90, note=note),
        Figure("scorpion", f"reading {ROWS:,} rows of the cache, median", float(np.median(took)) * 1e3, "ms"),
    ]


def _trained(trees: int, leaves: int, features: int) -> tuple[Any, F32]:
    """A booster and the rows that it was trained on."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(20_000, features)).astype(np.float32)
    label = np.sin(3 * rows[:, 0]) + rows[:, 1] * rows[:, 2] + rows.sum(axis=1) / 5
    parameters = {"objective": "regression", "num_leaves": leaves, "verbose": -1, "min_data_in_leaf": 5}
    return lightgbm.train(parameters, lightgbm.Dataset(rows, label), trees), rows


def _forest(trees: int, leaves: int, features: int, wanted: float | None) -> list[Figure]:
    booster, rows = _trained(trees, leaves, features)
    text, some, one = booster.model_to_string(), rows[:ROWS].copy(), rows[:1].copy()
    model = forest.parse(text)
    if not np.allclose(model.score(some), booster.predict(some), rtol=1e-6, atol=0):
        raise AssertionError("the forest does not score as LightGBM does")
    model.score(one)
    users, ours = round(features * USERS_PART), some.copy()
    ours[:, :users] = some[0, :users]
    of_user = cut(text, some[0, :users])
    if not np.allclose(of_user.score(ours), model.score(ours), rtol=1e-9, atol=0):
        raise AssertionError("a forest cut to a user does not score as the whole one does")
    work: dict[str, Callable[[], object]] = {
        "ours": lambda: model.score(some),
        "a user's": lambda: model.score(ours),
        "cut": lambda: of_user.score(ours),
        "theirs": lambda: booster.predict(some, num_threads=1),
        "our one": lambda: model.score(one),
        "their one": lambda: booster.predict(one, num_threads=1),
        "loads": lambda: forest.parse(text),
    }
    took: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(REPEATS):
        for name, does in work.items():
            took[name].append(_took(does))
    median = {name: float(np.median(times)) * 1e3 for name, times in took.items()}
    what = f"{trees} trees of {leaves} leaves"
    return [
        Figure("scorpion", f"{ROWS:,} rows of {features} by {what}, one thread, median", median["ours"], "ms"),
        Figure("scorpion", f"{ROWS:,} rows by {what}, LightGBM's predict, median", median["theirs"], "ms"),
        Figure("scorpion", f"{what}: times LightGBM", median["theirs"] / median["ours"], "times", wanted),
        Figure(
            "scorpion",
            f"{ROWS:,} rows of a user by {what}: times as fast when cut to {users} features before",
            median["a user's"] / median["cut"],
            "times",
            note="without the time to cut it: docs/decisions/0022-whole-forest-raw-rows.md",
        ),
        Figure("scorpion", f"a row by {what}, median", median["our one"] * 1e3, "us", note=COLD),
        Figure("scorpion", f"a row by {what}: times LightGBM", median["their one"] / median["our one"], "times", 1),
        Figure("scorpion", f"reading the text of {what}, median", median["loads"], "ms", 500, at_most=True),
    ]


def _sweeps() -> list[Figure]:
    """Over rows by the trees of a request, and over trees for the rows of a request."""
    booster, rows = _trained(max(SWEPT_TREES), LEAVES, FEATURES)
    figures: list[Figure] = []
    for n in SWEPT_ROWS:
        figures += over("rows", n, _beside(booster, FORESTS[0][0], rows[:n].copy()))
    for trees in SWEPT_TREES:
        figures += over("trees", trees, _beside(booster, trees, rows[:ROWS].copy()))
    return figures


def _beside(booster: Any, trees: int, rows: F32) -> list[Figure]:
    """The booster's first trees over the rows: ours and LightGBM's in alternation, on one thread, scores equal first."""
    model = forest.parse(booster.model_to_string(num_iteration=trees))
    sides: dict[str, Callable[[], Array]] = {
        "feedmesh": lambda: model.score(rows),
        "lightgbm": lambda: booster.predict(rows, num_iteration=trees, num_threads=1),
    }
    np.testing.assert_allclose(sides["feedmesh"](), sides["lightgbm"](), rtol=1e-6)
    took: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(TURNS):
        for name, does in sides.items():
            took[name].append(_took(does) * 1e3)
    figures, what = [], f"{len(rows):,} rows by {trees:,} trees of {LEAVES} leaves"
    for name, times in took.items():
        low, median, high = (float(ms) for ms in np.percentile(times, (25, 50, 75)))
        figures.append(Figure("scorpion", f"{what}, {name}", median, "ms", spread=(low, high), note=f"{TURNS} turns"))
    return figures


def _took(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
