"""A row that was loaded is not loaded again, whatever file it comes in: only new rows are published.

Each load here meets an ingest API that knows no ids: roadrunner's memory of a day hides nothing.
"""

import datetime
import decimal
import gzip
import json
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from cli import load as loading
from cli.ledger import Ledger, alone
from cli.record import Record
from loaders import parquet, ratings
from loaders.dataset import EventDataset
from loaders.naming import with_names
from loaders.text_ids import TextIds, as_text
from services.core.errors import InvalidArgument
from services.core.events import Action, Batch
from tests.loaders.test_load import Ingest, saves

AT = 1_600_000_000_000
Columns = dict[str, list[Any]]
PINS: Columns = {"pin": [1, 2, 3], "title": ["one", "two", "three"]}
EVENTS: Columns = {
    "user": [7, 7, 8, 8, 9],
    "action": ["impression", "save", "save", "click", "hide"],
    "pin": [1, 1, 2, 3, 3],
    "board": [None, 5, 6, None, None],
    "at": [AT, AT + 1, AT + 2, AT + 3, AT + 4],
}


def written(folder: Path, pins: Columns = PINS, events: Columns = EVENTS, **options: Any) -> Path:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(pins), folder / "pins.parquet", **options)
    pq.write_table(pa.table(events), folder / "events.parquet", **options)
    return folder


def load(dataset: EventDataset | Path, data: Path) -> list[Batch]:
    """The events that a load publishes."""
    opened = parquet.open(dataset) if isinstance(dataset, Path) else dataset
    ingest, ledger = Ingest(), Ledger(data, opened)
    loading.pump(opened, ingest, ledger, 2, lambda said: None)
    assert ledger.loaded.events == ledger.loaded.size == opened.size
    assert Ledger(data, opened).is_done
    return ingest.batches


def rows(batches: list[Batch]) -> int:
    return sum(map(len, batches))


def more(columns: Columns, **row: Any) -> Columns:
    return {name: [*values, row.get(name)] for name, values in columns.items()}


def shuffled(columns: Columns) -> Columns:
    return {name: [values[i] for i in (2, 0, *range(3, len(values)), 1)] for name, values in columns.items()}


@pytest.mark.parametrize(
    "again",
    [
        lambda folder: written(folder, compression="zstd", row_group_size=1, use_dictionary=False),
        lambda folder: written(folder, shuffled(PINS), shuffled(EVENTS)),
        lambda folder: written(folder, dict(reversed(PINS.items())), dict(reversed(EVENTS.items()))),
        lambda folder: written(folder, {**PINS, "link": [None] * 3}, {**EVENTS, "surface": ["import"] * 5, "id": [None] * 5}),
        lambda folder: written(folder, {**PINS, "pin": ["1", "2", "3"]}, {**EVENTS, "pin": [1.0, 1.0, 2.0, 3.0, 3.0]}),
        lambda folder: written(folder, {**PINS, "pin": [decimal.Decimal(n) for n in (1, 2, 3)]}),
        lambda folder: written(
            folder, events={**EVENTS, "at": [datetime.datetime.fromtimestamp(t / 1000, datetime.UTC) for t in EVENTS["at"]]}
        ),
    ],
    ids=["recompressed", "rows", "columns", "empty columns", "text and floats", "decimals", "timestamps"],
)  # fmt: skip
def test_the_same_rows_in_another_file_are_not_loaded_again(tmp_path: Path, again: Callable[[Path], Path]) -> None:
    assert rows(load(written(tmp_path / "one"), tmp_path / "data")) == 8
    assert not load(again(tmp_path / "two"), tmp_path / "data")


