"""From samples to a model's folder: the draw, the training, the report, and refusals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from cli.schema import SCHEMA
from features.catalogue import CATALOGUE
from learning.training import served
from learning.training.command import SampleOrigin, _folder, made, run
from learning.training.events import EventHistory, moments_of, of_batches
from learning.training.judge import CUT, _ndcg, baselines
from learning.training.samples import FEATURES, POSITIVE, Deeds, Periods, Samples, Wanted, asks
from learning.training.train import calibration, check, train
from scorpion import layout, registry
from services.core import settings
from services.core.clock import DAY_MS
from services.core.errors import InvalidArgument
from services.core.events import Action, events
from services.core.settings import MeshSettings
from services.rpc.mesh import Mesh
from tests.training.worlds import small

START = 1_700_000_000_000


def nothing(what: str, done: int, of: int) -> None:
    """No bars."""


def samples(requests: int, seed: int, at_ms: int = START) -> Samples:
    """Rows whose label depends on two features, with holes."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(20, 60, requests)
    n = int(sizes.sum())
    rows = rng.normal(size=(n, len(FEATURES))).astype(np.float32)
    rows[:, FEATURES.index("origin")] = rng.integers(0, 5, n)
    strength = 1.5 * rows[:, FEATURES.index("affinity_sum")] + (rows[:, FEATURES.index("origin")] == 2)
    label = (rng.random(n) < 1 / (1 + np.exp(3 - strength))).astype(np.uint8)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    light = rng.normal(size=n).astype(np.float32)
    at = at_ms + np.arange(requests, dtype=np.int64) * 1000
    user = np.arange(1, requests + 1, dtype=np.uint64) % 40
    return Samples(rows, label, np.ones(n, np.float32), light, sizes, at, user, np.arange(1, n + 1, dtype=np.uint64))


@pytest.fixture(scope="module")
def periods() -> Periods:
    return Periods(samples(200, 1), samples(60, 2, START + DAY_MS), samples(80, 3, START + 2 * DAY_MS))


def test_a_model_learns_and_its_folder_is_taken(periods: Periods, tmp_path: Path) -> None:
    trained = train(periods, nothing)
    quality = trained.quality
    assert quality["model"].ndcg > max(quality[name].ndcg for name in baselines(periods.test)) + 0.1
    assert trained.objective == max(trained.tried, key=lambda name: trained.tried[name])
    assert trained.metrics["auc"] > 0.75 > trained.metrics["popularity_auc"]
    assert trained.ece < 0.05
    model = registry.write(
        tmp_path, trained.booster, trained.features, trained.golden, name="x", trained_ms=START, metrics=trained.metrics
    )
    assert [f.name for f in model.features] == list(CATALOGUE)
    golden = layout.read_golden(tmp_path / layout.GOLDEN, 1)
    assert np.isnan(golden.rows).any(axis=1).any()
    assert np.isnan(golden.rows[-1]).all()


def test_ndcg_is_sklearns() -> None:
    rng = np.random.default_rng(4)
    for n in (2, 5, 11, 80):
        for _ in range(20):
            label, scores = (rng.random(n) < 0.3).astype(int), rng.integers(0, 12, n) / 4
            label[0] = 1
            assert _ndcg(label, scores) == pytest.approx(ndcg_score([label], [scores], k=CUT))


def test_calibration_error_is_that_of_a_recount() -> None:
    rng = np.random.default_rng(5)
    chances = rng.random(20_000)
    perfect = (rng.random(20_000) < chances).astype(int)
    assert calibration(perfect, chances)[2] < 0.02
    assert calibration(perfect, np.clip(chances + 0.3, 0, 1))[2] > 0.2


@pytest.mark.parametrize("name", ["train", "valid", "test"])
def test_too_few_samples_are_refused_with_what_is_needed(periods: Periods, name: str) -> None:
    parts = {"train": periods.train, "valid": periods.valid, "test": periods.test} | {name: samples(5, 9)}
    few = Periods(parts["train"], parts["valid"], parts["test"])
    with pytest.raises(InvalidArgument, match=rf"too few samples to {name} on: 5 requests.*at least 20 requests"):
        check(few)


