"""A mesh that has a world loaded and its graph built, for the parts that measure whole pages, and a model for its home page."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import lightgbm
import numpy as np

from cli.demo import demo
from cli.graph import build
from cli.load import load
from features.catalogue import CATALOGUE
from scorpion import registry
from tests.running import Running, running_mesh

LASTFM = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "lastfm"
CANDIDATES = 1_750  # of home's sources together, of which some 1,000 are left when what several found counts once
SETTINGS: dict[str, dict[str, Any]] = {"feedgen": {"candidates": CANDIDATES}}
TREES, LEAVES = 200, 31
USERS = [str(user) for user in range(2, 2_000) if user % 3]  # the readers


def fill(running: Running, home: Path, data: str | None) -> str:
    """Load the world into a mesh, and build its graph; the world's name."""
    lastfm = Path(data) if data else LASTFM
    if lastfm.exists():
        load("lastfm", lastfm, data=home / "data")
    else:
        demo(folder=home / "world")
        load("parquet", home / "world", data=home / "data")
    running.until_caught_up()
    build(data=home / "data")
    return "Last.fm" if lastfm.exists() else "the demo world"


@contextmanager
def world(data: str | None, **sections: dict[str, Any]) -> Iterator[tuple[Running, Path, str]]:
    """The mesh, the folder that it lives in (its data under `data`) and the name of the world: Last.fm from the folder
    `data` or where it is shared, else the demo world. sections: further settings.
    """
    with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as folder:
        home = Path(folder)
        with running_mesh(home / "data", SETTINGS | sections) as running:
            name = fill(running, home, data)
            yield running, home, name


def promote(home: Path, running: Running) -> None:
    """A model of so many trees of so many leaves over every feature, served. Its scores are of no matter here."""
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
    until_served(running)


def until_served(running: Running) -> None:
    """Wait until home pages are ranked by a model of trees."""
    end = time.monotonic() + 30
    while httpx.get(f"{running.url}/v1/feeds/home?user=2").json()["model"] in ("", "light"):
        if time.monotonic() > end:
            raise RuntimeError("the model was not served within 30 s")
        time.sleep(0.2)
