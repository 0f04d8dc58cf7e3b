"""The bulk loader: what it writes, and what it refuses, each by its name."""

import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cli.main import app
from loaders.text_ids import TextIds, as_text
from rockstore import bulk
from rockstore.keys import datasets_of, versions
from rockstore.versions import DatasetManifest, check_file, read_manifest
from services.core import external
from services.core.columns import ids
from services.core.errors import Exhausted, InvalidArgument
from tests.rockstore.world import KEYS, MATRIX

T0 = 1_700_000_000_000


def load(folder: Path, **columns: Any) -> DatasetManifest:
    """Load a table of these columns; a part of the options may be among them."""
    options = {name: columns.pop(name) for name in ("key", "new_columns") if name in columns}
    path = folder / "in.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return bulk.load(path, datasets_of(folder), "taste", 4, T0, **options)


def test_every_kind_of_number_is_loaded_as_float32_and_null_as_nan(tmp_path: Path) -> None:
    columns = {
        "i8": pa.array([1, None, -3], pa.int8()),
        "u64": pa.array([2**63, 2, 3], pa.uint64()),
        "f16": pa.array(np.array([0.5, 2, 3], np.float16)),
        "f64": pa.array([0.1, None, float("inf")], pa.float64()),
        "truth": pa.array([True, False, None]),
    }
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"user": pa.array([9, 8, 7], pa.int32()), **columns}), path)
    source = bulk.ParquetSource(path, "user")
    assert (source.columns, source.keys.tolist()) == (list(columns), [9, 8, 7])
    matrix = np.concatenate(list(source.matrices(["truth", "i8", "u64", "f16", "f64"])))
    nan = np.nan
    expected = [[1, 1, 2**63, 0.5, 0.1], [0, nan, 2, 2, nan], [nan, -3, 3, 3, np.inf]]
    np.testing.assert_array_equal(matrix, np.array(expected, np.float32))


@pytest.mark.parametrize(
    "keys",
    [
        pa.array([9, 8], pa.float64()),
        pa.array(["9", "8"]),
        pa.array(["9", "8"]).dictionary_encode(),
        pa.array([Decimal(9), Decimal(8)], pa.decimal128(20, 0)),
    ],
    ids=lambda keys: str(keys.type),
)
def test_P11_keys_are_ids_however_they_are_encoded(tmp_path: Path, keys: Any) -> None:
    """As for all ids: pandas makes floats of them, R factors, Spark decimals. So are values: P12, P13."""
    a = pa.array([Decimal("0.5"), None], pa.decimal128(4, 2))
    b = pa.array([0.25, 0.5]).dictionary_encode()
    pq.write_table(pa.table({"pin": keys, "a": a, "b": b, "c": pa.nulls(2)}), tmp_path / "in.parquet")
    source = bulk.ParquetSource(tmp_path / "in.parquet", "pin")
    assert source.keys.tolist() == [9, 8]
    matrix = np.concatenate(list(source.matrices(["a", "b", "c"])))
    np.testing.assert_array_equal(matrix, np.array([[0.5, 0.25, np.nan], [np.nan, 0.5, np.nan]], np.float32))


def test_P21_keys_are_text_where_ids_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"user": ["ana@example.org", "u-0651"], "a": [1.0, 2.0]}), tmp_path / "in.parquet")
    with as_text(TextIds()):
        source = bulk.ParquetSource(tmp_path / "in.parquet", "user")
    assert source.keys.tolist() == [external.number_of("ana@example.org"), external.number_of("u-0651")]
    monkeypatch.setattr(external, "number_of", lambda text: 7)
    with as_text(TextIds()), pytest.raises(InvalidArgument, match=r"have one hash \(7\): change one of them"):
        bulk.ParquetSource(tmp_path / "in.parquet", "user")