def test_a_corrected_row_is_an_update_and_so_is_the_correction_of_a_correction(tmp_path: Path) -> None:
    one, two = written(tmp_path / "one"), written(tmp_path / "two", {**PINS, "title": ["one", "TWO", "three"]})
    first = Batch.concat(load(one, tmp_path / "data"))
    ids = set(first.id.tolist())
    for folder, title in ((two, "TWO"), (one, "two"), (two, "TWO")):
        (batch,) = load(folder, tmp_path / "data")
        assert (batch.action.tolist(), batch.pin.tolist(), batch.title.strings()) == ([Action.CREATE_PIN], [2], [title])
        assert not set(batch.id.tolist()) & ids, "roadrunner knows no such event"
        ids |= set(batch.id.tolist())


def test_a_row_that_is_gone_is_no_deletion(tmp_path: Path) -> None:
    load(written(tmp_path / "one"), tmp_path / "data")
    fewer = {name: values[1:] for name, values in EVENTS.items()}
    assert not load(written(tmp_path / "two", events=fewer), tmp_path / "data")


def test_a_grown_file_adds_its_new_rows_and_computed_values_make_no_row_new(tmp_path: Path) -> None:
    load(written(tmp_path / "one"), tmp_path / "data")
    earlier = more(EVENTS, user=9, action="save", pin=2, board=6, at=AT - 1)  # so undated pins, and quality, change
    (batch,) = load(written(tmp_path / "two", events=earlier), tmp_path / "data")
    assert (batch.user.tolist(), batch.at_ms.tolist()) == ([9], [AT - 1])


