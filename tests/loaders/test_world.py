"""The demo world: its files are readable, hang together, and look like people."""

import filecmp
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loaders import parquet, words
from loaders.generate import generate
from loaders.world import SPAN_MS, Clock, Spec, build
from services.core.errors import InvalidArgument
from services.core.events import EARLIEST_MS, Action
from tests.loaders.checks import check

NOW = 1_760_000_000_000
SPEC = Spec(users=800, pins=8_000, boards=2_400, saves=60_000, seed=3)
FILES = ["boards", "events", "follows", "interests", "pins", "users"]
Columns = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    generate(SPEC, out, NOW)
    return out


@pytest.fixture(scope="module")
def world(folder: Path) -> dict[str, Columns]:
    tables = {name: pq.read_table(folder / f"{name}.parquet") for name in FILES}
    return {name: {column: values(table[column]) for column in table.column_names} for name, table in tables.items()}


def values(column: Any) -> Any:
    """Lists as they are, anything else as an array; no board is 0."""
    if pa.types.is_list(column.type):
        return column.to_pylist()
    return np.array(column.fill_null(0) if pa.types.is_integer(column.type) else column)


def test_it_loads_like_anybodys_own(folder: Path) -> None:
    dataset = parquet.open(folder, NOW)
    events = check(dataset, parquet.open(folder, NOW), (5, 3_000, 90_000))
    assert not dataset.notes, "sorted, complete and dated"
    counts = Counter(events.action.tolist())
    assert counts[Action.CREATE_PIN] == SPEC.pins
    assert counts[Action.SAVE] == pytest.approx(SPEC.saves, rel=0.005)
    assert all(counts[action] for action in (Action.IMPRESSION, Action.CLOSEUP, Action.CLICK, Action.HIDE))
    assert events.at_ms.max() <= NOW
    saves = events.take(events.action == Action.SAVE)
    assert not np.isnan(saves.quality).any()


def test_the_same_seed_and_moment_make_the_same_files(folder: Path, tmp_path: Path) -> None:
    generate(SPEC, tmp_path / "again", NOW)
    names = [f"{name}.parquet" for name in FILES]
    assert filecmp.cmpfiles(folder, tmp_path / "again", names, shallow=False) == (names, [], [])
    generate(Spec(800, 8_000, 2_400, 60_000, seed=4), tmp_path / "other", NOW)
    assert not filecmp.cmp(folder / "events.parquet", tmp_path / "other" / "events.parquet", shallow=False)


def test_every_reference_is_there(world: dict[str, Columns]) -> None:
    for name, column, kind in (
        ("boards", "user", "users"), ("pins", "user", "users"), ("follows", "user", "users"),
        ("events", "user", "users"), ("events", "pin", "pins"),
    ):  # fmt: skip
        assert np.isin(world[name][column], world[kind][kind[:-1]]).all(), (name, column)
    targets = {"user": "users", "board": "boards", "interest": "interests"}
    for kind, table in targets.items():
        rows = world["follows"]["kind"] == kind
        assert np.isin(world["follows"]["target"][rows], world[table][kind]).all()
    assert {i for run in world["pins"]["interests"] for i in run} <= set(world["interests"]["interest"].tolist())


def test_saves_are_distinct_on_the_savers_board_and_later_than_both(world: dict[str, Columns]) -> None:
    events, boards, pins = world["events"], world["boards"], world["pins"]
    saved = events["action"] == "save"
    board, pin = events["board"][saved] - 1, events["pin"][saved] - 1
    assert len(np.unique(board * np.uint64(2**32) + pin)) == saved.sum()
    assert np.array_equal(boards["user"][board], events["user"][saved])
    assert (events["at"][saved] >= boards["at"][board]).all()
    assert (events["at"] >= pins["at"][events["pin"] - 1]).all()


