"""Files as pandas, polars, DuckDB, Spark and R write them. Those of Spark and R were made once: `files/README.md` says how."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loaders import parquet, ratings
from services.core.errors import InvalidArgument
from services.core.events import Action, Batch
from tests.loaders.checks import check, whole

NOW = 1_796_000_000_000
FILES = Path(__file__).parent / "files"
DAYS = [datetime(2011, 5, day, 9, tzinfo=UTC) for day in (3, 4, 5)]


def with_pandas(folder: Path) -> None:
    """Integers with a gap become float64, text object or category, dates datetime64; an index comes along."""
    at = pd.to_datetime(pd.Series(DAYS))
    frame = pd.DataFrame({"pin": [1, 2], "title": pd.Series(["Oolong", None], dtype="category"), "user": [7, None]})
    frame["interests"] = [np.array([5, 6]), None]
    frame.to_parquet(folder / "pins.parquet")
    events = pd.DataFrame({"user": [7, 8, 8], "action": ["save", "save", "hide"], "pin": [1, 2, 1], "at": at})
    events["board"] = [9, 10, None]
    events["surface"] = pd.Series(["home", None, "search"], dtype="string")
    events.sample(frac=1, random_state=2).set_index("user").to_parquet(folder / "events.parquet")


def with_pandas_nullable(folder: Path) -> None:
    """Types of pandas' own: Int64, string, timestamps of a zone, in row groups of one, with partitions."""
    at = pd.to_datetime(pd.Series(DAYS)).dt.tz_convert("Europe/Berlin")
    frame = pd.DataFrame({"pin": [1, 2], "user": [7, None], "title": ["Oolong", None]}).convert_dtypes()
    frame.assign(interests=[[5, 6], []]).to_parquet(folder / "pins.parquet", row_group_size=1)
    events = pd.DataFrame({"user": [7, 8, 8], "action": ["save", "save", "hide"], "pin": [1, 2, 1], "at": at})
    events = events.assign(board=pd.Series([9, 10, None], dtype="UInt32"), surface=["home", None, "search"])
    events.to_parquet(folder / "events", partition_cols=["action", "user"])


def with_polars(folder: Path) -> None:
    """Large text, Categorical, Enum, Array, Decimal, unsigned and nullable integers, microseconds."""
    kinds = pl.Enum(["save", "hide"])
    pins = {"pin": [1, 2], "title": ["Oolong", None], "interests": [[5, 6], None], "user": [7, None]}
    schema: Any = {
        "pin": pl.Decimal(20, 0),
        "title": pl.Categorical,
        "interests": pl.Array(pl.UInt32, 2),
        "user": pl.UInt64,
    }
    pl.DataFrame(pins, schema=schema).write_parquet(folder / "pins.parquet")
    events = {"user": [7, 8, 8], "action": ["save", "save", "hide"], "pin": ["1", "2", "1"], "at": DAYS}
    frame = pl.DataFrame(events, schema_overrides={"action": kinds})
    frame = frame.with_columns(board=pl.Series([9.0, 10.0, None]), surface=pl.Series(["home", None, "search"]))
    frame.write_parquet(folder / "events.parquet", row_group_size=2, use_pyarrow=False)


def with_duckdb(folder: Path) -> None:
    """HUGEINT, DECIMAL, ENUM, lists, timestamps with a zone; events in folders by action."""
    db = duckdb.connect()
    db.sql(
        "CREATE TABLE pins AS SELECT * FROM (VALUES (1::HUGEINT, 'Oolong', [5, 6], 7.0), (2, NULL, NULL, NULL))"
        ' AS t(pin, title, interests, "user")'
    )
    db.sql(f"COPY (SELECT pin::DECIMAL(38, 0) AS pin, title, interests, \"user\" FROM pins) TO '{folder}/pins.parquet'")
    db.sql("CREATE TYPE surface AS ENUM ('home', 'search')")
    db.sql(
        'CREATE TABLE events AS SELECT u::UINTEGER AS "user", action, pin::USMALLINT AS pin, board, "at"::TIMESTAMPTZ AS "at",'
        " surface::surface AS surface FROM (VALUES (7, 'save', 1, 9, '2011-05-03 09:00Z', 'home'),"
        " (8, 'save', 2, 10, '2011-05-04 09:00Z', NULL), (8, 'hide', 1, NULL, '2011-05-05 09:00Z', 'search'))"
        ' AS t(u, action, pin, board, "at", surface)'
    )
    db.sql(f"COPY events TO '{folder}/events' (FORMAT parquet, PARTITION_BY (action, pin))")


