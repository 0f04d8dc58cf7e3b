"""A new model beside the one that serves, on the same later requests: the verdict, and its effect."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cli import model as command
from cli.main import app
from features import catalogue
from features.catalogue import Feature, FeatureSource
from learning.training import judge
from learning.training.command import SampleOrigin, _beside
from learning.training.samples import FEATURES
from learning.training.serving import Serving, compared, rows_of
from scorpion import layout, registry
from scorpion.layout import Comparison, Evaluation, MetricMean, Verdict
from scorpion.verdict import against, against_unasked, in_words
from services.core.columns import F64
from services.core.errors import InvalidArgument, NotReady
from tests.scorpion.making import booster_of, features_of
from tests.training.test_training_judge import beside as against_neighbours
from tests.training.test_training_model import samples

LATER = samples(120, 3)
KNOWS: F64 = LATER.label.astype(np.float64)
NAMES = ("pin_quality", "affinity_sum", "user_interests")  # in another order than the catalogue's


def serving(folder: Path, from_ms: int = 0, features: list[Feature] | None = None) -> Serving:
    """A model that serves, trained on other rows; its own later period begins at from_ms."""
    features = features or features_of(NAMES)
    rows = LATER.rows[:20, : len(features)]
    registry.write(
        folder / "draft", booster_of(features), features, rows, name="old", trained_ms=1, evaluation=judged(from_ms)
    )
    data = folder / "data"
    registry.promote(data, str(registry.push(folder / "draft", data)))
    found = registry.serving(data)
    assert found is not None
    return Serving(*found)


def judged(from_ms: int = 0, verdict: Verdict = Verdict.BETTER, beside: Comparison | None = None) -> Evaluation:
    by = figure(verdict)
    methods = {
        "model": {"ndcg@10": MetricMean(value=0.2, requests=90)},
        "light": {"ndcg@10": MetricMean(value=0.1, requests=90)},
    }
    return Evaluation(
        metric="ndcg@10", requests=90, users=40, methods=methods, best_baseline="light", difference=by, verdict=verdict,
        needed_requests=500, from_ms=from_ms, serving=beside,
    )  # fmt: skip


def figure(verdict: Verdict) -> MetricMean:
    low, high = {"better": (0.01, 0.1), "worse": (-0.1, -0.01), "undecided": (-0.02, 0.1)}[verdict]
    return MetricMean(value=(low + high) / 2, low=low, high=high, requests=90)


def beside(verdict: Verdict, model: str = "old@1") -> Comparison:
    return Comparison(model=model, difference=figure(verdict), users=40, verdict=verdict, needed_requests=500)


def test_the_difference_is_that_of_the_two_orders_with_its_interval(tmp_path: Path) -> None:
    old = serving(tmp_path)
    scores = old.model.score(rows_of(old.model, LATER.rows))
    better, worse = compared(LATER, KNOWS, old, seen=False), compared(LATER, -KNOWS, old, seen=False)
    assert (better.verdict, worse.verdict) == (Verdict.BETTER, Verdict.WORSE)
    assert better.difference.value == pytest.approx(judge.ndcg(LATER, KNOWS) - judge.ndcg(LATER, scores))
    assert better.difference.low is not None
    assert better.difference.value is not None
    assert 0 < better.difference.low < better.difference.value
    said = in_words(judged(beside=worse))
    assert "; it is worse than old@1, which was serving: a difference of -0." in said
    assert (
        f"95 % interval {worse.difference.low:+.4f} to {worse.difference.high:+.4f}), over {LATER.answered} re" in said
    )


def test_two_models_that_order_alike_cannot_be_told_apart(tmp_path: Path) -> None:
    old = serving(tmp_path)
    found = compared(LATER, 2 * old.model.score(rows_of(old.model, LATER.rows)) - 7, old, seen=False)
    assert (found.verdict, found.difference.value, found.difference.high) == (Verdict.UNDECIDED, 0.0, 0.0)
    assert "it can't be distinguished from old@1, which was serving" in in_words(judged(beside=found))
    assert in_words(judged(beside=found)).endswith("both order every request alike")


def test_only_requests_later_than_what_the_serving_model_learned_from_are_compared(tmp_path: Path) -> None:
    middle = int(LATER.at_ms[60])
    old = serving(tmp_path, from_ms=middle)
    late = LATER.requests(LATER.at_ms >= middle)
    found = compared(LATER, KNOWS, old, seen=False)
    assert found.difference.requests == late.answered < LATER.answered
    expected = judge.ndcg(late, late.label.astype(np.float64)) - judge.ndcg(
        late, old.model.score(rows_of(old.model, late.rows))
    )
    assert found.difference.value == pytest.approx(expected)
    none = compared(LATER.requests(LATER.at_ms < middle), KNOWS[: -len(late)], old, seen=False)
    assert none.difference.value is None
    assert "could not be compared with old@1, which was serving (it has learned from the whole period)" in in_words(
        judged(beside=none)
    )


def test_columns_of_datasets_have_no_past(tmp_path: Path) -> None:
    old = serving(tmp_path, features=[catalogue.feature("pin_quality"), catalogue.feature("taste.joy")])
    found = compared(LATER, KNOWS, old, seen=False)
    assert (found.difference.value, found.verdict) == (None, Verdict.UNDECIDED)
    assert found.note == "it reads columns of datasets, which have no past: taste.joy"


def test_pages_that_people_saw_say_whom_they_favour(tmp_path: Path) -> None:
    found = compared(LATER, KNOWS, serving(tmp_path), seen=True)
    assert found.verdict is Verdict.BETTER
    assert in_words(judged(beside=found)).endswith("`feedmesh model train --from replay` does not)")


def test_the_rows_of_a_model_are_its_columns_with_its_defaults(tmp_path: Path) -> None:
    features = [*features_of(NAMES[:2]), Feature("user_interests", FeatureSource.USER, 4.5)]
    model = serving(tmp_path, features=features).model
    rows = rows_of(model, LATER.rows)
    for column, name in enumerate(NAMES):
        own = LATER.rows[:, FEATURES.index(name)]
        expected = np.where(np.isnan(own), np.float32(4.5), own) if name == "user_interests" else own
        np.testing.assert_array_equal(rows[:, column], expected)


def test_the_model_that_serves_is_the_latest_that_can_be_used(tmp_path: Path) -> None:
    assert registry.serving(tmp_path / "data") is None
    serving(tmp_path)
    data = tmp_path / "data"
    second = registry.promote(data, str(registry.push(tmp_path / "draft", data)))
    found = registry.serving(data)
    assert found is not None
    assert found[0] == second == registry.Ref("old", 2)
    (registry.folder_of(data, second) / layout.TEXT).write_bytes(b"tree\n")
    found = registry.serving(data)
    assert found is not None
    assert str(found[0]) == "old@1"


B, U, W = Verdict.BETTER, Verdict.UNDECIDED, Verdict.WORSE
LESS = Comparison(model="old@1", difference=MetricMean(value=-0.01, low=-0.1, high=0.08, requests=90), users=40)
GATE = {  # beside baselines; beside the one that served; the one that serves now; does it serve unasked, and by force
    "first, better": (B, None, "", True, True),
    "first, undecided": (U, None, "", False, True),
    "first, worse": (W, None, "", False, False),
    "better than both": (B, beside(B), "old@1", True, True),
    "undecided beside what serves": (B, beside(U), "old@1", False, True),
    "undecided, and reached less": (B, LESS, "old@1", False, False),
    "worse than what serves": (B, beside(W), "old@1", False, False),
    "better than what serves, worse than a baseline": (W, beside(B), "old@1", False, False),
    "another serves now": (B, beside(B), "other@2", False, True),
    "another serves now, and it was worse than the one then": (B, beside(W), "other@2", False, True),
    "one serves now, and none did": (B, None, "other@2", False, True),
    "none serves any more": (B, beside(W), "", True, True),
}


@pytest.mark.parametrize("case", GATE)
def test_what_a_model_may_do(case: str) -> None:
    verdict, by, now, unasked, by_a_person = GATE[case]
    found = judged(verdict=verdict, beside=by)
    assert (not against_unasked(found, now), not against(found, now)) == (unasked, by_a_person)


def test_a_model_worse_than_what_serves_is_kept_and_forced_alone(tmp_path: Path) -> None:
    serving(tmp_path)
    data, features = tmp_path / "data", features_of(NAMES)
    registry.write(
        tmp_path / "new", booster_of(features, 5), features, LATER.rows[:9, :3], name="new", trained_ms=1,
        evaluation=judged(beside=beside(W)),
    )  # fmt: skip
    ref = registry.push(tmp_path / "new", data)
    with pytest.raises(
        NotReady, match=r"new@1 is kept and not promoted: .*; it is worse than old@1, which was serving"
    ):
        command._check_unasked(data, ref, force=False)
    with pytest.raises(InvalidArgument, match=r"it is worse than old@1.* --force promotes it all the same"):
        registry.promote(data, "new")
    assert registry.promoted(data).promoted == "old@1"
    command._check_unasked(data, ref, force=True)
    ran = CliRunner().invoke(app, ["model", "promote", "new", "--force", "--data", str(data)])
    assert (ran.exit_code, registry.promoted(data).promoted) == (0, "new@1")


def test_a_model_that_began_to_serve_meanwhile_was_not_compared(tmp_path: Path) -> None:
    """As of two trainings in parallel: the second to end has not been compared with the first."""
    serving(tmp_path)
    data, features = tmp_path / "data", features_of(NAMES)
    registry.write(
        tmp_path / "new", booster_of(features, 5), features, LATER.rows[:9, :3], name="new", trained_ms=1,
        evaluation=judged(),
    )  # fmt: skip
    ref = registry.push(tmp_path / "new", data)
    with pytest.raises(NotReady, match="old@1 serves now, and was not when this one was trained"):
        command._check_unasked(data, ref, force=False)


@pytest.mark.parametrize("used", [SampleOrigin.REPLAY, SampleOrigin.SERVED])
def test_what_training_found_stands_in_its_evaluation(used: SampleOrigin, tmp_path: Path) -> None:
    trained, old = against_neighbours(0.0), serving(tmp_path)
    found = _beside(trained, old, LATER, used)
    assert (trained.evaluation.serving, found.metrics) == (None, trained.metrics)
    compared = found.evaluation.serving
    assert compared is not None
    assert (compared.model, bool(compared.note)) == ("old@1", used is SampleOrigin.SERVED)
    expected = judge.ndcg(LATER, trained.booster.predict(LATER.rows)) - judge.ndcg(
        LATER, old.model.score(rows_of(old.model, LATER.rows))
    )
    assert compared.difference.value == pytest.approx(expected)
    assert found.evaluation.words == in_words(found.evaluation)
    assert found.evaluation.words.startswith(trained.evaluation.words)
