"""A replay knows the events strictly before its moment, and nothing else; its features are those that are served."""

from pathlib import Path

import lightgbm
import numpy as np
import pytest

from cli.schema import SCHEMA
from learning.training.events import EventHistory, of_batches
from learning.training.replay import ALL_FEATURES, FEEDS, Replay
from learning.training.samples import FEATURES
from scorpion import registry
from services.core import settings
from services.core.columns import Array
from services.core.errors import InvalidArgument
from services.core.events import Action, Batch, events
from tests.training.worlds import small

Recorded = dict[tuple[int, str, int], tuple[Array, Array]]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> EventHistory:
    return small(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def moments(history: EventHistory) -> list[int]:
    saves = history.events.at_ms[history.events.action == Action.SAVE]
    return [int(at) for at in np.quantile(saves, [0.4, 0.6, 0.85])]


@pytest.fixture(scope="module")
def users(history: EventHistory, moments: list[int]) -> list[int]:
    early = history.events.take(history.events.at_ms < moments[0])
    saving = early.user[early.action == Action.SAVE]
    found, saves = np.unique(saving, return_counts=True)
    return [int(user) for user in found[np.argsort(-saves)][:6]] + [999_999]  # the last one is not known


def recorded(history: EventHistory, folder: Path, moments: list[int], users: list[int]) -> Recorded:
    found: Recorded = {}
    with Replay(history, folder, settings.load(None, SCHEMA)) as replay:
        for at in moments:
            replay.advance(at)
            for user in users:
                for feed in FEEDS:
                    candidates = replay.recorded(feed, user)
                    found[at, feed, user] = candidates.pin, candidates.column("features")
    return found


@pytest.fixture(scope="module")
def full(
    history: EventHistory, moments: list[int], users: list[int], tmp_path_factory: pytest.TempPathFactory
) -> Recorded:
    return recorded(history, tmp_path_factory.mktemp("full"), moments, users)


def same(one: Recorded, other: Recorded) -> None:
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key][0], other[key][0], err_msg=str(key))
        np.testing.assert_array_equal(one[key][1], other[key][1], err_msg=str(key))


@pytest.mark.parametrize("i", range(3))
def test_no_feature_looks_ahead(
    history: EventHistory, moments: list[int], users: list[int], full: Recorded, i: int, tmp_path: Path
) -> None:
    cut = recorded(history.until(moments[i]), tmp_path, moments[: i + 1], users)
    same(cut, {key: value for key, value in full.items() if key[0] <= moments[i]})


def test_another_future_changes_nothing(
    history: EventHistory, moments: list[int], users: list[int], full: Recorded, tmp_path: Path
) -> None:
    """From the very moment on, all users save, hide and take down other things than they did."""
    at = moments[1]
    past, pins = history.until(at), np.unique(history.events.pin)[1:200]
    rng = np.random.default_rng(3)
    n = 3_000
    action = rng.choice([Action.SAVE, Action.HIDE, Action.CLICK, Action.TAKEDOWN], n, p=[0.5, 0.2, 0.2, 0.1])
    later = events(
        n, action=action, user=rng.choice(users, n), pin=rng.choice(pins, n), board=rng.integers(1, 250, n),
        at_ms=np.sort(rng.integers(at, at + 10**9, n)), id=np.arange(10**9, 10**9 + n),
    )  # fmt: skip
    other = of_batches([past.events, later], "another future")
    same(recorded(other, tmp_path, moments[:2], users), {k: v for k, v in full.items() if k[0] <= at})


def test_the_past_does_change_them(moments: list[int], users: list[int], full: Recorded) -> None:
    """The tests above compare something: candidates there are, and they differ from moment to moment."""
    for feed in FEEDS:
        rows = [len(full[moments[0], feed, user][0]) for user in users]
        assert min(rows) > 0, feed
    saves = FEATURES.index("pin_saves_ever")
    for user in users[:-1]:
        first, last = full[moments[0], "home", user][1], full[moments[2], "home", user][1]
        assert np.nanmean(last[:, saves]) > np.nanmean(first[:, saves])
    known = ~np.isnan(full[moments[2], "home", users[0]][1]).all(axis=0)
    assert {FEATURES[i] for i in np.flatnonzero(~known)} == set()


def test_served_features_are_those_that_were_learned_from(
    history: EventHistory, moments: list[int], users: list[int], full: Recorded, tmp_path: Path
) -> None:
    rows = np.concatenate([full[key][1] for key in full])
    label = (np.arange(len(rows)) % 3 == 0).astype(int)
    parameters = {"objective": "binary", "verbosity": -1, "num_leaves": 4}
    data = lightgbm.Dataset(rows, label, feature_name=FEATURES, categorical_feature=["origin"])
    booster = lightgbm.train(parameters, data, 5)
    registry.write(tmp_path / "model", booster, ALL_FEATURES, rows[:20], name="all", trained_ms=1)
    with Replay(history, tmp_path / "stores", settings.load(None, SCHEMA)) as replay:
        registry.push(tmp_path / "model", replay.views.folder)
        registry.promote(replay.views.folder, "all")
        replay.views.models.refresh()
        for at in moments[:2]:
            replay.advance(at)
            for user in users:
                candidates, page = replay.answer("home", user, 25)
                pins, features = full[at, "home", user]
                np.testing.assert_array_equal(candidates.pin, pins)
                np.testing.assert_array_equal(candidates.column("features"), features)
                np.testing.assert_allclose(candidates.column("score"), booster.predict(features), rtol=1e-6)
                assert 0 < len(page.rows) <= 25


def test_time_does_not_go_back(history: EventHistory, moments: list[int], tmp_path: Path) -> None:
    with Replay(history, tmp_path, settings.load(None, SCHEMA)) as replay:
        replay.advance(moments[1])
        with pytest.raises(InvalidArgument, match="can't go back"):
            replay.advance(moments[0])


def test_events_of_the_moment_are_not_applied_yet(tmp_path: Path) -> None:
    day = 86_400_000 * 20_000
    batch = events(
        4, action=[Action.CREATE_BOARD, Action.CREATE_PIN, Action.SAVE, Action.SAVE], user=[7, 0, 7, 8],
        pin=[0, 3, 3, 3], board=[5, 0, 5, 5], at_ms=[day, day, day + 1, day + 2], id=[1, 2, 3, 4],
    )  # fmt: skip
    with Replay(of_batches([batch], "four events"), tmp_path, settings.load(None, SCHEMA)) as replay:
        saves = FEATURES.index("pin_saves_ever")
        for at, expected in ((day + 2, 1.0), (day + 3, 2.0)):
            replay.advance(at)
            found = replay.recorded("home", 99)
            assert found.pin.tolist() == [3]
            assert found.column("features")[0, saves] == expected


def test_a_history_is_in_order_of_time() -> None:
    def batch(*at: int) -> Batch:
        return events(len(at), action=Action.NAME_USER, user=at, at_ms=at, id=at)

    found = of_batches([batch(5, 9), batch(3, 5)], "x")
    assert found.events.at_ms.tolist() == [3, 5, 5, 9]
    assert found.before(5) == 1
    assert found.until(9).events.at_ms.tolist() == [3, 5, 5]
