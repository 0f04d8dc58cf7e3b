"""`feedmesh load` and `demo`: the record, the retries, the messages."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from cli import load as loading
from cli.ledger import Ledger
from loaders.dataset import EventDataset, Section
from services.core.clock import DAY_MS, wall_clock
from services.core.errors import InvalidArgument, Unavailable
from services.core.events import Action, Batch, events
from tests.loaders.checks import whole

AT = 1_600_000_000_000


@dataclass
class LoadAnswer:
    accepted: int
    duplicates: int


@dataclass
class Ingest:
    """Accepts every id once, on any thread; `plan` says at which calls (from 0) to raise what."""

    plan: dict[int, BaseException] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)
    ids: set[int] = field(default_factory=set)
    calls: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def publish(self, batch: Batch, timeout: float) -> LoadAnswer:
        with self.lock:
            call, self.calls = self.calls, self.calls + 1
            if call in self.plan:
                raise self.plan[call]
            new = set(batch.id.tolist()) - self.ids
            self.ids |= new
            self.batches.append(batch)
            return LoadAnswer(len(new), len(batch) - len(new))


def saves(n: int, actions: list[int] | None = None) -> EventDataset:
    action = np.array(actions or [Action.SAVE] * n, np.uint8)
    rows = events(n, at_ms=AT, action=action, user=1, pin=np.arange(1, n + 1), board=1)
    made = Section("saves", n, rows.slice)
    return EventDataset("small", "f00d", [made], ["one thing skipped"])


def pump(dataset: EventDataset, ingest: Ingest, data: Path, batch: int = 10) -> Ledger:
    ledger = Ledger(data, dataset)
    loading.pump(dataset, ingest, ledger, batch, lambda said: None)
    return ledger


def test_everything_is_published_and_remembered(tmp_path: Path) -> None:
    ingest = Ingest()
    pump(saves(105), ingest, tmp_path)
    assert ingest.ids == set(whole(saves(105)).id.tolist())
    again = Ledger(tmp_path, saves(105)).loaded
    assert (again.size, again.events, again.accepted, again.duplicates) == (105, 105, 105, 0)


def test_a_failure_remembers_the_contiguous_run_and_the_next_load_goes_on(tmp_path: Path) -> None:
    ingest = Ingest(plan={7: InvalidArgument("no")})
    with pytest.raises(InvalidArgument):
        pump(saves(500), ingest, tmp_path)
    done = Ledger(tmp_path, saves(500)).loaded.events
    assert done % 10 == 0
    assert done < 500
    assert set(whole(saves(500)).id[:done].tolist()) <= ingest.ids, "recorded rows were acknowledged"
    ledger = pump(saves(500), ingest, tmp_path)
    assert ingest.ids == set(whole(saves(500)).id.tolist())
    assert ledger.loaded.accepted + ledger.loaded.duplicates == ledger.loaded.events == 500


def test_what_passes_is_tried_again_and_said(tmp_path: Path) -> None:
    said: list[str] = []
    ingest = Ingest(plan={0: Unavailable("away"), 1: Unavailable("away")})
    loading.pump(saves(10), ingest, Ledger(tmp_path, saves(10)), 10, said.append)
    assert len(ingest.ids) == 10
    assert [line for line in said if line] == ["trying again in 0.1 s: away", "trying again in 0.2 s: away"]


def test_patience_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "PATIENCE_S", 0.2)
    ingest = Ingest(plan={call: Unavailable("away") for call in range(100)})
    with pytest.raises(Unavailable, match="away"):
        pump(saves(10), ingest, tmp_path)


def test_ctrl_c_remembers_what_came(tmp_path: Path) -> None:
    ingest = Ingest(plan={20: KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        pump(saves(1000), ingest, tmp_path)
    done = Ledger(tmp_path, saves(1000)).loaded.events
    assert 100 <= done < 1000
    assert set(whole(saves(1000)).id[:done].tolist()) <= ingest.ids


def test_an_unsave_is_published_alone(tmp_path: Path) -> None:
    actions = [int(Action.SAVE)] * 100
    actions[50] = int(Action.UNSAVE)
    ingest = Ingest()
    pump(saves(100, actions), ingest, tmp_path, batch=1)
    pins = [int(batch.pin[0]) for batch in ingest.batches]
    assert pins[50] == 51
    assert set(pins[:50]) == set(range(1, 51))


def test_a_ledger_of_another_reading_is_refused_unless_its_rows_are_recorded(tmp_path: Path) -> None:
    pump(saves(10), Ingest(), tmp_path)
    ingest = Ingest()
    assert pump(saves(11), ingest, tmp_path).new == 1
    assert len(ingest.ids) == 1
    path = next((tmp_path / "loads").glob("small-*.json"))
    path.write_text('{"size": 10, "events": 10}')
    with pytest.raises(InvalidArgument, match="begun as 10 events, and the same input now makes 11"):
        Ledger(tmp_path, saves(11))
    path.write_bytes(b"{")
    with pytest.raises(InvalidArgument, match="not a record of a load"):
        Ledger(tmp_path, saves(10))


def test_demo_then_load_then_load_again(app: typer.Typer, ingest: Ingest, tmp_path: Path) -> None:
    run, out = CliRunner(), str(tmp_path / "world")
    made = run.invoke(app, ["demo", "--out", out, "--users", "20", "--pins", "200", "--boards", "30", "--saves", "300"])
    assert made.exit_code == 0
    assert "20 users" in made.stdout
    command = ["load", "parquet", out, "--data", str(tmp_path / "data")]
    first = run.invoke(app, command)
    assert first.exit_code == 0, first.stderr
    assert f"{len(ingest.ids):,} events accepted, 0 duplicates" in first.stdout
    calls = ingest.calls
    again = run.invoke(app, command)
    assert again.exit_code == 0
    assert f"already loaded: {len(ingest.ids):,} rows, 0 new; loaded on 20" in again.stdout
    assert "nothing to do" in again.stdout
    assert ingest.calls == calls


def test_csv_moves_old_dates_and_says_what_it_did(app: typer.Typer, ingest: Ingest, tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text(
        "user,item,rating,timestamp\n" + "1,10,5,964982703\n2,20,1,964982703\n3,,1,9\n" * 2
    )
    command = ["load", "csv", str(tmp_path / "ratings.csv"), "--no-graph", "--data", str(tmp_path / "data")]
    said = CliRunner().invoke(app, command)
    assert said.exit_code == 2
    assert "more than a fifth of the rows can't be read" in said.stderr
    (tmp_path / "ratings.csv").write_text(
        "user,item,rating,timestamp\n" + "1,10,5,964982703\n2,20,1,964982703\n" * 9 + "3,,1,9\n"
    )
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.stderr
    assert "1 rows skipped with no item" in done.stdout
    assert "the newest date is 2000-07-30 18:45:03 UTC: all were moved" in done.stdout
    saved = Batch.concat(ingest.batches)
    assert 0 <= wall_clock() - int(saved.at_ms.max()) < DAY_MS
    assert (saved.at_ms.max() - 964982703000) % DAY_MS == 0
    assert "nothing to do" in CliRunner().invoke(app, command).stdout


def test_dates_stay_when_asked(app: typer.Typer, ingest: Ingest, tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("user,item,rating,timestamp\n1,10,5,964982703\n")
    command = ["load", "csv", str(tmp_path), "--no-graph", "--keep-dates", "--data", str(tmp_path / "data")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.stderr
    assert "dates are as they are, as asked" in done.stdout
    assert set(Batch.concat(ingest.batches).at_ms.tolist()) == {964982703000}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["load", "parquet", ".", "--save-from", "3"], 2, "are allowed with csv alone"),
        (["load", "parquet", "file"], 2, "file: not a folder; parquet is a folder of files, and csv may be a file"),
        (["load", "csv", "file"], 2, "file: the file is empty"),
        (["load", "csv", "file", "--separator", "xy"], 2, "--separator 'xy': allowed is one character"),
        (["load", "csv", "file", "--save-from", "much"], 2, "--save-from"),
        (["load", "gowalla", "."], 2, "none of the sets known"),
        (["load", "parquet", "nowhere"], 2, "does not exist"),
        (["load", "parquet", "."], 2, "pins.parquet: no such file"),
        (["load", "parquet", ".", "--batch", "0"], 2, "--batch"),
        (["demo", "--out", "x", "--pins", "0"], 2, "--pins"),
        (["demo", "--out", "x", "--pins", "4", "--boards", "2", "--saves", "9"], 2, "at most 4"),
    ],
)
def test_mistakes_have_their_exit_code_and_words(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    result = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, arguments)
    assert result.exit_code == code
    assert said in result.stderr


@pytest.mark.parametrize("command", ["demo", "load"])
def test_help_has_examples(app: typer.Typer, command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"feedmesh {command} " in result.stdout
