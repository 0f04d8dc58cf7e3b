"""Folders and columns of people's files that failed to load, by the number of their case, and others of each kind."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loaders import parquet
from services.core.events import Action, Surface
from tests.cases.loading import AT, NOW, case, loaded, refused, write


def test_P01_events_need_no_surface() -> None:
    events = loaded(case("P01"))
    assert events.action.tolist() == [Action.CREATE_PIN, Action.CREATE_PIN, Action.SAVE]
    assert events.surface[2] == Surface.IMPORT


@pytest.mark.parametrize("lacking", ["board", "surface", "at"])
@pytest.mark.parametrize("action", ["click", "impression"])
def test_P01_what_is_optional_may_be_absent_null_or_untyped(tmp_path: Path, lacking: str, action: str) -> None:
    columns = {"user": [7], "action": [action], "pin": [1], "board": [9], "at": [AT], "surface": ["home"]}
    write(tmp_path, "pins", pin=[1])
    optional = lacking != "at"
    for empty in (None, pa.nulls(1), pa.array([None], pa.string())):
        write(tmp_path, "events", **{k: v for k, v in {**columns, lacking: empty}.items() if v is not None})
        if optional:
            assert loaded(tmp_path).action.tolist() == [Action.CREATE_PIN, Action[action.upper()]]
        else:
            refused(tmp_path, "events.parquet", "at")


def test_P03_a_column_that_is_missing_is_named() -> None:
    refused(
        case("P03"), "follows.parquet: no column kind; required are user, kind, target", "the file has user, target"
    )


@pytest.mark.parametrize(
    ("name", "columns", "said"),
    [
        ("pins", {"pin_id": [1]}, "no column pin; required are pin;"),
        ("users", {"User": [1]}, "column 'User' may be meant: rename it to user"),
        ("boards", {"board": [1], "user ": [1]}, "column 'user ' may be meant"),
        ("interests", {"interest": [1], "title": ["a"]}, "no column name"),
        ("pins", {"pin": [1], "Titel": ["a"]}, "column 'Titel' may be meant: rename it to title, or drop it"),
        ("pins", {"pin": [1], "interest": [[1]]}, "rename it to interests"),
        ("events", {"user": [1], "action": ["click"], "pin": [1]}, "no column at"),
        ("events", {}, "no columns"),
    ],
)
def test_P03_misnamed_columns_are_refused(tmp_path: Path, name: str, columns: dict[str, Any], said: str) -> None:
    write(tmp_path, "pins", pin=[1])
    refused(write(tmp_path, name, **columns), f"{name}.parquet", said)


def test_P03_other_columns_are_named_and_not_read(tmp_path: Path) -> None:
    notes = parquet.open(write(tmp_path, "pins", pin=[1], cat=["x"], price=[1.5], PIN=[2]), NOW).notes
    assert any("pins.parquet: columns PIN, cat, price are not read; known are pin, user" in note for note in notes)


def test_P05_a_folder_of_part_files_is_a_file() -> None:
    assert loaded(case("P05")).pin.tolist() == [1, 2]


def test_P05_parts_may_differ_in_types_and_columns(tmp_path: Path) -> None:
    folder = tmp_path / "pins"
    folder.mkdir()
    pq.write_table(pa.table({"pin": pa.array([3], pa.int8()), "title": ["c"]}), folder / "part-0.parquet")
    pq.write_table(pa.table({"pin": ["4"], "title": pa.nulls(1)}), folder / "part-1.gz.parquet", compression="gzip")
    pq.write_table(pa.table({"pin": [5.0]}), folder / "part-2_0")
    pq.write_table(pa.table({"pin": pa.array([], pa.int64())}), folder / "part-3.parquet")
    for hidden in ("_SUCCESS", ".part-0.parquet.crc", "_metadata", "_committed_1"):
        (folder / hidden).write_bytes(b"\0")
    (folder / "_started_1").touch()
    events = loaded(tmp_path)
    assert events.pin.tolist() == [3, 4, 5]
    assert events.title.strings() == ["c", "", ""]


def test_P05_columns_may_stand_in_names_of_folders(tmp_path: Path) -> None:
    write(tmp_path, "pins", pin=[1])
    for user, action, at in ((8, "hide", "2026-11-03"), (7, "click", "2026-11-02"), (7, "impression", "2026-11-01")):
        folder = (
            tmp_path
            / "events"
            / f"action={action}"
            / f"at={at}"
            / f"user={user}"
            / "surface=__HIVE_DEFAULT_PARTITION__"
        )
        folder.mkdir(parents=True)
        write(folder, "data_0", pin=[1])
    events = loaded(tmp_path)
    assert events.action[1:].tolist() == [Action.IMPRESSION, Action.CLICK, Action.HIDE], "in order of date"
    assert events.user[1:].tolist() == [7, 7, 8]
    assert events.surface[1:].tolist() == [Surface.IMPORT] * 3


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        ("_temporary/0/x", "has not finished"),
        ("_started_12", "has not finished"),
        ("_delta_log/0.json", "Delta table"),
        (".hoodie/x", "Hudi"),
        ("metadata/v1.metadata.json", "Iceberg"),
        ("part-1.csv", "part-1.csv: not a readable Parquet file"),
        ("part-1.parquet", "part-1.parquet: not a readable Parquet file: it is empty"),
    ],
)
def test_P05_folders_that_are_not_the_table_are_refused(tmp_path: Path, inside: str, said: str) -> None:
    (tmp_path / "pins.parquet").mkdir()
    write(tmp_path / "pins.parquet", "part-0", pin=[1])
    path = tmp_path / "pins.parquet" / inside
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a,b" if inside.endswith("csv") else "")
    refused(tmp_path, said)


def test_P05_empty_and_doubled_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pins").mkdir()
    refused(tmp_path, "pins: the folder has no Parquet files")
    write(tmp_path, "pins", pin=[1])
    refused(tmp_path, "both are pins")


def test_P06_a_file_under_another_name_is_refused() -> None:
    refused(case("P06"), "event.parquet: not one of the files that are read", "perhaps events.parquet is meant")


@pytest.mark.parametrize(
    "name",
    [
        "Events.parquet",
        "events (1).parquet",
        "events.PARQUET",
        "saves.parquet",
        "x.pq",
        "evnets.csv",
        "events.parquet.gz",
        "follow",
    ],
)
def test_P06_what_looks_like_data_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, "pins", pin=[1])
    (tmp_path / name).write_bytes(b"PAR1")
    refused(tmp_path, name, "users.parquet, interests.parquet")


def test_P06_the_rest_is_named_and_missing_files_are_said_to_be_missing(tmp_path: Path) -> None:
    write(tmp_path, "pins", pin=[1])
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / ".DS_Store").write_text("")
    notes = parquet.open(tmp_path, NOW).notes
    assert [note for note in notes if note.startswith("README.md is not read")]
    assert "no events.parquet in the folder" in notes
    assert not [note for note in notes if "DS_Store" in note]


def test_P06_what_cannot_be_read_is_not_missing(tmp_path: Path) -> None:
    write(tmp_path, "pins", pin=[1])
    events = tmp_path / "events.parquet"
    events.symlink_to(tmp_path / "elsewhere.parquet")
    refused(tmp_path, "events.parquet: could not be read: No such file or directory")
    events.unlink()
    events.symlink_to(events)
    refused(tmp_path, "events.parquet: could not be read: Too many levels of symbolic links")
    events.unlink()
    os.mkfifo(events)
    refused(tmp_path, "events.parquet: not a file")
    events.unlink()
    write(tmp_path, "events", user=[1])
    events.chmod(0)
    if not os.access(events, os.R_OK):
        refused(tmp_path, "events.parquet: could not be read: Permission denied")


def test_P15_a_column_that_stands_twice_is_refused() -> None:
    refused(case("P15"), "pins.parquet: column pin is there 2 times")


def test_P15_only_of_columns_that_are_read(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], names=["pin", "x", "x"])
    pq.write_table(table, tmp_path / "pins.parquet")
    assert loaded(tmp_path).pin.tolist() == [1]
    table = pa.Table.from_arrays([pa.array([1]), pa.array(["a"]), pa.array(["b"])], names=["pin", "title", "title"])
    pq.write_table(table, tmp_path / "pins.parquet")
    refused(tmp_path, "column title is there 2 times")
