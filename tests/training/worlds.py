"""A small demo world as a history."""

from pathlib import Path

from learning.training.events import EventHistory, of_dataset
from loaders import parquet
from loaders.generate import generate
from loaders.world import Spec

NOW_MS = 1_760_000_000_000
SPEC = Spec(users=150, pins=500, boards=260, saves=4_000, seed=5)


def small(folder: Path, spec: Spec = SPEC) -> EventHistory:
    generate(spec, folder, NOW_MS)
    return of_dataset(parquet.open(folder))