def test_labels_are_what_the_user_did_within_the_horizon() -> None:
    batch = events(
        6, action=[Action.SAVE, Action.CLICK, Action.SAVE, Action.SAVE, Action.HIDE, Action.SAVE],
        user=[7, 7, 7, 8, 7, 7], pin=[1, 2, 2, 3, 4, 5], board=1, at_ms=[99, 100, 150, 150, 160, 200], id=range(1, 7),
    )  # fmt: skip
    deeds = Deeds(batch, POSITIVE)
    assert deeds.after(7, 100, 100) == {2: 1.0}
    assert deeds.after(7, 100, 50) == {2: 0.5}
    assert deeds.after(7, 100, 101) == {2: 1.0, 5: 1.0}
    assert deeds.after(9, 0, 1000) == {}
    assert deeds.active(100, 60).tolist() == [7, 8]


def test_requests_are_of_users_who_come_back_and_in_order(tmp_path: Path) -> None:
    history = small(tmp_path)
    wanted = Wanted(requests=100, moments=10, horizon_days=2)
    deeds = Deeds(history.events, wanted.positive)
    found = asks(history, deeds, wanted)
    assert found == asks(history, deeds, wanted)
    assert 60 <= len(found) <= 100
    assert [ask.at_ms for ask in found] == sorted(ask.at_ms for ask in found)
    assert len({ask.feed for ask in found}) == 3
    for ask in found:
        assert deeds.after(ask.user, ask.at_ms, wanted.horizon_ms)


def test_where_few_users_are_active_there_are_more_moments() -> None:
    """As with ratings of films, which each user gives in a sitting or two over many years."""
    rng = np.random.default_rng(2)
    user = np.repeat(np.arange(1, 121), 20)
    sitting = np.repeat(START + np.sort(rng.integers(0, 6_000 * DAY_MS, 120)), 20)
    at = sitting + np.tile(np.arange(20) * 30_000, 120)
    batch = events(len(user), action=Action.SAVE, user=user, pin=1, board=1, at_ms=at, id=range(1, len(user) + 1))
    history, wanted = of_batches([batch], "the log"), Wanted(requests=900, moments=12)
    found = asks(history, Deeds(history.events, POSITIVE), wanted)
    assert 300 <= len(found) <= 900
    assert len({ask.user for ask in found}) > 100


def test_moments_are_spread_and_before_the_end() -> None:
    at = np.arange(0, 1000, 7)
    found = moments_of(at, 500, 5)
    assert len(found) == 5
    assert found[0] == 0
    assert found[-1] == 497
    assert moments_of(at[:3], 500, 5).tolist() == [0, 7, 14]


@pytest.fixture(scope="module")
def logged(periods: Periods, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EventHistory]:
    """A data folder with one model, and a log of pages that it served: of 5 pins, the first was saved where it could be."""
    data = tmp_path_factory.mktemp("data")
    trained = train(periods, nothing, ["binary"])
    registry.write(data / "m", trained.booster, trained.features, trained.golden, name="m", trained_ms=1)
    registry.push(data / "m", data)
    fingerprint = layout.fingerprint(data / "models" / "m" / "1")
    pages, shown = 600, samples(600, 6)
    n = 5 * pages
    rows = np.concatenate([shown.rows[a : a + 5] for a in shown.starts])
    label = np.concatenate([shown.label[a : a + 5] for a in shown.starts]).astype(bool)
    user, at = np.repeat(np.arange(1, pages + 1), 5), START + np.repeat(np.arange(pages), 5) * 3_600_000
    pin = np.arange(1, n + 1)
    pages_served = events(
        n, action=Action.SERVED, user=user, pin=pin, surface=4, position=np.tile(np.arange(5), pages), at_ms=at,
        score=0.5, model=np.uint64(fingerprint), features=rows.tolist(), id=pin,
    )  # fmt: skip
    saves = np.flatnonzero(label)
    done = events(
        len(saves), action=Action.SAVE, user=user[saves], pin=pin[saves], board=1, at_ms=at[saves] + 60_000,
        id=saves + 10_000,
    )  # fmt: skip
    return data, of_batches([done], "the log", [pages_served])