def test_the_next_days_part_beside_the_old_one_adds_what_is_new(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    (folder / "events").mkdir(parents=True)
    pq.write_table(pa.table(PINS), folder / "pins.parquet")
    pq.write_table(pa.table(EVENTS), folder / "events" / "day-1.parquet")
    load(folder, tmp_path / "data")
    later = {**EVENTS, "at": [at + 86_400_000 for at in EVENTS["at"]]}
    pq.write_table(pa.table(later), folder / "events" / "day-2.parquet")
    assert rows(load(folder, tmp_path / "data")) == 5
    assert not load(folder, tmp_path / "data")


def test_equal_rows_of_a_file_are_as_many_events(tmp_path: Path) -> None:
    events = EVENTS
    for n in range(2):
        events = more(events, user=8, action="click", pin=3, at=AT + 3)
        assert rows(load(written(tmp_path / f"{n}", events=events), tmp_path / "data")) == (9 if n == 0 else 1)


UUIDS = [uuid.UUID(int=n).bytes for n in range(5)]


@pytest.mark.parametrize("ids", [[11, 12, 13, 14, 15], ["a", "b", "c", "d", "e"], UUIDS, [-1, -2, 0, 2**40, 5]])
def test_rows_with_an_id_are_the_event_of_that_id(tmp_path: Path, ids: list[Any]) -> None:
    load(written(tmp_path / "one", events={**EVENTS, "id": ids}), tmp_path / "data")
    moved = {**EVENTS, "at": [at + 500 for at in EVENTS["at"]], "id": ids}
    assert not load(written(tmp_path / "two", events=moved), tmp_path / "data")
    twice = more(more(moved, user=1, action="click", pin=1, at=AT, id=ids[0]), user=1, action="click", pin=1, at=AT)
    assert rows(load(written(tmp_path / "three", events=twice), tmp_path / "data")) == 1, "the one without an id"


def test_an_id_is_the_same_as_number_and_as_text(tmp_path: Path) -> None:
    numbers: list[Any] = [1, 2, 3, 4, 5]
    load(written(tmp_path / "one", events={**EVENTS, "id": numbers}), tmp_path / "data")
    assert not load(written(tmp_path / "two", events={**EVENTS, "id": [str(n) for n in numbers]}), tmp_path / "data")


def test_an_id_of_events_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    folder = written(tmp_path / "one", events={**EVENTS, "id": [1.0, 2.5, 3.0, 4.0, 5.0]})
    with pytest.raises(
        InvalidArgument, match=r"events.parquet: column id, row 1 .*ids of events are whole numbers, text"
    ):
        parquet.open(folder)


def test_text_ids(tmp_path: Path) -> None:
    named: Columns = {"user": ["u-1", "u-1", "u-2", "u-2", "u-3"], "board": [None, "b", "c", None, None]}

    def opened(folder: Path) -> EventDataset:
        ids = TextIds()
        with as_text(ids):
            return with_names(parquet.open(folder), ids)[0]

    first = opened(written(tmp_path / "one", events={**EVENTS, **named}))
    assert rows(load(first, tmp_path / "data")) == first.size > 8
    assert not load(opened(written(tmp_path / "two", shuffled(PINS), shuffled({**EVENTS, **named}))), tmp_path / "data")
    grown = more({**EVENTS, **named}, user="u-4", action="click", pin=1, at=AT)
    found = Batch.concat(load(opened(written(tmp_path / "three", events=grown)), tmp_path / "data"))
    assert found.action.tolist() == [Action.NAME_ID, Action.CLICK]


def test_csv(tmp_path: Path) -> None:
    lines = [
        f"{user},{item},{1 + (user * item) % 5},{964982703 + user}" for user in range(1, 9) for item in range(1, 9)
    ]
    path = tmp_path / "ratings.csv"

    def opened(lines: list[str]) -> EventDataset:
        path.write_text("\n".join(["user,item,rating,timestamp", *lines]))
        return ratings.open(path)

    first = opened(lines)
    assert rows(load(first, tmp_path / "data")) == first.size
    assert not load(opened(lines[::-1]), tmp_path / "data")
    with gzip.open(tmp_path / "ratings.csv.gz", "wt") as file:
        file.write("\r\n".join(["user,item,rating,timestamp", *lines]))
    assert not load(ratings.open(tmp_path / "ratings.csv.gz"), tmp_path / "data")
    (batch,) = load(opened([*lines, "3,3,9,964982999"]), tmp_path / "data")  # the scale is another, and saves with it
    assert (batch.user.tolist(), batch.pin.tolist()) == ([3], [3])


@pytest.mark.parametrize("call", [0, 7, 30])
def test_a_load_that_failed_goes_on_and_publishes_no_acknowledged_run_twice(tmp_path: Path, call: int) -> None:
    dataset = saves(100)
    ingest = Ingest(plan={call: InvalidArgument("no")})
    with pytest.raises(InvalidArgument):
        loading.pump(dataset, ingest, Ledger(tmp_path, dataset), 2, lambda said: None)
    done = Ledger(tmp_path, dataset).loaded.events
    dataset.fingerprint = "beef"  # it was recompressed meanwhile
    published = load(dataset, tmp_path)
    assert rows(published) == 100 - done
    assert ingest.ids | set(Batch.concat(published).id.tolist()) == set(dataset.identities().ids.tolist())


KILLED = """
import os, sys
from pathlib import Path
from cli import ledger, load
from tests.loaders.test_load import Ingest, saves
ledger.SAVE_EVERY_S = 0.0
class Killed(Ingest):
    def publish(self, batch, timeout):
        if self.calls > 30: os._exit(9)
        return super().publish(batch, timeout)
dataset = saves(100)
load.pump(dataset, Killed(), ledger.Ledger(Path(sys.argv[1]), dataset), 2, lambda said: None)
"""


def test_a_load_that_was_killed_goes_on(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], timeout=60, check=False)
    assert ran.returncode == 9
    dataset = saves(100)
    done = Ledger(tmp_path, dataset).loaded.events
    assert 0 < done <= 62
    assert Ledger(tmp_path, dataset).record.knows(dataset.identities().ids).sum() >= done
    assert 100 - 62 <= rows(load(dataset, tmp_path)) <= 100 - done


