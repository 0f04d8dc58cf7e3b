"""The script of docs/machine-learning.md that trains on features of one's own, run as it is written there."""

import re
from pathlib import Path
from textwrap import dedent

import numpy as np
import polars
import pytest

from features.catalogue import CATALOGUE
from learning.training import events, served
from learning.training.samples import Periods, Samples
from scorpion import registry
from services.rpc import mesh

PAGE = Path(__file__).parents[2] / "docs/machine-learning.md"
ROWS = 20  # of a request


def script() -> str:
    [block] = re.findall(
        r"^    from pathlib import Path\n.*?^    registry\.write\([^\n]*\n", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    return dedent(block)


def part(requests: int, seed: int) -> Samples:
    """Requests in which pins with an even id are saved, which no feature of the catalogue shows."""
    random, n = np.random.default_rng(seed), requests * ROWS
    pin = random.integers(1, 200, n).astype(np.uint64)
    return Samples(
        rows=random.random((n, len(CATALOGUE))).astype(np.float32).round(),
        label=(pin % 2 == 0).astype(np.uint8),
        weight=np.ones(n, np.float32),
        light=np.zeros(n, np.float32),
        sizes=np.full(requests, ROWS),
        at_ms=np.arange(requests),
        user=np.ones(requests, np.uint64),
        pin=pin,
    )


def test_the_script_makes_a_model_that_knows_the_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what it reads of a running mesh is made here: the samples, and a file of columns that lacks some pins."""
    monkeypatch.chdir(tmp_path)
    pins = np.arange(1, 180)
    polars.DataFrame({"pin": pins, "warm": (pins % 2 == 0).astype(float), "dark": pins * 0.0}).write_parquet(
        "style.parquet"
    )
    monkeypatch.setattr(mesh, "load", lambda path: path)
    monkeypatch.setattr(events, "of_mesh", lambda *_: None)
    monkeypatch.setattr(served, "models", lambda data: {})
    monkeypatch.setattr(served, "collect", lambda *_: Periods(part(100, 1), part(40, 2), part(40, 3)))
    exec(compile(script(), str(PAGE), "exec"), {})
    made = registry.check(tmp_path / "styled", {"style": ["warm", "dark"]})
    assert [f.name for f in made.features] == [*CATALOGUE, "style.warm", "style.dark"]
    assert made.datasets == ("style.warm", "style.dark")
    rows = np.zeros((2, len(made.features)), np.float32)
    rows[:, -2] = 0, 1
    low, high = made.score(rows)
    assert high > low
