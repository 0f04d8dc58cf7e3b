"""The command's output: hints that work as typed, plain lines of progress, and the findings of `feedmesh doctor`."""

import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import console
from cli.main import app
from cli.progress import LINE_EVERY_S, Lines
from services.ops.supervisor import FORMAT, DataFolder


@pytest.fixture
def somewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder in which the command was called as `.venv/bin/feedmesh`, which no PATH has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr("sys.argv", [str(tmp_path / ".venv" / "bin" / "feedmesh")])
    console.data_of(None, None)
    return tmp_path


def test_a_command_in_a_message_works_as_typed(somewhere: Path) -> None:
    console._given.clear()
    assert console.as_typed("start one with `feedmesh up`") == "start one with `.venv/bin/feedmesh up`"
    console.data_of(None, Path("a world"))
    assert console.as_typed("`feedmesh up`, then wait") == "`.venv/bin/feedmesh up --data 'a world'`, then wait"
    assert console.as_typed("`feedmesh demo --out x`") == "`.venv/bin/feedmesh demo --out x`"
    assert console.as_typed("`feedmesh up --data y`") == "`.venv/bin/feedmesh up --data y`"
    assert console.as_typed("feedmesh is its name") == "feedmesh is its name"


def test_a_command_that_the_shell_finds_is_named_alone(somewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = somewhere / "feedmesh"
    found.write_text("#!/bin/sh\n")
    found.chmod(0o755)
    monkeypatch.setenv("PATH", str(somewhere))
    console._given.clear()
    assert console.as_typed("`feedmesh up`") == "`feedmesh up`"


def test_a_message_about_a_missing_mesh_names_the_folder_that_was_asked(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["status", "--data", str(tmp_path)])
    assert ran.exit_code == 1
    assert f"feedmesh up --data {tmp_path}`" in ran.output


def test_progress_without_a_terminal_is_a_line_now_and_then() -> None:
    said: list[str] = []
    now = 100.0
    lines = Lines(said.append, lambda: now)
    for done in range(0, 1_001, 100):
        lines.report("loading", done, 1_000)
    assert said == ["loading: 0 of 1,000 (0%)", "loading: 1,000 of 1,000 (100%)"]
    lines.report("checking", 0, 0)
    now += LINE_EVERY_S
    lines.report("reading", 5, 0)
    assert said[2:] == ["checking ...", "reading: 5"]


def test_the_version_is_that_of_the_package() -> None:
    ran = CliRunner().invoke(app, ["--version"])
    assert ran.exit_code == 0
    assert ran.output.split()[0] == "feedmesh"
    assert ran.output.split()[1][0].isdigit()


def doctor(data: Path) -> dict[str, dict[str, str]]:
    ran = CliRunner().invoke(app, ["doctor", "--data", str(data), "--json"])
    found = {one["what"]: one for one in json.loads(ran.stdout)}
    assert ran.exit_code == (1 if any(one["state"] == "fault" for one in found.values()) else 0)
    return found


def test_doctor_finds_nothing_wrong_with_a_new_folder(tmp_path: Path) -> None:
    DataFolder(tmp_path).release()
    found = doctor(tmp_path)
    assert found["format"]["state"] == "well"
    assert found["packages"]["state"] == found["training"]["state"] == "well"
    assert found["model"]["state"] == found["graph"]["state"] == "note"
    assert "no mesh runs" in found["mesh"]["text"]


def test_doctor_sees_the_mesh_that_holds_the_folder(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    try:
        assert "a mesh runs on this folder" in doctor(tmp_path)["mesh"]["text"]
    finally:
        folder.release()


def test_doctor_names_a_format_that_this_version_does_not_read(tmp_path: Path) -> None:
    (tmp_path / "FORMAT").write_text("feedmesh data 99\n")
    found = doctor(tmp_path)["format"]
    assert found["state"] == "fault"
    assert "feedmesh data 99" in found["text"]
    assert FORMAT in found["text"]


@pytest.mark.parametrize(
    ("path", "content", "what"),
    [
        ("models/promoted.json", b"\x00", "model"),
        ("models/promoted.json", b'{"promoted": "ranker@3", "before": []}', "model"),
        ("graphs/current", b"nowhere\n", "graph"),
        ("loads/set-1.json", b"[]", "load"),
        ("loads/set-1.json", b'{"size": null, "events": 2}', "load"),
        ("FORMAT", b"\xff\xfe", "format"),
    ],
)
def test_doctor_outlives_a_damaged_file_and_names_it(tmp_path: Path, path: str, content: bytes, what: str) -> None:
    DataFolder(tmp_path).release()
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_bytes(content)
    assert doctor(tmp_path)[what]["state"] == "fault"


def test_doctor_names_a_load_that_was_not_finished(tmp_path: Path) -> None:
    (tmp_path / "loads").mkdir()
    (tmp_path / "loads" / "mine-1.json").write_text('{"size": 2000, "events": 500}')
    assert "500 of 2,000" in doctor(tmp_path)["load"]["text"]


def test_doctor_names_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = tmp_path / "mesh.toml"
        config.write_text(f'[mesh]\ndata = "{tmp_path}"\n[web]\nhttp_port = {port}\n')
        ran = CliRunner().invoke(app, ["doctor", "--config", str(config), "--json"])
    found = next(one for one in json.loads(ran.stdout) if one["what"] == f"port {port}")
    assert found["state"] == "fault"
    assert ran.exit_code == 1


@pytest.mark.parametrize("group", ["model", "graph", "features"])
def test_a_data_folder_that_is_misspelt_is_not_an_empty_one(tmp_path: Path, group: str) -> None:
    result = CliRunner().invoke(app, [group, "list", "--data", str(tmp_path / "wrold")], env={"COLUMNS": "300"})
    assert (result.exit_code, "wrold: no such folder" in result.output) == (1, True), result.output
    (tmp_path / "wrold").mkdir()
    assert CliRunner().invoke(app, [group, "list", "--data", str(tmp_path / "wrold")]).exit_code == 0
