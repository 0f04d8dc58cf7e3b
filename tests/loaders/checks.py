"""Where the real data is, and what every set is held to."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from loaders.dataset import EventDataset
from services.core.events import Batch, validate

SHARED = Path(os.environ.get("FEEDMESH_SHARED", Path(__file__).resolve().parents[3] / "shared" / "data"))


def shared(name: str) -> Path:
    """The folder of a real set; without it the test is skipped, saying how to get it."""
    if not (SHARED / name).is_dir():
        pytest.skip(
            f"no real data in {SHARED / name}: put the files that loaders/README.md lists for {name} there, "
            "or set FEEDMESH_SHARED to the folder that has it"
        )
    return SHARED / name


def whole(dataset: EventDataset, start: int = 0, size: int = 10_000) -> Batch:
    return Batch.concat(list(dataset.batches(start, size)))


def same(one: Batch, other: Batch) -> bool:
    names = ("user", "action", "pin", "board", "target", "at_ms", "surface", "id", "position")
    return (
        all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)
        and np.array_equal(one.quality, other.quality, equal_nan=True)
        and all(
            np.array_equal(getattr(one, name).ends, getattr(other, name).ends)
            and np.array_equal(getattr(one, name).values, getattr(other, name).values)
            for name in ("title", "link", "interests")
        )
    )


def check(dataset: EventDataset, again: EventDataset, resume_at: Iterable[int]) -> Batch:
    """Check the invariants of every set; the whole of it as one batch."""
    now_ms = time.time_ns() // 1_000_000
    events = whole(dataset)
    validate(events, now_ms, 0)
    assert len(events) == dataset.size
    assert len(np.unique(events.id)) == dataset.size
    assert same(events, whole(again, size=777))
    for start in resume_at:
        assert same(events.slice(start, len(events)), whole(again, start)), f"resumed at {start}"
    first = 0
    for section in dataset.sections:
        assert (np.diff(events.at_ms[first : first + section.size]) >= 0).all(), section.name
        first += section.size
    return events
