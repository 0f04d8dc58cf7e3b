"""Quality where no event states it, and archives whose dates are moved."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli import ledger as ledgers
from cli import load as loading
from cli.archive import move_of
from cli.ledger import Ledger
from loaders import parquet
from loaders.quality import Votes, of_ratings, of_saves, shrunk
from services.core.clock import DAY_MS
from services.core.events import Action
from tests.loaders.checks import whole
from tests.loaders.test_load import Ingest, saves

NOW = 1_796_000_000_000
PINS = np.array([10, 20, 30], np.uint64)


def test_a_mean_of_few_is_shrunk_towards_the_mean_of_all() -> None:
    assert shrunk(np.array([1.0, 90.0]), np.array([1.0, 100.0]), 0).tolist() == [1.0, 0.9]
    few, many = shrunk(np.array([1.0, 90.0]), np.array([1.0, 100.0]), 5).tolist()
    assert few == pytest.approx((1 + 5 * 91 / 101) / 6)
    assert many == pytest.approx((90 + 5 * 91 / 101) / 105)
    assert shrunk(np.zeros(2), np.zeros(2), 5).tolist() == [0, 0]


def test_ratings_are_scaled_by_the_lowest_and_highest() -> None:
    rated = np.array([10] * 40 + [20] * 40, np.int64)
    quality = of_ratings(PINS.astype(np.int64), rated, np.array([5.0] * 40 + [1.0] * 40))
    assert quality.tolist() == pytest.approx([42.5 / 45, 2.5 / 45, 0.5])
    same = of_ratings(PINS.astype(np.int64), rated, np.full(80, 3.0))
    assert same.tolist() == pytest.approx([1, 1, 0]), "ratings that say nothing leave the number of them"


def test_saves_are_rated_among_views_by_people() -> None:
    votes = Votes(PINS)
    look, save = int(Action.IMPRESSION), int(Action.SAVE)
    votes.add(np.array([look] * 100), np.arange(100, dtype=np.uint64), np.repeat(PINS[:2], 50))
    votes.add(np.array([save] * 30), np.repeat(np.uint64(7), 30), np.repeat(PINS[0], 30))
    votes.add(np.array([save] * 10), np.arange(10, dtype=np.uint64), np.repeat(PINS[1], 10))
    votes.add(np.array([save]), np.array([1], np.uint64), np.array([99], np.uint64))
    quality = votes.quality()
    assert quality.argmax() == 1, "one person who saves thirty times is one"
    assert quality.max() == 1
    assert (quality > 0).all()


def test_without_views_saves_speak_alone() -> None:
    assert of_saves(np.array([3.0, 1.0, 0.0]), np.zeros(3)).tolist() == pytest.approx([1, 0.5, 0])
    assert of_saves(np.zeros(2), np.zeros(2)).tolist() == [0, 0]


def world(folder: Path, **pins: Any) -> Path:
    pq.write_table(pa.table({"pin": [1, 2, 3], **pins}), folder / "pins.parquet")
    did = {"user": [7, 8, 9, 7], "action": ["save"] * 3 + ["impression"], "pin": [2, 2, 3, 1], "board": [1] * 4}
    pq.write_table(pa.table({**did, "at": [10**12] * 4}), folder / "events.parquet")
    return folder


@pytest.mark.parametrize(
    "pins", [{}, {"quality": pa.nulls(3)}, {"quality": pa.nulls(3, pa.float64())}, {"quality": [float("nan")] * 3}]
)
def test_a_folder_without_quality_gets_it_from_its_events(tmp_path: Path, pins: dict[str, Any]) -> None:
    dataset = parquet.open(world(tmp_path, **pins), NOW)
    events = whole(dataset)
    assert np.argsort(events.quality[:3]).tolist() == [0, 2, 1]
    assert events.quality[1] == 1
    assert events.quality[3:6].tolist() == events.quality[[1, 1, 2]].tolist(), "saves carry it"
    assert np.isnan(events.quality[6])
    assert [note for note in dataset.notes if "states no quality" in note]


def test_quality_that_is_stated_is_left_alone(tmp_path: Path) -> None:
    events = whole(parquet.open(world(tmp_path, quality=[0.5, None, 0.25]), NOW))
    assert np.array_equal(events.quality[:6], np.array([0.5, np.nan, 0.25, np.nan, np.nan, 0.25]), equal_nan=True)


def test_pins_alone_have_no_quality(tmp_path: Path) -> None:
    world(tmp_path)
    (tmp_path / "events.parquet").unlink()
    dataset = parquet.open(tmp_path, NOW)
    assert np.isnan(whole(dataset).quality).all()
    assert not [note for note in dataset.notes if "quality" in note]


@pytest.mark.parametrize(
    ("newest", "earlier", "days"),
    [
        (NOW, None, 0),
        (NOW - 7 * DAY_MS, None, 0),
        (NOW - 7 * DAY_MS - 1, None, 7),
        (NOW - 5000 * DAY_MS - 77, None, 5000),
        (NOW + DAY_MS, None, 0),
        (NOW - 5000 * DAY_MS, 4900 * DAY_MS, 4900),
        (NOW - 4000 * DAY_MS, 4900 * DAY_MS, 4000),
        (NOW - 5000 * DAY_MS, 0, 0),
    ],
)
def test_old_sets_are_moved_by_whole_days_and_never_beyond_now(newest: int, earlier: int | None, days: int) -> None:
    assert move_of(newest, NOW, earlier) == days * DAY_MS


def test_a_load_decides_once_how_far_dates_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "wall_clock", lambda: NOW)
    ingest, dataset = Ingest(), saves(30)
    ledger = Ledger(tmp_path, dataset)
    by_ms = ledger.decide_dates(dataset.newest_ms or 1_600_000_000_000, keep=False)
    assert 0 <= NOW - (1_600_000_000_000 + by_ms) < DAY_MS
    loading.pump(dataset, ingest, ledger, 10, lambda said: None)
    assert {at for batch in ingest.batches for at in batch.at_ms.tolist()} == {1_600_000_000_000 + by_ms}
    monkeypatch.setattr(ledgers, "wall_clock", lambda: NOW + 40 * DAY_MS)
    assert Ledger(tmp_path, dataset).decide_dates(1_600_000_000_000, keep=True) == by_ms, "it is decided"
    more = saves(31)
    more.fingerprint = "beef"
    assert Ledger(tmp_path, more).decide_dates(1_600_000_000_000, keep=False) == by_ms, "later files follow"


def test_dates_are_kept_when_asked(tmp_path: Path) -> None:
    assert Ledger(tmp_path, saves(3)).decide_dates(1_600_000_000_000, keep=True) == 0
