"""Trees over the rows of a request beside LightGBM and lleaves, and gathering cached rows beside cachetools' LRU."""

import tempfile
from pathlib import Path

import lightgbm
import numpy as np

from bench.peers.pairing import Ours, Peer, Side, compared, opened, pinned
from bench.report import Figure
from features.pins import INTERESTS, KEPT
from scorpion import forest
from scorpion.cache import PinCache, row_bytes
from services.core.clock import wall_clock
from services.core.columns import F32, U64

PART = "scorpion"
TREES, LEAVES, FEATURES, ROWS = 300, 64, 60, 1_000
PINS, ASKED = 200_000, 4_000


def measure(_: str | None) -> list[Figure]:
    """Raw rows and a single row by a model; then the cache."""
    pinned()
    with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as folder:
        return [*_scores(Path(folder)), *_gathers(Path(folder))]


def trained(folder: Path) -> str:
    """A binary model of 300 trees of 64 leaves over 60 features, some values missing; its text, also in the folder."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(30_000, FEATURES)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.05] = np.nan
    label = np.nan_to_num(np.sin(2 * rows)).sum(axis=1) + rng.normal(size=len(rows)) > 0
    parameters = {"objective": "binary", "num_leaves": LEAVES, "verbose": -1, "num_threads": 1, "min_data_in_leaf": 5}
    booster = lightgbm.train(parameters, lightgbm.Dataset(rows, label), TREES)
    booster.save_model(folder / "model.txt")
    np.save(folder / "rows.npy", rows[:ROWS])
    return str(booster.model_to_string())


def _scores(folder: Path) -> list[Figure]:
    model = forest.parse(trained(folder))
    rows = np.load(folder / "rows.npy")
    one = np.ascontiguousarray(rows[:1])
    pins, among = _pins(np.random.default_rng(3))
    asked = np.random.default_rng(4).choice(PINS, ROWS, replace=False)
    among[asked] = rows
    (cache, now), asked_pins = _cached(pins, among), pins[asked]
    about = f"{TREES} trees of {LEAVES} leaves, {FEATURES} float32 features, one thread"
    ours = Ours("feedmesh", {"rows": lambda: model.score(rows), "row": lambda: model.score(one)}, about)
    by_pin = Ours("feedmesh by pin", {"rows": lambda: model.score(cache.get(asked_pins, now).values)}, about)
    peers, figures = opened(PART, ("lightgbm", "lleaves"), "boosters", folder)
    sides: list[Side] = [ours, *peers]
    try:
        wanted = ours.answer("rows")
        np.testing.assert_array_equal(by_pin.answer("rows"), wanted)
        for side in peers:
            for operation, expected in (("rows", wanted), ("row", wanted[:1])):
                np.testing.assert_allclose(side.answer(operation), expected, rtol=1e-6, err_msg=side.name)
            if isinstance(side, Peer):
                figures.append(Figure(PART, f"opening the model, {side.name}", side.opened_s, "s", note=side.about))
        what = f"{ROWS:,} rows"
        figures += compared(PART, what, sides, "rows", least={"lightgbm": 12, "lleaves": 3})
        what = f"{ROWS:,} of {PINS:,} cached rows"
        figures += compared(PART, what, [by_pin, *peers], "rows", least={"lightgbm": 20, "lleaves": 5})
        for what, rounds, times in (("a row, in a loop", 21, 20), ("a row, another's work between", 61, 1)):
            figures += compared(PART, what, sides, "row", unit="us", least={"lightgbm": 1}, rounds=rounds, times=times)
    finally:
        for side in sides:
            side.close()
    return figures


def _pins(rng: np.random.Generator) -> tuple[U64, F32]:
    """All pins in no order, and a row of each."""
    pins = rng.permutation(np.arange(1, PINS + 1, dtype=np.uint64))
    return pins, rng.normal(size=(PINS, FEATURES)).astype(np.float32)


def _cached(pins: U64, rows: F32) -> tuple[PinCache, int]:
    """A cache with a row of FEATURES values for each pin, and the moment as of which they are fresh."""
    columns, now = tuple(f"set.column{i}" for i in range(FEATURES - len(KEPT))), wall_clock()
    cache = PinCache(columns, 2 * PINS * row_bytes(len(columns)), 10**9)
    cache.put(pins, rows, np.zeros((len(pins), INTERESTS), np.uint64), now, np.ones(len(pins), bool))
    return cache, now


def _gathers(folder: Path) -> list[Figure]:
    rng = np.random.default_rng(2)
    pins, rows = _pins(rng)
    asked = rng.choice(pins, ASKED, replace=False)
    cache, now = _cached(pins, rows)
    for name, values in (("pins", pins), ("rows", rows), ("asked", asked)):
        np.save(folder / f"{name}.npy", values)
    ours = Ours("feedmesh", {"gather": lambda: cache.get(asked, now).values}, "one thread")
    peers, figures = opened(PART, ("cachetools",), "rows", folder)
    try:
        for side in peers:
            np.testing.assert_array_equal(side.answer("gather"), ours.answer("gather"), err_msg=side.name)
        what = f"gathering {ASKED:,} cached rows of {FEATURES}"
        return figures + compared(PART, what, [ours, *peers], "gather", least={"cachetools": 20}, times=3)
    finally:
        for side in peers:
            side.close()
