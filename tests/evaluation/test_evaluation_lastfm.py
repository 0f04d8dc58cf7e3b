"""The replayed Last.fm: nothing is said before it is true, and the baselines are what they are called."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from learning.evaluation.lastfm import PAGE, Baselines, UserDay, requests
from learning.evaluation.lastfm_history import GIVEN_BY, USED_ON, Tags, history
from services.core.columns import Array
from services.core.errors import InvalidArgument
from services.core.events import Action
from services.core.topics import split

DAYS, USERS, PINS, NAMES = 6, 30, 60, 9
DAY_MS = 86_400_000
FIRST = 14_000


@pytest.fixture(scope="module")
def tags(tmp_path_factory: pytest.TempPathFactory) -> Tags:
    folder = tmp_path_factory.mktemp("lastfm")
    rng = np.random.default_rng(1)
    n = 1_500
    rows = np.unique(
        np.stack([rng.integers(1, USERS, n), (PINS * rng.random(n) ** 3).astype(int) + 1, rng.integers(1, NAMES, n)]),
        axis=1,
    )
    rows = rows[:, rng.permutation(rows.shape[1])]
    date = (FIRST + rng.integers(0, DAYS, rows.shape[1])).astype("datetime64[D]").astype("datetime64[ms]")
    _write(folder, "user_tagged_artists", userID=rows[0], artistID=rows[1], tagID=rows[2], date=date)
    _write(folder, "artists", id=np.arange(1, PINS + 2), name=["a"] * (PINS + 1), url=["u"] * (PINS + 1))
    _write(folder, "tags", tagID=np.arange(1, NAMES + 1), tagValue=["t"] * NAMES)
    _write(folder, "user_friends", userID=np.array([1, 2, 3, 99]), friendID=np.array([2, 1, 4, 1]))
    return Tags(folder)


def _write(folder: Path, file: str, **columns: object) -> None:
    pq.write_table(pa.table(columns), folder / f"{file}.parquet")


def test_history_until_a_day_is_that_of_the_data_until_then(tags: Tags) -> None:
    """Cut the data, then make events, or make events, then cut them: the same, so none knows of later days."""
    whole = history(tags).events
    for day in np.unique(tags.at_ms)[1:].tolist():
        cut = Tags.__new__(Tags)
        keep = tags.at_ms < day
        for name in ("user", "pin", "tag", "at_ms", "board"):
            setattr(cut, name, getattr(tags, name)[keep])
        cut.friends = tags.friends
        expected, found = history(cut).events, whole.take(whole.at_ms < day)
        for name in ("action", "user", "pin", "board", "target", "at_ms"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
        np.testing.assert_array_equal(found.quality, expected.quality)
        np.testing.assert_array_equal(found.interests.values, expected.interests.values)


def test_interests_are_those_of_a_recount(tags: Tags) -> None:
    events = history(tags).events
    for row in np.flatnonzero(events.action == Action.UPDATE_PIN).tolist():
        so_far = tags.at_ms <= events.at_ms[row]
        for tag in events.interests.run(row).tolist():
            of = so_far & (tags.pin == events.pin[row]) & (tags.tag == tag)
            assert of.sum() >= GIVEN_BY
    for row in np.flatnonzero(events.action == Action.FOLLOW_INTEREST).tolist():
        so_far = tags.at_ms <= events.at_ms[row]
        assert (so_far & (tags.user == events.user[row]) & (tags.tag == events.target[row])).sum() >= USED_ON
    assert (events.action == Action.FOLLOW_INTEREST).any()
    saved = events.take(events.action == Action.SAVE)
    assert len(saved) == len(tags)
    assert split(saved.slice(0, 5), 4)


def test_requests_are_new_saves_of_the_day(tags: Tags) -> None:
    cut = (FIRST + 4) * DAY_MS
    found = requests(tags, cut)
    assert found
    for request in found:
        of = tags.user == request.user
        before = set(tags.pin[of & (tags.at_ms < request.at_ms)].tolist())
        on_day = set(tags.pin[of & (tags.at_ms == request.at_ms)].tolist())
        assert request.at_ms >= cut
        assert set(request.relevant.tolist()) == on_day - before
        assert set(request.saved.tolist()) == before
    drawn = [[(r.at_ms, r.user) for r in requests(tags, cut, most=5)] for _ in range(2)]
    assert drawn[0] == drawn[1] == sorted(drawn[0])
    assert len(requests(tags, cut, most=5)) == 5


def test_baselines_are_those_of_a_recount(tags: Tags) -> None:
    known = Baselines(tags)
    for request in requests(tags, (FIRST + 3) * DAY_MS)[::7]:
        known.at(request.at_ms)
        expected = _reference(tags, request)
        for name, scores in expected.items():
            page = known.page(name, request)
            assert len(page) == PAGE
            assert not np.isin(page, request.saved).any()
            assert scores[page].tolist() == pytest.approx(sorted(scores, reverse=True)[:PAGE]), name


def _reference(tags: Tags, request: UserDay) -> dict[str, Array]:
    before = tags.at_ms < request.at_ms
    size = int(tags.pin.max()) + 1
    savers = [set(tags.user[before & (tags.pin == pin)].tolist()) for pin in range(size)]
    popular = np.array([float(len(s)) for s in savers])
    last = np.array([tags.at_ms[before & (tags.pin == p)].max(initial=0) for p in range(size)], float)
    on_last = np.array([(before & (tags.pin == p) & (tags.at_ms == last[p])).sum() for p in range(size)])
    near = np.array(
        [
            sum(len(savers[i] & savers[j]) / np.sqrt(len(savers[i]) * len(savers[j])) for i in request.saved.tolist())
            if savers[j]
            else 0.0
            for j in range(size)
        ]
    )
    found = {
        "most popular": popular,
        "most recent": last + on_last / (on_last.max() + 1.0),
        "item-KNN": near + 1e-9 * popular,
    }
    for scores in found.values():
        scores[request.saved] = -np.inf
    return found


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"artists\.parquet: no such file"):
        Tags(tmp_path)
