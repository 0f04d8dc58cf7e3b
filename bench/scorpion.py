"""The cache of pins' facts under a Zipf law, and a forest over the rows of a request beside LightGBM's own."""

import time
from collections.abc import Callable

import lightgbm
import numpy as np

from bench.report import Figure
from features.pins import INTERESTS, KEPT
from scorpion import forest
from scorpion.cache import HIT, Cache, row_bytes
from services.clock import wall_clock

PINS, ROOM, REQUESTS, ROWS = 1_000_000, 200_000, 3_000, 1_000
TREES, LEAVES, FEATURES, REPEATS = 200, 31, 45, 30


def measure(_: str | None) -> list[Figure]:
    """Hits of the cache, then scoring."""
    return [*_cache(), *_forest()]


def _cache() -> list[Figure]:
    """Requests of 1,000 different pins, drawn by a Zipf law of exponent 1; the last third is counted."""
    rng, now = np.random.default_rng(1), wall_clock()
    shares = 1 / np.arange(1, PINS + 1)
    drawn, best = np.cumsum(shares / shares.sum()), float(shares[:ROOM].sum() / shares.sum())
    cache = Cache((), ROOM * row_bytes(0) + (1 << 20), 10**9)
    hits = asked = 0
    took = []
    for request in range(REQUESTS):
        pins = np.unique(np.searchsorted(drawn, rng.random(2 * ROWS)))[:ROWS].astype(np.uint64) + np.uint64(1)
        rng.shuffle(pins)
        started = time.perf_counter()
        found = cache.get(pins, now).found
        took.append(time.perf_counter() - started)
        missed = pins[found != HIT]
        rows = np.zeros((len(missed), len(KEPT)), np.float32)
        cache.put(missed, rows, np.zeros((len(missed), INTERESTS), np.uint64), now, wall_clock())
        if request >= REQUESTS * 2 // 3:
            hits, asked = hits + int((found == HIT).sum()), asked + len(pins)
    note = f"no cache of {ROOM:,} can do better than {best:.1%} on single draws; requests here ask for a pin once"
    what = f"cache hits, Zipf(1.0) over {PINS:,} pins, {cache.capacity:,} rows"
    return [
        Figure("scorpion", what, hits / asked * 100, "%", 90, note=note),
        Figure("scorpion", f"reading {ROWS:,} rows of the cache, median", float(np.median(took)) * 1e3, "ms"),
    ]


def _forest() -> list[Figure]:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(20_000, FEATURES)).astype(np.float32)
    label = np.sin(3 * rows[:, 0]) + rows[:, 1] * rows[:, 2] + rows.sum(axis=1) / 5
    parameters = {"objective": "regression", "num_leaves": LEAVES, "verbose": -1, "min_data_in_leaf": 5}
    booster = lightgbm.train(parameters, lightgbm.Dataset(rows, label), TREES)
    model, some = forest.parse(booster.model_to_string()), rows[:ROWS].copy()
    if not np.allclose(model.score(some), booster.predict(some), rtol=1e-6, atol=0):
        raise AssertionError("the forest does not score as LightGBM does")
    ours, theirs = [], []
    for _ in range(REPEATS):
        ours.append(_took(lambda: model.score(some)))
        theirs.append(_took(lambda: booster.predict(some, num_threads=1)))
    what = f"{ROWS:,} rows, {TREES} trees of {LEAVES} leaves, one thread"
    return [
        Figure("scorpion", f"{what}, median", float(np.median(ours)) * 1e3, "ms"),
        Figure("scorpion", f"{what}, LightGBM's predict, median", float(np.median(theirs)) * 1e3, "ms"),
        Figure("scorpion", "times as fast as LightGBM", float(np.median(theirs) / np.median(ours)), "times"),
    ]


def _took(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
