"""Histories that can't be learned from end with a message; moments at which there is nothing to find are counted."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cli.schema import SCHEMA
from features.catalogue import CATALOGUE
from learning.training import enough
from learning.training.command import SampleOrigin, made, replayed, sweep
from learning.training.events import EventHistory, of_batches
from learning.training.replay import FEEDS, Replay
from learning.training.samples import POSITIVE, Deeds, Periods, Samples, Wanted
from learning.training.train import MOST_RANKED, train
from scorpion import layout, registry
from services.core import settings
from services.core.clock import DAY_MS
from services.core.errors import TooLittle
from services.core.events import Action, Batch, events
from services.core.settings import MeshSettings, Sections
from tests.training.test_training_model import START, nothing, samples
from tests.training.worlds import small


def sections(tmp_path: Path) -> Sections:
    found = settings.load(None, SCHEMA)
    found["mesh"] = MeshSettings(data=str(tmp_path / "data"), partitions=4)
    return found


def acts(action: Action, users: Sequence[int], at_ms: Sequence[int]) -> EventHistory:
    n = len(users)
    pins = np.arange(n) % 50 + 1
    batch = events(n, action=action, user=users, pin=pins, board=users, target=7, at_ms=at_ms, id=range(1, n + 1))
    return of_batches([batch], "the log")


DAYS = (START + np.linspace(0, 30 * DAY_MS, 400).astype(np.int64)).tolist()
MANY = (np.arange(400) % 60 + 1).tolist()
REFUSED = {
    "only follows": (acts(Action.FOLLOW_INTEREST, MANY, DAYS), "it has no save and no click"),
    "only looks": (acts(Action.IMPRESSION, MANY, DAYS), "it has no save and no click"),
    "one user": (acts(Action.SAVE, [3] * 400, DAYS), "400 times save or click, by 1 users, within 30.0 days"),
    "one instant": (
        acts(Action.SAVE, MANY, [START] * 400),
        "within 0.0 days; at least 200 times, by 20 users, within 7.0",
    ),
    "one save": (acts(Action.SAVE, [1], [START]), "1 times save or click, by 1 users"),
    "an hour": (acts(Action.SAVE, MANY, (START + np.arange(400) * 9000).tolist()), "within 0.0 days"),
    "no event": (
        of_batches([Batch.concat([acts(Action.SAVE, [1], [START]).events.slice(0, 0)])], "the log"),
        "no events",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_history_that_is_too_little_says_what_is_missing(name: str, tmp_path: Path) -> None:
    history, says = REFUSED[name]
    with pytest.raises(TooLittle, match=says):
        made(history, tmp_path, sections(tmp_path), "x", SampleOrigin.AUTO, Wanted(), nothing)


def test_a_shorter_horizon_needs_less_time() -> None:
    history = acts(Action.SAVE, MANY, (START + np.arange(400) * (DAY_MS // 200)).tolist())
    deeds = Deeds(history.events, POSITIVE)
    with pytest.raises(TooLittle, match=r"within 2\.0 days; .* within 7\.0 days are needed"):
        enough.check(history, deeds, Wanted())
    enough.check(history, deeds, Wanted(horizon_days=0.1))


def test_saves_of_pins_without_a_description_are_too_few_samples(tmp_path: Path) -> None:
    """Long enough, and with nothing that any feed could have found for a user before they saved it."""
    n = 400
    batch = events(
        n, action=Action.SAVE, user=MANY, pin=np.arange(1, n + 1), board=MANY, at_ms=DAYS, id=range(1, n + 1)
    )
    with pytest.raises(TooLittle, match=r"too few samples to \w+ on: .* at least 20 requests"):
        made(of_batches([batch], "the log"), tmp_path, sections(tmp_path), "x", SampleOrigin.AUTO, Wanted(), nothing)


def test_a_moment_before_any_save_has_no_candidates_and_is_no_loss(tmp_path: Path) -> None:
    history = small(tmp_path / "world")
    first = int(history.events.at_ms[0])
    with Replay(history, tmp_path / "stores", sections(tmp_path)) as replay:
        replay.advance(first)
        for feed in FEEDS:
            assert len(replay.recorded(feed, 5)) == 0
            candidates, page = replay.answer(feed, 5, 25)
            assert (len(candidates), len(page.rows)) == (0, 0)


def test_moments_without_candidates_are_left_out_and_counted(tmp_path: Path) -> None:
    """A user who saved before anything else was there, as on the demo world of seeds 1 and 2."""
    history = small(tmp_path / "world")
    early = acts(Action.SAVE, [9001, 9002], [int(history.events.at_ms[0]) - 3_600_000] * 2).events
    whole = of_batches([early, history.events], "the log")
    wanted = Wanted(requests=150, moments=12, horizon_days=5, shares=(0.6, 0.2))
    periods = replayed(whole, sections(tmp_path), wanted, nothing)
    assert periods.without > 0
    assert len(periods.train.sizes) > 0


def flat(of: Samples) -> Samples:
    """The same requests, of rows that are all alike."""
    rows = np.ones((len(of), len(CATALOGUE)), np.float32)
    return Samples(rows, of.label, of.weight, np.zeros(len(of), np.float32), of.sizes, of.at_ms, of.user, of.pin)


def test_features_that_never_differ_make_a_model_that_wins_nothing(tmp_path: Path) -> None:
    before, between, after = (flat(samples(100, seed, START + seed * DAY_MS)) for seed in range(3))
    trained = train(Periods(before, between, after), nothing)
    assert trained.evaluation.verdict == layout.Verdict.UNDECIDED
    assert trained.evaluation.difference.value == 0
    model = registry.write(
        tmp_path, trained.booster, trained.features, trained.golden, name="x", trained_ms=1,
        evaluation=trained.evaluation,
    )  # fmt: skip
    assert len(set(model.score(trained.golden).tolist())) == 1


def test_requests_that_lambdarank_does_not_take_are_learned_from_without_it() -> None:
    wide = samples(60, 4)
    n = MOST_RANKED + 1
    again = np.arange(n) % len(wide)
    one = Samples(
        wide.rows[again], (np.arange(n) % 97 == 0).astype(np.uint8), np.ones(n, np.float32), wide.light[again],
        np.array([n]), np.array([START]), np.array([1], np.uint64), np.arange(n, dtype=np.uint64),
    )  # fmt: skip
    periods = Periods(Samples.concat([wide, one]), samples(40, 5, START + DAY_MS), samples(40, 6, START + 2 * DAY_MS))
    assert list(train(periods, nothing).tried) == ["binary"]


def test_what_a_killed_replay_left_is_removed_and_what_runs_stays(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    for name in (
        f"feedmesh-replay-{ended.pid}-a1",
        f"feedmesh-replay-{os.getpid()}-b2",
        "feedmesh-replay-else",
        "other",
    ):
        (tmp_path / name / "apiary").mkdir(parents=True)
    sweep(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f"feedmesh-replay-{os.getpid()}-b2", "feedmesh-replay-else", "other"}
