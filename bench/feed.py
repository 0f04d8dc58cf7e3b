"""Pages over the whole mesh: following by the light score, then home ranked by a model, client and mesh on the same cores.
Then the memory of each process.
"""

import statistics
import tempfile
import time
from pathlib import Path

import httpx
import lightgbm
import numpy as np
import uvloop

from bench.readers import read
from bench.report import Figure, latencies
from features.catalogue import CATALOGUE
from scorpion import registry
from services.command.demo import demo
from services.command.graph import build
from services.command.load import load
from tests.running import Running, running_mesh

FOLLOWING = 100  # feeds a second
HOME = ((60, 100), (150, 60))  # feeds a second, and the P99 in ms that is asked of them
CANDIDATES = 1_750  # of home's sources together, of which some 1,000 are left when what several found counts once
SECONDS, WARM_S = 30, 8
TREES, LEAVES = 200, 31
LASTFM = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "lastfm"


def measure(data: str | None) -> list[Figure]:
    """Load a world, build its graph, measure; promote a model, measure; weigh."""
    lastfm = Path(data) if data else LASTFM
    with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as folder:
        home = Path(folder)
        with running_mesh(home / "data", {"feedgen": {"candidates": CANDIDATES}}) as running:
            if lastfm.exists():
                load("lastfm", lastfm, data=home / "data")
            else:
                demo(out=home / "world")
                load("parquet", home / "world", data=home / "data")
            running.until_caught_up()
            build(data=home / "data")
            world = "Last.fm" if lastfm.exists() else "the demo world"
            users = [str(user) for user in range(2, 2_000) if user % 3]
            figures = _pages(running, "following", users, FOLLOWING, 80, f"{world}, light score")
            _promote(home, running)
            scored = int(statistics.median(_scored(running, user) for user in users[:40]))
            what = f"{world}, {scored:,} candidates scored by {TREES} trees of {LEAVES} leaves"
            for rate, p99_ms in HOME:
                figures += _pages(running, "home", users, rate, p99_ms, what)
            return figures + _memory(running)


def _pages(running: Running, feed: str, users: list[str], rate: int, p99_ms: float, what: str) -> list[Figure]:
    uvloop.run(read(running.url, feed, users, rate, WARM_S))
    found = uvloop.run(read(running.url, feed, users, rate, SECONDS))
    return [
        *latencies("feed", f"{feed} page, {rate} feeds/s, {what}", found.waited, p99_ms),
        Figure("feed", f"{feed}, {rate} feeds/s: answers that were not 200", found.failed, "answers", 0, at_most=True),
        Figure("feed", f"{feed}, {rate} feeds/s: degraded pages", found.degraded, "pages"),
        Figure(
            "feed",
            f"{feed}, {rate} feeds/s: pages with fewer than 25 pins",
            found.short,
            "pages",
            note="users who follow little",
        ),
    ]


def _promote(home: Path, running: Running) -> None:
    """A model of so many trees of so many leaves over every feature. What it thinks of a pin is of no matter here."""
    features, rng = list(CATALOGUE.values()), np.random.default_rng(1)
    rows = rng.normal(size=(20_000, len(features))).astype(np.float32) * 10
    for i, feature in enumerate(features):
        if feature.categorical:
            rows[:, i] = rng.integers(0, 5, len(rows))
    label = np.sin(rows).sum(axis=1) + rng.normal(size=len(rows)) > 0
    parameters = {"objective": "binary", "num_leaves": LEAVES, "verbose": -1, "min_data_in_leaf": 5}
    codes = [i for i, feature in enumerate(features) if feature.categorical]
    dataset = lightgbm.Dataset(
        rows, label, feature_name=[feature.name for feature in features], categorical_feature=codes
    )
    booster = lightgbm.train(parameters, dataset, TREES)
    registry.write(home / "model", booster, features, rows[:100], name="bench", trained_ms=int(time.time() * 1000))
    registry.promote(home / "data", str(registry.push(home / "model", home / "data")))
    end = time.monotonic() + 30
    while httpx.get(f"{running.url}/v1/feeds/home?user=2").json()["model"] in ("", "light"):
        if time.monotonic() > end:
            raise RuntimeError("the model was not served within 30 s")
        time.sleep(0.2)


def _scored(running: Running, user: str) -> int:
    """How many candidates of a page were ranked."""
    page = httpx.get(f"{running.url}/v1/feeds/home?user={user}&explain=true", timeout=20).json()
    kept = [stage["kept"] for stage in page["xray"]["stages"] if stage["kind"] == "filter"]
    return int(kept[-1])


def _memory(running: Running) -> list[Figure]:
    running.until_caught_up()
    found, total = [], 0.0
    for health in running.health():
        status = health.status
        if status is None:
            continue
        name = f"{health.of.service}-{health.of.shard}"
        total += status.rss_bytes
        peak = f"peak {status.peak_rss_bytes / 1e6:.0f} MB"
        found.append(Figure("memory", f"{name} resident", status.rss_bytes / 1e6, "MB", note=peak))
    return [*found, Figure("memory", "whole mesh resident", total / 1e6, "MB")]
