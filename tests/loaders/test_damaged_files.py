"""Damaged, hostile or odd files are refused by name, or load; there is never any other error."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cli import load as loading
from loaders import parquet
from services.core.errors import InvalidArgument
from tests.loaders.checks import whole

NOW = 1_796_000_000_000
TABLE = pa.table(
    {
        "pin": pa.array(range(1, 400), pa.uint64()),
        "title": [f"title {i % 7}" for i in range(1, 400)],
        "link": [None if i % 3 else f"https://example.org/{i}" for i in range(1, 400)],
        "interests": [[i, 5] for i in range(1, 400)],
        "quality": [i / 400 for i in range(1, 400)],
        "at": pa.array(range(10**12, 10**12 + 399), pa.timestamp("ms")),
    }
)


def written(tmp: Path, **options: Any) -> bytes:
    pq.write_table(TABLE, tmp / "pins.parquet", row_group_size=100, **options)
    return (tmp / "pins.parquet").read_bytes()


def outcome(folder: Path) -> str:
    """Read it all: "" or the message. Anything but InvalidArgument fails the test."""
    said = ""
    try:
        for _ in parquet.open(folder, NOW).batches():
            pass
    except InvalidArgument as error:
        said = str(error)
    assert not said or "pins.parquet" in said
    assert len(said) < 2_000
    return said


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damage")


@pytest.mark.parametrize(
    "options", [{}, {"compression": "none"}, {"data_page_version": "2.0"}, {"use_dictionary": False}]
)
@given(data=st.data())
def test_flipped_bits_never_escape_as_another_error(
    folders: Path, options: dict[str, Any], data: st.DataObject
) -> None:
    good = bytearray(written(folders, **options))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folders / "pins.parquet").write_bytes(good)
    outcome(folders)


@given(cut=st.floats(0, 0.999))
def test_truncated_files_are_refused(folders: Path, cut: float) -> None:
    good = written(folders)
    (folders / "pins.parquet").write_bytes(good[: int(len(good) * cut)])
    assert "not a readable Parquet file" in outcome(folders)


@pytest.mark.parametrize("at", range(0, 3000, 100))
def test_page_checksums_are_heeded_where_a_file_has_them(tmp_path: Path, at: int) -> None:
    """Spark writes them. Without, a flipped bit of a number is another number."""
    good = bytearray(written(tmp_path, write_page_checksum=True, compression="none"))
    meta = int.from_bytes(good[-8:-4], "little") + 8
    place = 4 + at % (len(good) - meta - 4)
    good[place] ^= 0x10
    before = whole(parquet.open(tmp_path, NOW))
    (tmp_path / "pins.parquet").write_bytes(good)
    if not outcome(tmp_path):  # a bit of a page's header that says nothing of its values
        assert np.array_equal(whole(parquet.open(tmp_path, NOW)).pin, before.pin)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"", "it is empty"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b"\x1f\x8b\x08", "a gzip file"),
        (b"pin,title\n1,a\n", "it begins with b'pin,titl'"),
        (b"PAR1", "not a readable Parquet file"),
        (b"PAR1" * 3, "not a readable Parquet file"),
        (b"PARE" * 4, "encrypted Parquet"),
        (b"ARROW1\0\0", "an Arrow file"),
        (b"Obj\x01", "an Avro file"),
    ],
)
def test_other_files_are_said_to_be_what_they_are(tmp_path: Path, head: bytes, said: str) -> None:
    (tmp_path / "pins.parquet").write_bytes(head)
    assert said in outcome(tmp_path)


def test_no_rows_and_many_nulls_load(tmp_path: Path) -> None:
    pq.write_table(TABLE.slice(0, 0), tmp_path / "pins.parquet")
    assert outcome(tmp_path) == ""
    pq.write_table(pa.table({"pin": pa.array([], pa.null())}), tmp_path / "pins.parquet")
    assert outcome(tmp_path) == ""
    n = 10_000_000
    pq.write_table(pa.table({"pin": pa.nulls(n, pa.uint64()), "title": pa.nulls(n)}), tmp_path / "pins.parquet")
    assert "column pin, row 0 (from 0): null is not allowed" in outcome(tmp_path)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([{"a": {"b": [1]}}]),
        pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
        pa.array([[[1]]]),
        pa.array([b"\0" * 12], pa.binary(12)),
        pa.array([{}], pa.struct([pa.field("x", pa.int8())])),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["pin", "user", "title", "link", "interests", "quality", "at"])
def test_nested_columns_are_refused_by_type(tmp_path: Path, name: str, column: Any) -> None:
    pq.write_table(pa.table({"pin": [1], **{name: column}}), tmp_path / "pins.parquet")
    assert f"column {name}, " in outcome(tmp_path)


@pytest.mark.parametrize("name", ["", " ", "pin.x", "püñ", "x" * 3000, "a\nb", "pin\0", "[bold]"])
def test_any_name_of_another_column_is_allowed(tmp_path: Path, name: str) -> None:
    pq.write_table(pa.table({"pin": [1], name: [2]}), tmp_path / "pins.parquet")
    said = outcome(tmp_path)
    assert said == "" or "may be meant" in said


@given(array=st.binary(max_size=60))
def test_any_bytes_are_refused(folders: Path, array: bytes) -> None:
    (folders / "pins.parquet").write_bytes(b"PAR1" + array + b"PAR1")
    assert outcome(folders)


def test_the_command_shows_no_traceback(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(loading.load)
    good = written(tmp_path)
    for damaged in (good[:50], good[:-1], b"PK\x03\x04", b"", good[:200] + b"\xff" * 40 + good[240:]):
        (tmp_path / "pins.parquet").write_bytes(damaged)
        result = CliRunner().invoke(app, ["parquet", str(tmp_path), "--data", str(tmp_path / "data")])
        assert result.exit_code == 2
        assert result.stderr.startswith("error: ")
        assert "Traceback" not in result.output
