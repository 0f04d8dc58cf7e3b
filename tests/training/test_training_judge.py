"""A model is held against orders that need none, on the same requests, and is served unasked only when it is better."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cli import model as command
from cli.main import app
from learning.training import judge
from learning.training.neighbours import Neighbours
from learning.training.samples import FEATURES, Periods, Samples
from learning.training.train import Trained, train
from scorpion import layout, registry
from scorpion.layout import Verdict
from scorpion.verdict import in_words
from services.core.clock import DAY_MS
from services.core.errors import InvalidArgument, NotReady
from services.core.events import Action, Batch, events
from tests.training.test_training_model import START, nothing, samples


def kept(data: Path, trained: Trained, name: str = "m") -> registry.Ref:
    folder = data.parent / f"draft-{name}"
    registry.write(
        folder, trained.booster, trained.features, trained.golden, name=name, trained_ms=1,
        metrics=trained.metrics, evaluation=trained.evaluation,
    )  # fmt: skip
    return registry.push(folder, data)


def beside(better: float, requests: int = 80) -> Trained:
    """A model beside item-KNN that knows the labels so well: 0, not at all."""
    periods = Periods(samples(200, 1), samples(60, 2, START + DAY_MS), samples(requests, 3, START + 2 * DAY_MS))
    noise = np.random.default_rng(8).normal(size=len(periods.test))
    return train(periods, nothing, ["binary"], {judge.NEIGHBOURS: better * periods.test.label + noise})


def test_a_better_model_is_found_better_and_promoted(tmp_path: Path) -> None:
    trained = beside(0.0)
    found = trained.evaluation
    assert found.verdict is Verdict.BETTER
    assert set(found.methods) == {"model", "popularity", "recency", "light", "item-knn"}
    for metrics in found.methods.values():
        value = metrics["ndcg@10"]
        assert value.low is not None
        assert value.high is not None
        assert value.value is not None
        assert value.low < value.value < value.high
        assert value.requests == found.requests
    data = tmp_path / "data"
    ref = kept(data, trained)
    assert registry.judged(data, ref) == found
    command._check_unasked(data, ref, force=False)
    assert registry.promote(data, "m") == ref


def test_D03_a_model_worse_than_a_baseline_is_not_promoted_unasked(tmp_path: Path) -> None:
    trained, data = beside(9.0), tmp_path / "data"
    found = trained.evaluation
    assert (found.verdict, found.best_baseline) == (Verdict.WORSE, "item-knn")
    ref = kept(data, trained)
    with pytest.raises(
        NotReady, match=r"m@1 is kept and not promoted: the model is worse than a baseline, item-knn: NDCG"
    ):
        command._check_unasked(data, ref, force=False)
    with pytest.raises(InvalidArgument, match=r"a difference of -0\.\d+ \(95 % interval -0\.\d+ to -0\.\d+\), over"):
        registry.promote(data, "m")
    ran = CliRunner().invoke(app, ["model", "promote", "m", "--data", str(data)])
    assert ran.exit_code == 2
    assert "--force promotes it all the same" in ran.stderr
    assert registry.promoted(data).promoted == ""
    ran = CliRunner().invoke(app, ["model", "promote", "m", "--force", "--data", str(data)])
    assert (ran.exit_code, registry.promoted(data).promoted) == (0, "m@1")


def test_D03_a_model_that_cannot_be_told_from_a_baseline_waits_for_a_person(tmp_path: Path) -> None:
    trained, data = beside(1.6, 30), tmp_path / "data"
    found = trained.evaluation
    assert found.verdict is Verdict.UNDECIDED
    assert found.needed_requests > found.requests
    ref = kept(data, trained)
    with pytest.raises(
        NotReady, match=rf"about {found.needed_requests:,} requests are needed to detect such a difference"
    ):
        command._check_unasked(data, ref, force=False)
    assert found.difference.value is not None
    if found.difference.value < 0:  # a person may, but not without saying so
        with pytest.raises(InvalidArgument, match="--force promotes it all the same"):
            registry.promote(data, "m")
    registry.promote(data, "m", force=found.difference.value < 0)
    assert registry.promoted(data).promoted == "m@1"


def test_D03_one_user_decides_nothing() -> None:
    one = samples(60, 3)
    alone = Samples(
        one.rows, one.label, one.weight, one.light, one.sizes, one.at_ms, np.full(60, 7, np.uint64), one.pin
    )
    qualities = {name: judge.quality(alone, scores) for name, scores in judge.baselines(alone).items()}
    qualities[judge.MODEL] = judge.quality(alone, alone.label.astype(float))
    found = judge.evaluation(alone, qualities)
    assert (found.verdict, found.users, found.difference.low) == (Verdict.UNDECIDED, 1, None)
    assert "an interval needs requests of at least 10 users" in in_words(found)


def test_D03_needed_requests_would_tell_the_difference() -> None:
    """The rule of thumb against a simulation: with so many requests, about four intervals in five exclude 0."""
    rng = np.random.default_rng(3)
    difference, spread = 0.05, 0.3
    half = 1.96 * spread / np.sqrt(100)
    figure = layout.MetricMean(value=difference, low=difference - half, high=difference + half, requests=100)
    n = judge.needed(figure)
    means = rng.normal(difference, spread, (4000, n)).mean(axis=1)
    assert 0.75 < (means > 1.96 * spread / np.sqrt(n)).mean() < 0.85


def saves(*rows: tuple[int, int, int]) -> Batch:
    """(user, pin, at_ms), in order of time."""
    return events(
        len(rows), action=Action.SAVE, user=[r[0] for r in rows], pin=[r[1] for r in rows], board=1,
        at_ms=[r[2] for r in rows], id=range(1, len(rows) + 1),
    )  # fmt: skip


def request(user: int, at_ms: int, pins: list[int]) -> Samples:
    n = len(pins)
    none = np.zeros(n, np.float32)
    return Samples(
        np.zeros((n, len(FEATURES)), np.float32), none.astype(np.uint8), none, none, np.array([n]), np.array([at_ms]),
        np.array([user], np.uint64), np.array(pins, np.uint64),
    )  # fmt: skip


def test_neighbours_are_cosines_of_what_was_saved_before() -> None:
    log = saves((1, 10, 1), (2, 10, 2), (2, 11, 3), (2, 11, 4), (3, 11, 5), (3, 12, 6), (4, 12, 7), (1, 12, 9))
    near = Neighbours(log, [Action.SAVE])
    found = near.scores(request(1, 9, [11, 12, 99]))
    # user 1 has saved pin 10 before: cos(10, 11) = 1 / sqrt(2 * 2), cos(10, 12) = 0, and 99 is not known
    np.testing.assert_allclose(found, [0.5, 0.0, 0.0], atol=1e-6)
    assert found[1] > found[2] == 0
    assert near.scores(request(1, 1, [11])).tolist() == [0.0]
    assert near.scores(request(77, 9, [11])).tolist() == [pytest.approx(2e-9)]
    assert Neighbours(log.slice(0, 0), [Action.SAVE]).scores(request(1, 9, [11, 12])).tolist() == [0.0, 0.0]
