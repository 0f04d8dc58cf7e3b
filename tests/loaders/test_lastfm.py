"""Last.fm against counts made from the files in the plainest way."""

import datetime
from collections import Counter, defaultdict
from math import log
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from loaders import lastfm
from services.core.errors import InvalidArgument
from services.core.events import Action, Batch
from tests.loaders.checks import check, shared

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def folder() -> Path:
    return shared("lastfm")


@pytest.fixture(scope="module")
def events(folder: Path) -> Batch:
    return check(lastfm.open(folder), lastfm.open(folder), (1, 1892, 60_000, 283_000))


@pytest.fixture(scope="module")
def saved(folder: Path) -> Rows:
    artists = set(pq.read_table(folder / "artists.parquet")["id"].to_pylist())
    rows = pq.read_table(folder / "user_tagged_artists.parquet").to_pylist()
    return [row for row in rows if row["artistID"] in artists and row["date"].year >= 2000]


def of(events: Batch, action: Action) -> Batch:
    return events.take(events.action == action)


def test_counts_follow_from_the_files(events: Batch, saved: Rows, folder: Path) -> None:
    friends = {tuple(row.values()) for row in pq.read_table(folder / "user_friends.parquet").to_pylist()}
    assert Counter(events.action.tolist()) == {
        Action.NAME_USER: 1892,
        Action.NAME_INTEREST: len({row["tagID"] for row in saved}),
        Action.CREATE_BOARD: len({(row["userID"], row["tagID"]) for row in saved}),
        Action.CREATE_PIN: 17_632,
        Action.FOLLOW_USER: len(friends | {(b, a) for a, b in friends}),
        Action.FOLLOW_INTEREST: sum(min(n, 5) for n in tags_of_users(saved).values()),
        Action.SAVE: len(saved),
    }
    assert len(saved) == 184_936


def tags_of_users(saved: Rows) -> Counter[int]:
    return Counter(user for user, _ in {(row["userID"], row["tagID"]) for row in saved})


def test_saves_are_the_assignments(events: Batch, saved: Rows) -> None:
    saves = of(events, Action.SAVE)
    found = zip(saves.user.tolist(), saves.pin.tolist(), saves.board.tolist(), saves.at_ms.tolist(), strict=True)
    expected = {(r["userID"], r["artistID"], r["userID"] << 32 | r["tagID"], midnight(r["date"])) for r in saved}
    assert set(found) == expected


def midnight(date: datetime.date) -> int:
    return int(datetime.datetime(date.year, date.month, date.day, tzinfo=datetime.UTC).timestamp() * 1000)


def test_boards_are_titled_dated_and_owned(events: Batch, saved: Rows, folder: Path) -> None:
    words = {row["tagID"]: row["tagValue"] for row in pq.read_table(folder / "tags.parquet").to_pylist()}
    first: dict[int, int] = {}
    for row in saved:
        board = row["userID"] << 32 | row["tagID"]
        first[board] = min(first.get(board, 2**62), midnight(row["date"]))
    boards = of(events, Action.CREATE_BOARD)
    for user, board, at_ms, title in zip(
        boards.user.tolist(), boards.board.tolist(), boards.at_ms.tolist(), boards.title.strings(), strict=True
    ):
        assert (board >> 32, at_ms, title) == (user, first[board], words[board & 0xFFFFFFFF])


def test_pins_have_names_links_quality_and_their_most_used_tags(events: Batch, saved: Rows, folder: Path) -> None:
    rows = {row["id"]: row for row in pq.read_table(folder / "artists.parquet").to_pylist()}
    listeners = Counter(pq.read_table(folder / "user_artists.parquet")["artistID"].to_pylist())
    most = listeners.most_common(1)[0][1]
    tags: dict[int, Counter[int]] = defaultdict(Counter)
    for row in saved:
        tags[row["artistID"]][row["tagID"]] += 1
    pins = of(events, Action.CREATE_PIN)
    titles, links = pins.title.strings(), pins.link.strings()
    for i, pin in enumerate(pins.pin.tolist()):
        assert (titles[i], links[i]) == (rows[pin]["name"], rows[pin]["url"])
        assert pins.quality[i] == pytest.approx(log(1 + listeners[pin]) / log(1 + most))
        ranked = [uses for _, uses in tags[pin].most_common()]
        wanted = [uses for place, uses in enumerate(ranked[:5]) if uses >= 2 or place == 0]
        assert [tags[pin][tag] for tag in pins.interests.run(i).tolist()] == wanted


def test_notes_say_what_was_skipped(folder: Path) -> None:
    notes = "\n".join(lastfm.open(folder).notes)
    assert "5 tag assignments dated before 2000 skipped" in notes
    assert "1538 tag assignments of 390 artists without a row skipped" in notes


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"artists\.parquet: no such file"):
        lastfm.open(tmp_path)