def as_r_has_it(folder: Path) -> None:
    """The types that R's arrow and nanoparquet give a data.frame, written by pyarrow: numbers are doubles, also ids; factors
    are dictionaries; POSIXct is in microseconds of a zone; list columns are lists of doubles; R's own metadata beside.
    """
    doubles, factor = pa.float64(), pa.dictionary(pa.int8(), pa.string())
    pins = {
        "pin": pa.array([1, 2], doubles),
        "title": pa.array(["Oolong", None], factor),
        "user": pa.array([7, None], doubles),
        "interests": pa.array([[5, 6], []], pa.list_(doubles)),
    }
    table = pa.table(pins).replace_schema_metadata({"r": "A\n3\n262658\n197888\n5\nUTF-8\n531\n"})
    pq.write_table(table, folder / "pins.parquet")
    events = {
        "user": pa.array([7, 8, 8], doubles),
        "action": pa.array(["save", "save", "hide"], factor),
        "pin": pa.array(["1", "2", "1"], factor),
        "at": pa.array(DAYS, pa.timestamp("us", "UTC")),
        "board": pa.array([9, 10, None], doubles),
        "surface": pa.array(["home", None, "search"], factor),
    }
    pq.write_table(pa.table(events), folder / "events.parquet")


@pytest.mark.parametrize("write", [with_pandas, with_pandas_nullable, with_polars, with_duckdb, as_r_has_it])
def test_files_of_other_tools_load(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path)
    events = check(parquet.open(tmp_path, NOW), parquet.open(tmp_path, NOW), range(5))
    assert events.pin.tolist() == [1, 2, 1, 2, 1]
    assert events.title.strings()[:2] == ["Oolong", ""]
    assert [events.interests.run(i).tolist() for i in range(2)] == [[5, 6], []]
    assert events.user.tolist() == [7, 0, 7, 8, 8]
    assert events.action[2:].tolist() == [Action.SAVE, Action.SAVE, Action.HIDE]
    assert events.board[2:].tolist() == [9, 10, 0]
    assert [datetime.fromtimestamp(ms / 1000, UTC) for ms in events.at_ms[2:].tolist()] == DAYS


def of_spark(name: str) -> Batch:
    return whole(parquet.open(FILES / name, NOW))


@pytest.mark.parametrize("name", ["spark", "spark-int96"])
def test_folders_of_spark_load(name: str) -> None:
    """Decimals as ids, dates as days, timestamps as microseconds or INT96, _SUCCESS and .crc beside the parts."""
    events = of_spark(name)
    made = events.take(events.action == Action.CREATE_PIN)
    assert sorted(made.pin.tolist()) == [1, 2, 3]
    assert dict(zip(made.pin.tolist(), made.title.strings(), strict=True)) == {1: "Oolong", 2: "Sencha", 3: ""}
    did = events.take(events.user * (events.pin > 0) > 0)
    assert did.action.tolist() == [Action.IMPRESSION, Action.SAVE, Action.SAVE, Action.HIDE]
    assert did.board.tolist() == [0, 9, 10, 0]
    assert did.at_ms[1] == int(DAYS[0].timestamp() * 1000)
    assert events.take(events.action == Action.CREATE_BOARD).title.strings() == ["Teas", ""]


BY_R = [
    "write.csv",
    "write.csv2.csv",
    "write.table.tsv",
    "fwrite.csv",
    "fwrite.csv.gz",
    "write_csv.csv",
    "write_excel_csv2.csv",
]


@pytest.mark.parametrize("name", BY_R)
def test_csv_of_R_loads(name: str) -> None:
    """NA, factors, `1e+05`, decimal commas, names of rows, dates with slashes."""
    events = Batch.concat(list(ratings.open(FILES / "r" / name, None, NOW).batches()))
    did = events.take(np.isin(events.action, (Action.SAVE, Action.CLOSEUP)))
    at = [datetime.fromtimestamp(ms / 1000, UTC) for ms in did.at_ms.tolist()]
    assert did.user.tolist() == [7, 8, 100_000, 9, 9], "one of six is not rated"
    assert did.pin.tolist() == [1, 1, 3, 1, 3]
    assert at[:3] == [DAYS[0], DAYS[2], DAYS[2].replace(hour=21, minute=30)]
    pins = events.take(events.action == Action.CREATE_PIN)
    titles = dict(zip(pins.pin.tolist(), pins.title.strings(), strict=True))
    assert titles == {1: 'Oolong "tie guan yin"', 2: "pin 2", 3: "Sencha, spring"}


def test_a_table_of_R_loads_and_its_own_format_is_named() -> None:
    """`write.table` as it is, whose header is one shorter than its rows."""
    events = Batch.concat(list(ratings.open(FILES / "r" / "write.table.txt", None, NOW).batches()))
    did = events.take(np.isin(events.action, (Action.SAVE, Action.CLOSEUP)))
    assert sorted(zip(did.user.tolist(), did.pin.tolist(), strict=True)) == [
        (7, 1),
        (8, 1),
        (9, 1),
        (9, 3),
        (100_000, 3),
    ]
    with pytest.raises(InvalidArgument, match="not delimited text: R's RDS"):
        ratings.open(FILES / "r" / "saveRDS.rds", None, NOW)
