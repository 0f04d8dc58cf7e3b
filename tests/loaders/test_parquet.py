"""Users' own files: which parts are read, in which order, and the message of each mistake."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loaders import parquet
from services.core.errors import InvalidArgument
from services.core.events import EARLIEST_MS, Action, Surface
from tests.loaders.checks import check, whole

NOW = 1_760_000_000_000
GOOD: dict[str, dict[str, list[Any]]] = {
    "users": {"user": [1, 2], "name": ["Ada", None], "at": [NOW - 9, NOW - 8]},
    "interests": {"interest": [5], "name": ["Tea"]},
    "boards": {"board": [11], "user": [1], "title": ["Teas"]},
    "pins": {
        "pin": [100, 101], "title": ["Oolong", None], "link": [None, "https://example.org/b"], "interests": [[5], None],
        "quality": [0.25, None],
    },
    "follows": {"user": [2, 2, 1], "kind": ["user", "board", "interest"], "target": [1, 11, 5], "at": [NOW - 5] * 3},
    "events": {
        "user": [2, 1, 2], "action": ["closeup", "save", "hide"], "pin": [100, 100, 101], "board": [None, 11, None],
        "at": [NOW - 4, NOW - 3, NOW - 2], "surface": ["home", None, "search"],
    },
}  # fmt: skip


def write(folder: Path, tables: dict[str, dict[str, Any]], groups: int = 1000) -> Path:
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet", row_group_size=groups)
    return folder


def changed(file: str, **columns: Any) -> dict[str, dict[str, Any]]:
    return {**GOOD, file: {**GOOD[file], **columns}}


@pytest.mark.parametrize("groups", [1, 2, 1000])
def test_every_file_becomes_its_events(tmp_path: Path, groups: int) -> None:
    write(tmp_path, GOOD, groups)
    events = check(parquet.open(tmp_path, NOW), parquet.open(tmp_path, NOW), range(12))
    assert [Action(a).name for a in events.action.tolist()] == [
        "NAME_USER", "NAME_USER", "NAME_INTEREST", "CREATE_BOARD", "CREATE_PIN", "CREATE_PIN",
        "FOLLOW_USER", "FOLLOW_BOARD", "FOLLOW_INTEREST", "CLOSEUP", "SAVE", "HIDE",
    ]  # fmt: skip
    assert events.title.strings()[:6] == ["Ada", "user 2", "Tea", "Teas", "Oolong", ""]
    assert events.link.strings()[4:6] == ["", "https://example.org/b"]
    assert events.interests.run(4).tolist() == [5]
    assert events.target[6:9].tolist() == [1, 0, 5]
    assert events.board[6:].tolist() == [0, 11, 0, 0, 11, 0]
    assert events.surface[8:].tolist() == [Surface.IMPORT, Surface.HOME, Surface.IMPORT, Surface.SEARCH]
    assert events.quality[10] == 0.25
    assert np.isnan(events.quality[9])
    assert (events.at_ms[2:6] == NOW - 9).all(), "rows without a date get the earliest of all files"


def test_only_pins_are_needed(tmp_path: Path) -> None:
    dataset = parquet.open(write(tmp_path, {"pins": {"pin": [7]}}), NOW)
    assert dataset.size == 1
    assert whole(dataset).at_ms.tolist() == [EARLIEST_MS]
    assert "no users.parquet in the folder" in dataset.notes


@pytest.mark.parametrize("groups", [1, 1000])
def test_unsorted_events_are_sorted(tmp_path: Path, groups: int) -> None:
    dataset = parquet.open(write(tmp_path, changed("events", at=[NOW - 1, NOW - 3, NOW - 2]), groups), NOW)
    assert whole(dataset).user[-3:].tolist() == [1, 2, 2]
    assert whole(dataset).action[-3:].tolist() == [Action.SAVE, Action.HIDE, Action.CLOSEUP]
    assert "events.parquet is not in order of date: sorted in memory" in dataset.notes


@pytest.mark.parametrize("kind", [pa.timestamp("us", "UTC"), pa.timestamp("ns"), pa.timestamp("s"), pa.uint64()])
def test_dates_may_be_timestamps(tmp_path: Path, kind: pa.DataType) -> None:
    ms = pa.array([NOW - 4000, NOW - 3000, NOW - 2000])
    at = ms.cast(pa.timestamp("ms")).cast(kind) if pa.types.is_timestamp(kind) else ms.cast(kind)
    assert whole(parquet.open(write(tmp_path, changed("events", at=at)), NOW)).at_ms[-3:].tolist() == ms.to_pylist()


def test_dictionaries_and_large_types_are_read(tmp_path: Path) -> None:
    actions = pa.array(["click", "save", "click"]).dictionary_encode()
    tables = changed("events", action=actions, user=pa.array([1, 2, 1], pa.int16()))
    tables["pins"] = {"pin": [100], "title": pa.array(["é" * 3000], pa.large_string())}
    events = whole(parquet.open(write(tmp_path, tables, 2), NOW))
    assert events.action[-3:].tolist() == [Action.CLICK, Action.SAVE, Action.CLICK]
    assert events.title.strings()[4] == "é" * 1024


WRONG = [
    (
        "events",
        {"action": ["save", "savé", "hide"]},
        r"events\.parquet: column action, row 1 .* savé .* one of impression",
    ),
    ("events", {"pin": [1, 2, None]}, r"events\.parquet: column pin, row 2 .* null is not allowed"),
    ("events", {"pin": [1, 0, 3]}, r"column pin, row 1 \(from 0\): 0 is not allowed: ids are whole numbers from 1"),
    ("events", {"user": [-1, 1, 1]}, r"column user, row 0 .* -1 is not allowed"),
    ("events", {"user": ["a", "b", "c"]}, r"column user, row 0 .* a is not allowed: ids are whole numbers"),
    (
        "events",
        {"at": [NOW, NOW, NOW + 1]},
        r"column at, row 2 .*1760000000001 \(2025-10-09 08:53:20 UTC\) is not allowed: dates",
    ),
    ("events", {"at": [NOW // 1000] * 3}, r"column at, row 0 .*1760000000 is not allowed: .* seconds"),
    ("events", {"at": [None, NOW, NOW]}, r"column at, row 0 .*null"),
    ("events", {"board": [None, None, None]}, r"events\.parquet: column board, row 1 .*null.*needs a board"),
    ("events", {"board": pa.array([11, None, 11], pa.int64())}, r"column board, row 1 .*save.* needs a board"),
    ("events", {"surface": ["home", "sofa", None]}, r"column surface, row 1 .*sofa"),
    (
        "follows",
        {"kind": ["user", "tag", "board"]},
        r"follows\.parquet: column kind, row 1 .*tag .*user, board, interest",
    ),
    ("pins", {"quality": [0.5, 1.5]}, r"pins\.parquet: column quality, row 1 .*1\.5.*0 to 1"),
    ("pins", {"interests": [[5], [0]]}, r"column interests, row 1"),
    ("pins", {"interests": [[5], list(range(1, 80))]}, r"column interests, row 1 .*79.*at most 64"),
    ("pins", {"title": [1, 2]}, r"column title, type int64 is not allowed: text"),
    ("interests", {"name": [5]}, r"interests\.parquet: column name, type int64"),
]


@pytest.mark.parametrize(("name", "columns", "said"), WRONG)
def test_mistakes_are_named(tmp_path: Path, name: str, columns: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        parquet.open(write(tmp_path, changed(name, **columns)), NOW)


def test_rows_are_counted_over_row_groups(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"column pin, row 2 "):
        parquet.open(write(tmp_path, changed("events", pin=[1, 2, None]), 1), NOW)


def test_missing_columns_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"pins\.parquet: no such file"):
        parquet.open(tmp_path, NOW)
    write(tmp_path, {"pins": {"pin": [1]}, "boards": {"board": [1]}})
    with pytest.raises(InvalidArgument, match=r"boards\.parquet: no column user; required are board, user"):
        parquet.open(tmp_path, NOW)
    (tmp_path / "boards.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(InvalidArgument, match=r"boards\.parquet: not a readable Parquet file"):
        parquet.open(tmp_path, NOW)