def test_what_was_served_is_joined_with_what_users_did(logged: tuple[Path, EventHistory]) -> None:
    data, history = logged
    columns = served.models(data)
    assert list(columns.values()) == [list(CATALOGUE)]
    periods = served.collect(history, columns, Wanted(horizon_days=1), nothing)
    saved = set(history.events.pin.tolist())
    parts = (periods.train, periods.valid, periods.test)
    assert all((part.sizes == 5).all() for part in parts)
    assert 0 < sum(part.positives for part in parts) <= len(saved)
    assert periods.train.at_ms.max() + DAY_MS <= periods.valid.at_ms.min()
    assert periods.valid.at_ms.max() + DAY_MS <= periods.test.at_ms.min()
    stranger = served.collect(history, {}, Wanted(horizon_days=1), nothing)
    assert len(stranger.train) == 0
    first = periods.train
    page = history.served.take(history.served.at_ms == first.at_ms[0])
    np.testing.assert_array_equal(first.rows[:5], page.features.values.reshape(5, -1))
    np.testing.assert_array_equal(first.label[:5], np.isin(page.pin, history.events.pin))


def test_a_model_of_a_world_is_written_with_its_report(tmp_path: Path) -> None:
    history = small(tmp_path / "world")
    sections = settings.load(None, SCHEMA)
    sections["mesh"] = MeshSettings(data=str(tmp_path / "data"), partitions=4)
    wanted = Wanted(requests=360, moments=12, horizon_days=5, shares=(0.6, 0.2))
    found = made(history, tmp_path / "data", sections, "ranker", SampleOrigin.AUTO, wanted, nothing)
    ref = registry.push(found.folder, tmp_path / "data")
    assert str(ref) == "ranker@1"
    manifest = layout.read_json(found.folder / layout.MANIFEST, layout.ModelManifest)
    assert manifest.inputs["samples"] == "replay"
    assert {"auc", "ndcg@10", "ece", "popularity_auc", "recency_auc", "light_auc"} <= set(manifest.metrics)
    report = found.report.read_text()
    assert report.count("data:image/png;base64,") == 3
    for word in ("ROC", "Calibration", "Importance", "popularity", "recency", "light"):
        assert word in report
    assert "http" not in report
    registry.promote(tmp_path / "data", "ranker", force=True)
    again = made(history, tmp_path / "data", sections, "ranker", SampleOrigin.AUTO, replace(wanted, seed=2), nothing)
    assert again.folder.parent != found.folder.parent
    compared = again.evaluation.serving
    assert compared is not None
    assert (compared.model, compared.note) == ("ranker@1", "")
    assert compared.difference.requests > 0
    assert "ranker@1, which was serving: a difference of" in again.evaluation.words
    assert "which was serving" in again.report.read_text()


def test_a_name_that_no_model_can_have_is_refused_before_the_log_is_read() -> None:
    def worked(what: str, done: int, of: int) -> None:
        pytest.fail(what)

    nowhere = Mesh(settings={}, processes=[])
    with pytest.raises(InvalidArgument, match=r"--name: name '\.\./x': allowed are"):
        run(nowhere, settings.load(None, SCHEMA), "../x", SampleOrigin.AUTO, Wanted(), worked)


def test_trainings_that_end_in_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    assert [_folder(tmp_path, "ranker-1").name for _ in range(3)] == ["ranker-1", "ranker-1-2", "ranker-1-3"]


def test_too_little_served_is_said(tmp_path: Path) -> None:
    history = small(tmp_path / "world")
    with pytest.raises(InvalidArgument, match="too few samples to train on: 0 requests"):
        made(history, tmp_path, settings.load(None, SCHEMA), "x", SampleOrigin.SERVED, Wanted(), nothing)
