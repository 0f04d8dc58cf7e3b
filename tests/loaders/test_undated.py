"""Flickr and Pinterest: pairs without dates or names."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loaders import flickr, pinterest
from loaders.undated import END_MS, START_MS
from services.core.errors import InvalidArgument
from services.core.events import Action
from tests.loaders.checks import check, shared, whole


def test_flickr() -> None:
    folder = shared("flickr")
    events = check(flickr.open(folder), flickr.open(folder), (8_359, 300_000))
    saved, follows = pq.read_table(folder / "train.parquet"), pq.read_table(folder / "follows.parquet")
    users = set(saved["user"].to_pylist()) | set(follows["follower"].to_pylist()) | set(follows["followee"].to_pylist())
    assert Counter(events.action.tolist()) == {
        Action.NAME_USER: len(users),
        Action.CREATE_BOARD: len(set(saved["user"].to_pylist())),
        Action.CREATE_PIN: len(set(saved["item"].to_pylist())),
        Action.FOLLOW_USER: follows.num_rows,
        Action.SAVE: saved.num_rows,
    }
    saves = events.take(events.action == Action.SAVE)
    assert START_MS <= saves.at_ms.min() < saves.at_ms.max() <= END_MS
    assert set(zip(saves.user.tolist(), saves.pin.tolist(), strict=True)) == {
        (user + 1, item + 1) for user, item in zip(saved["user"].to_pylist(), saved["item"].to_pylist(), strict=True)
    }


def test_pinterest() -> None:
    folder = shared("pinterest")
    events = check(pinterest.open(folder), pinterest.open(folder), (75_000, 1_000_000))
    assert Counter(events.action.tolist()) == {
        Action.NAME_USER: 37_501,
        Action.CREATE_BOARD: 37_501,
        Action.CREATE_PIN: 9_826,
        Action.SAVE: 962_653,
    }
    saves = events.take(events.action == Action.SAVE)
    assert np.array_equal(saves.user, saves.board)


def test_nothing_is_saved_before_it_is_there(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user": [0, 0, 1], "item": [0, 5, 5]}), tmp_path / "train.parquet")
    events = whole(pinterest.open(tmp_path))
    saves = events.take(events.action == Action.SAVE)
    for action, column in ((Action.CREATE_BOARD, "board"), (Action.CREATE_PIN, "pin")):
        made = events.take(events.action == action)
        for key, at_ms in zip(getattr(made, column).tolist(), made.at_ms.tolist(), strict=True):
            assert at_ms == saves.at_ms[getattr(saves, column) == key].min()
    assert events.take(events.action == Action.CREATE_PIN).title.strings() in (["pin 1", "pin 6"], ["pin 6", "pin 1"])


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user": [0], "thing": [0]}), tmp_path / "train.parquet")
    with pytest.raises(InvalidArgument, match=r"train\.parquet: no column item; it has user, thing"):
        pinterest.open(tmp_path)