def test_a_block_that_was_written_in_part_counts_as_nothing(tmp_path: Path) -> None:
    dataset = saves(100)
    with pytest.raises(InvalidArgument):
        loading.pump(dataset, Ingest(plan={30: InvalidArgument("no")}), Ledger(tmp_path, dataset), 2, lambda said: None)
    added = tmp_path / "loads" / "small.record.new"
    added.write_bytes(added.read_bytes()[:-3])
    done = Ledger(tmp_path, dataset).loaded.events
    assert rows(load(dataset, tmp_path)) == 100 - done, "the file of the load knows them still"


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "other"])
def test_a_damaged_record_is_refused_and_a_removed_one_is_made_anew(tmp_path: Path, damage: str) -> None:
    data = tmp_path / "data"
    one = written(tmp_path / "one")
    grown = written(tmp_path / "two", events=more(EVENTS, user=8, action="click", pin=1, at=AT))
    load(one, data)
    path = data / "loads" / "parquet.record"
    whole = path.read_bytes()
    at = len(whole) // 2
    bit = whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]
    path.write_bytes({"bit": bit, "cut": whole[:-8], "empty": b"", "other": b"x" * 200}[damage])
    for folder in (one, grown):
        with pytest.raises(InvalidArgument, match="which rows were loaded is not known. Restore the folder"):
            load(folder, data)
    path.unlink()
    with pytest.raises(InvalidArgument, match=r"its record was removed.*Load that part again first"):
        load(grown, data)
    assert not load(one, data)
    assert rows(load(grown, data)) == 1


def test_every_flipped_bit_of_a_record_is_noticed(tmp_path: Path) -> None:
    load(written(tmp_path / "one"), tmp_path / "data")
    path = tmp_path / "data" / "loads" / "parquet.record"
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        with pytest.raises(InvalidArgument):
            Record(path)


def test_what_an_older_version_loaded_counts_as_loaded(tmp_path: Path) -> None:
    one, data = parquet.open(written(tmp_path / "one")), tmp_path / "data"
    (data / "loads").mkdir(parents=True)
    path = data / "loads" / f"parquet-{one.fingerprint}.json"
    path.write_text('{"size": 8, "events": 8, "accepted": 8, "at_ms": 1, "moved_ms": 0}')
    grown = written(tmp_path / "two", events=more(EVENTS, user=8, action="click", pin=1, at=AT))
    with pytest.raises(InvalidArgument, match=r"loaded by an older version.*Load that part again first"):
        load(grown, data)
    assert len(list((data / "loads").iterdir())) == 1, "a refusal leaves nothing behind"
    assert not load(one, data)
    assert rows(load(grown, data)) == 1


def test_two_loads_of_a_set_at_once_are_refused(app: typer.Typer, ingest: Ingest, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    command = ["load", "parquet", str(written(tmp_path / "one")), "--data", str(tmp_path / "data")]
    with alone(tmp_path / "data", "parquet"):
        refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 1
    assert "another load of parquet" in refused.stderr
    assert not ingest.batches
    assert CliRunner().invoke(app, command).exit_code == 0


def test_the_command_says_what_was_new(app: typer.Typer, ingest: Ingest, tmp_path: Path) -> None:
    command = ["load", "parquet", str(written(tmp_path / "one")), "--data", str(tmp_path / "data")]
    first = CliRunner().invoke(app, [*command, "--json"])
    said = json.loads(first.stdout)
    assert (said["set"], said["rows"], said["new"], said["accepted"], said["duplicates"]) == ("parquet", 8, 8, 8, 0)
    assert "8 rows, 8 new" in first.stderr
    written(tmp_path / "one", compression="zstd")
    again = CliRunner().invoke(app, command)
    assert "already loaded: 8 rows, 0 new; nothing to do" in again.stdout
    assert json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)["new"] == 0
    written(tmp_path / "one", events=more(EVENTS, user=8, action="click", pin=1, at=AT))
    assert "9 rows, 1 new: 1 events accepted" in CliRunner().invoke(app, command).stdout
    assert np.unique(Batch.concat(ingest.batches).id).size == 9