def test_a_version_is_whole_and_the_numbers_ascend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "VALUES_AT_ONCE", 100)  # many chunks, as of a large file
    done = list[tuple[int, int]]()
    path, blobs = tmp_path / "in.parquet", datasets_of(tmp_path)
    pq.write_table(pa.table({"pin": KEYS, "a": MATRIX[:, 0], "b": MATRIX[:, 1]}), path)
    made = bulk.load(path, blobs, "taste", 4, T0, report=lambda now, of: done.append((now, of)))
    assert read_manifest(blobs, "taste", 1) == made
    assert (made.columns, made.rows, sum(file.rows for file in made.files.values())) == (["a", "b"], 500, 500)
    assert done == sorted(done)
    assert (len(done) >= 10, done[-1]) == (True, (1000, 1000))
    home = tmp_path / "datasets" / "taste"
    assert sorted(p.name for p in (home / "1").iterdir()) == ["manifest.json", *(f"part-{p}.sst" for p in range(4))]
    for partition, file in made.files.items():
        check_file(home / "1" / f"part-{partition}.sst", file, "taste")
    blobs.put("taste/7/manifest.json", b"{}")
    blobs.put("taste/reserved", b"8")  # by a load that was killed
    assert bulk.load(path, blobs, "taste", 4, T0, new_columns=True).version == 9
    assert versions(blobs, "taste") == [1, 7, 9]
    assert not list(home.glob(".draft*"))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no key": ({"user": [1], "a": [1.0]}, "column 'pin' is missing, and it is the key; the file has user, a"),
    "no features": ({"pin": [1]}, "has 0 feature columns beside 'pin'; allowed are 1 to 1024"),
    "1025 features": (
        {"pin": [1], **{f"c{i}": [1.0] for i in range(1025)}},
        "has 1025 feature columns beside 'pin'; allowed are 1 to 1024",
    ),
    "text": (
        {"pin": [1], "a": ["x"]},
        "column 'a' is string; features are integers, floating-point numbers, decimals or",
    ),
    "a list": ({"pin": [1], "a": [[1.0]]}, "column 'a' is list<.*>; features are integers"),
    "text keys": ({"pin": ["1", "u-2"], "a": [1.0, 2.0]}, r"column pin, row 1 \(from 0\): u-2 is not allowed: ids are"),
    "null key": ({"pin": [1, 2, 3, None], "a": [1.0] * 4}, r"column pin, row 3 \(from 0\): null is not allowed"),
    "key 0": ({"pin": [1, 2, 0], "a": [1.0] * 3}, r"column pin, row 2 \(from 0\): 0 is not allowed: ids are whole"),
    "negative key": ({"pin": [1, 2, -4], "a": [1.0] * 3}, r"column pin, row 2 \(from 0\): -4 is not allowed"),
    "half a key": ({"pin": [1.0, 2.5], "a": [1.0] * 2}, r"column pin, row 1 \(from 0\): 2.5 is not allowed"),
    "a reserved key": (
        {"pin": pa.array([1, 2**64 - 1], pa.uint64()), "a": [1.0] * 2},
        r"column pin, row 1 \(from 0\): 1844",
    ),
    "twice": (
        {"pin": [1, 51, 3, 51, 3], "a": [1.0] * 5},
        r"column 'pin' rows 2 and 4 \(from 0\): key 3 is there more than once",
    ),
    "too large": ({"pin": [1, 2, 3], "a": [1.0, 2.0, 1e39]}, r"column 'a' row 2 \(from 0\): 1e\+39 is beyond what a"),
    "no rows": ({"pin": pa.array([], pa.int64()), "a": pa.array([], pa.float32())}, "has no rows"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_is_wrong_is_refused_by_column_and_row_and_leaves_nothing(tmp_path: Path, case: str) -> None:
    """A reserved key is of P17."""
    columns, said = REFUSED[case]
    with pytest.raises(InvalidArgument, match=f"in.parquet: {said}"):
        load(tmp_path, **columns)
    assert versions(datasets_of(tmp_path), "taste") == []
    assert not list(tmp_path.glob("datasets/taste/.draft*"))


def test_other_columns_than_before_are_refused_unless_they_are_meant(tmp_path: Path) -> None:
    load(tmp_path, pin=[1], a=[1.0], b=[2.0])
    with pytest.raises(InvalidArgument, match="column 'b' is missing; version 1 of taste has it .--new-columns"):
        load(tmp_path, pin=[1], a=[1.0])
    with pytest.raises(InvalidArgument, match="column 'c' is new; version 1 of taste does not have it .--new-columns"):
        load(tmp_path, pin=[1], c=[3.0], a=[1.0], b=[2.0])
    assert load(tmp_path, pin=[1], b=[2.0], a=[1.0]).columns == ["a", "b"]  # as before: live rows have no names
    assert load(tmp_path, pin=[1], c=[3.0], new_columns=True).columns == ["c"]
    (tmp_path / "datasets" / "taste" / "3" / "manifest.json").unlink()
    with pytest.raises(
        InvalidArgument, match="manifest.json: there is no such blob; --new-columns loads without comparing"
    ):
        load(tmp_path, pin=[1], c=[3.0])


def test_a_file_that_is_no_parquet_or_is_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    for content in (None, b"", b"PAR1 and nothing else PAR1"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InvalidArgument, match="in.parquet: can't be read as Parquet"):
            bulk.load(path, datasets_of(tmp_path), "taste", 4, T0)
    pq.write_table(pa.table({"pin": [1], "a": [1.0], "a2": [1.0]}).rename_columns(["pin", "a", "a"]), path)
    with pytest.raises(InvalidArgument, match="column 'a' is there more than once"):
        bulk.load(path, datasets_of(tmp_path), "taste", 4, T0)


def test_two_loads_of_a_dataset_at_once_have_numbers_of_their_own(tmp_path: Path) -> None:
    columns, inner = {"pin": [1], "a": [1.0]}, list[int]()
    load(tmp_path, **columns)  # so that both have columns to compare with

    def meanwhile(done: int, of: int) -> None:
        if not inner:
            inner.append(0)
            inner[0] = bulk.load(tmp_path / "in.parquet", datasets_of(tmp_path), "taste", 4, T0).version

    outer = bulk.load(tmp_path / "in.parquet", datasets_of(tmp_path), "taste", 4, T0, report=meanwhile)
    assert (outer.version, inner) == (2, [3])
    assert versions(datasets_of(tmp_path), "taste") == [1, 2, 3]


def test_a_full_disk_leaves_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(Exhausted, match="the disk is full; nothing was"):
            load(tmp_path, pin=[1], a=[1.0])
    assert versions(datasets_of(tmp_path), "taste") == []
    assert load(tmp_path, pin=[1], a=[1.0]).version == 1


# --- the command ------------------------------------------------------------------------------------------------------


def feedmesh(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["features", *map(str, arguments)], env={"COLUMNS": "300"})
    return result.exit_code, " ".join(result.output.split())


def test_the_command_loads_without_a_mesh_and_says_what_it_needs_one_for(tmp_path: Path) -> None:
    path, data = tmp_path / "in.parquet", ("--data", tmp_path)
    pq.write_table(pa.table({"user": [1, 2], "a": [1.0, 2.0]}), path)
    os.utime(path, (T0 / 1000, T0 / 1000))
    code, said = feedmesh("load", "taste", path, "--key", "user", "--no-switch", *data)
    assert (code, "taste: version 1, 2 rows of 1 columns" in said) == (0, True)
    made = read_manifest(datasets_of(tmp_path), "taste", 1)
    assert (made.as_of_ms, made.partitions) == (T0, 16)
    feedmesh("load", "taste", path, "--key", "user", "--no-switch", "--as-of", "2024-01-02T03:04", *data)
    assert read_manifest(datasets_of(tmp_path), "taste", 2).as_of_ms == 1_704_164_640_000
    for arguments in (
        ("load", "taste", path, "--key", "user"),
        ("switch", "taste", 1),
        ("put", "taste", "--key", 5, -1),
    ):
        code, said = feedmesh(*arguments, *data)
        assert (code, "no mesh runs on this data folder" in said) == (1, True)
    assert versions(datasets_of(tmp_path), "taste") == [1, 2]
    code, said = feedmesh("list", *data)
    assert (code, "taste - 1, 2" in said, "no mesh runs on this data folder" in said) == (0, True, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("load", "Taste", "FILE", "--no-switch"), "dataset = 'Taste': allowed are a to z"),
        (("load", "taste", "nowhere.parquet", "--no-switch"), "nowhere.parquet: no such file or directory"),
        (("load", "taste", "FILE", "--no-switch", "--key", "board"), "column 'board' is missing, and it is the key"),
        (("load", "taste", "FILE", "--no-switch", "--as-of", "soon"), "as-of = 'soon': allowed are ISO 8601 dates"),
        (("load", "taste", "FILE", "--no-switch", "--as-of", "2999-01-01"), "allowed is from 1970-01-01 to now"),
        (("put", "taste", "--key", 5, *[1] * 1025), "values: 1025 numbers; at most 1024"),
        (("put", "../x", "--key", 5, 1), "dataset = '../x': allowed are"),
        (("switch", "taste", 0), "greater than or equal to 1"),
    ],
)
def test_the_command_refuses_by_name(tmp_path: Path, arguments: tuple[Any, ...], said: str) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"pin": [1, 2], "a": [1.0, 2.0]}), path)
    code, found = feedmesh(*(path if a == "FILE" else a for a in arguments), "--data", tmp_path)
    assert (code, said in found) == (2, True)


def test_a_sorted_file_takes_rows_that_are_in_order(tmp_path: Path) -> None:
    matrix, of = np.zeros((3, 2), np.float32), (0, "taste", 1)
    with pytest.raises(ValueError, match="^keys: row 2 is 2, not above 2 before it$"):
        bulk._write_file(tmp_path / "0.sst", ids([1, 2, 2]), matrix, of)
    with pytest.raises(ValueError, match="^matrix: 3 rows, expected 2$"):
        bulk._write_file(tmp_path / "0.sst", ids([1, 2]), matrix, of)
    assert bulk._write_file(tmp_path / "0.sst", ids([1, 2, 3]), matrix, of).rows == 3