def test_popularity_is_zipf(world: dict[str, Columns]) -> None:
    saved = world["events"]["pin"][world["events"]["action"] == "save"]
    counts = np.sort(np.bincount(saved))[::-1]
    rank = np.arange(1, 2001)
    slope = np.polyfit(np.log(rank), np.log(counts[:2000]), 1)[0]
    assert -1.5 < slope < -0.3
    assert counts[:800].sum() > 0.3 * counts.sum(), "a tenth of the pins has over 30 % of the saves"
    followed = np.sort(np.bincount(world["follows"]["target"][world["follows"]["kind"] == "user"]))[::-1]
    assert followed[:80].sum() > 0.3 * followed.sum()


def test_people_follow_within_their_interests() -> None:
    made = build(SPEC)
    member = np.zeros((SPEC.users, len(made.words.interests)), bool)
    user, column = np.nonzero(made.own >= 0)
    member[user, made.own[user, column]] = True
    assert ((member.sum(axis=1) >= 2) & (member.sum(axis=1) <= 5)).all()
    shared_by = member.astype(int) @ member.T.astype(int) > 0
    chance = shared_by[~np.eye(SPEC.users, dtype=bool)].mean()
    from loaders.activity import follow_users

    follower, followed, _ = follow_users(made, np.random.default_rng(1))
    assert shared_by[follower, followed].mean() > 5 * chance


def test_boards_are_about_something(world: dict[str, Columns]) -> None:
    made = build(SPEC)
    events = world["events"]
    saved = events["action"] == "save"
    about = made.about[events["board"][saved] - 1]
    topic = made.topic[events["pin"][saved] - 1]
    assert (about == topic).mean() > 0.5
    theme = made.words.theme_of
    assert (theme[about] == theme[topic]).mean() > 0.8


def test_days_have_a_rhythm(world: dict[str, Columns]) -> None:
    hours = world["events"]["at"].astype("datetime64[h]").astype(np.int64) % 24
    counts = np.bincount(hours, minlength=24)
    assert counts[20] > 5 * counts[3]
    clock = Clock(NOW)
    at = clock.at_ms(np.linspace(0, 1, 1000))
    assert (np.diff(at) > 0).all()
    assert (at[0], at[-1]) == (NOW - SPAN_MS, NOW)


def test_titles_and_names_are_varied(world: dict[str, Columns]) -> None:
    assert len(np.unique(world["pins"]["title"])) > 0.85 * SPEC.pins
    assert len(np.unique(world["users"]["name"])) == SPEC.users
    assert all(text.strip() == text and text and "  " not in text for text in world["pins"]["title"].tolist())
    assert all(link.startswith("https://example.org/") for link in world["pins"]["link"].tolist())


def test_the_vocabulary_is_whole() -> None:
    found = [name for theme in words.themes() for name in theme.interests]
    assert len(found) == len(set(found)) > 250
    assert len({words.slug(name) for name in found}) == len(found)
    for theme in words.themes():
        assert len(theme.adjectives) == len(set(theme.adjectives)) >= 6
        assert len(theme.endings) == len(set(theme.endings)) >= 6
        assert all(len(set(things)) == len(things) >= 3 for things in theme.interests.values())
    baking = words.themes()[0]
    assert "Walnut sourdough, slow-proofed" in words.pin_titles(baking, "sourdough")
    garden = next(theme for theme in words.themes() if theme.name == "Gardening")
    assert "Small-balcony herb garden in a weekend" in words.pin_titles(garden, "herb gardens")


@pytest.mark.parametrize("spec", [Spec(1, 1, 1, 0), Spec(1, 2, 1, 1), Spec(2, 30, 50, 700), Spec(50, 10, 5, 20)])
def test_small_worlds(spec: Spec, tmp_path: Path) -> None:
    rows = generate(spec, tmp_path, NOW)
    assert (rows["users"], rows["pins"], rows["boards"]) == (spec.users, spec.pins, spec.boards)
    dataset = parquet.open(tmp_path, NOW)
    check(dataset, dataset, (1,))


def test_impossible_worlds_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="users = 0"):
        Spec(users=0)
    with pytest.raises(InvalidArgument, match="saves = 100 is not allowed: at most 50"):
        Spec(pins=10, boards=10, saves=100)
    with pytest.raises(InvalidArgument, match="now_ms"):
        Clock(EARLIEST_MS)
