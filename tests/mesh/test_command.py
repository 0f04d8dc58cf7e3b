"""The `feedmesh` command as a user: its work, its refusals, its exit codes, and that no process is left running."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cli.schema import SERVICES
from services.rpc.mesh import load, mesh_file
from tests.mesh.command import Up, feedmesh, left_running, refused, up

WORLD = ("--users", 120, "--pins", 1_000, "--boards", 300, "--saves", 4_000, "--seed", 5)


def make_world(data: Path) -> None:
    """A small world where `up --demo` looks for the one it made before."""
    ran = feedmesh("demo", "--out", data / "demo", *WORLD)
    assert ran.returncode == 0, ran.stderr


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """`feedmesh up --demo` with a small world."""
    data = tmp_path_factory.mktemp("command") / "data"
    make_world(data)
    with up(data, "--demo") as running:
        running.until_ready()
        yield running


def test_up_tells_where_everything_is(mesh: Up) -> None:
    edge = load(mesh_file(mesh.data)).of("web")[0].http
    assert f"page    http://{edge}/" in mesh.said
    assert "events accepted, 0 duplicates" in mesh.said
    assert "roadrunner-0 is ready" in mesh.said, "a word before all are ready, where no terminal shows a table"
    assert httpx.get(f"http://{edge}/healthz").status_code == 200
    assert "Traceback" not in mesh.said


def test_status_of_a_ready_mesh(mesh: Up) -> None:
    ran = feedmesh("status", "--data", mesh.data)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("ready") == len(SERVICES)


def test_status_of_a_mesh_with_a_process_away(mesh: Up) -> None:
    status = mesh_status(mesh)
    os.kill(status["apiary"], signal.SIGSTOP)
    try:
        refused(feedmesh("status", "--data", mesh.data), 1, "not ready: apiary-0")
    finally:
        os.kill(status["apiary"], signal.SIGCONT)
    end = time.monotonic() + 20
    while feedmesh("status", "--data", mesh.data).returncode:
        assert time.monotonic() < end


def mesh_status(mesh: Up) -> dict[str, int]:
    """Process ids by service."""
    edge = load(mesh_file(mesh.data)).of("web")[0].http
    return {p["service"]: p["pid"] for p in httpx.get(f"http://{edge}/healthz").json()["processes"]}


def test_a_feed_an_event_and_a_takedown(mesh: Up) -> None:
    page = mesh.ask("feed", 7)
    hidden, down = (int(item["pin"]) for item in page["items"][:2])
    token = mesh.ask("event", "hide", "--user", 7, "--pin", hidden)["token"]
    token += "," + mesh.ask("takedown", down)["token"]
    after = mesh.ask("feed", 7, "--token", token, "--limit", 100)
    assert not {str(hidden), str(down)} & {item["pin"] for item in after["items"]}
    table = feedmesh("feed", 7, "--data", mesh.data)
    assert table.returncode == 0
    assert "why it is here" in table.stdout
    assert "next page: --cursor" in table.stdout
    again = mesh.ask("event", "hide", "--user", 7, "--pin", hidden, "--id", 99)
    assert again["accepted"] == 1
    assert mesh.ask("event", "hide", "--user", 7, "--pin", hidden, "--id", 99)["duplicates"] == 1
    assert mesh.ask("feed", 7, "--explain")["xray"]["stages"]


def test_titles_are_shown_as_they_are(mesh: Up) -> None:
    """Square brackets are a terminal's markup, and titles are people's."""
    mesh.ask("event", "create_board", "--user", 5001, "--board", 5002, "--title", "[link]s[/]")
    mesh.ask("event", "create_pin", "--pin", 5003, "--title", "[/] of [red]")
    mesh.ask("event", "save", "--user", 5001, "--pin", 5003, "--board", 5002)
    token = mesh.ask("event", "follow_user", "--user", 5004, "--target", 5001)["token"]
    ran = feedmesh("feed", 5004, "--token", token, "--data", mesh.data)
    assert ran.returncode == 0, ran.stderr
    assert "[/] of [red]" in ran.stdout
    assert "from [link]s[/]" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("event", "like", "--user", 7, "--pin", 1), "like"),
        (("event", "hide", "--user", 7), "pin"),
        (("feed", 7, "--limit", 1_000_000_000), "limit"),
        (("feed", 7, "nowhere"), "nowhere"),
        (("feed", 7, "--cursor", "abcd"), "cursor"),
        (("takedown", 0), "pin"),
    ],
)
def test_what_the_mesh_refuses_is_wrong_use(mesh: Up, arguments: tuple[object, ...], says: str) -> None:
    refused(feedmesh(*arguments, "--data", mesh.data), 2, "error:", says)


def test_loading_twice_changes_nothing(mesh: Up) -> None:
    ran = feedmesh("load", "parquet", mesh.data / "demo", "--data", mesh.data)
    assert ran.returncode == 0, ran.stderr
    assert "already loaded" in ran.stdout


def test_a_second_mesh_on_the_folder_is_refused(mesh: Up) -> None:
    refused(
        feedmesh("up", "--data", mesh.data, "--port", 0),
        1,
        str(mesh.data),
        f"already (process {mesh.process.pid})",
        "feedmesh down",
    )
    assert feedmesh("status", "--data", mesh.data).returncode == 0


def test_control_c_drains_and_leaves_nothing_running_and_down_does_the_same(mesh: Up) -> None:
    before = mesh.ask("feed", 9)["items"]
    assert len(left_running(mesh.data)) == 1 + len(SERVICES)
    mesh.control_c()
    assert mesh.ended(40) == 0, mesh.said
    assert not left_running(mesh.data)
    assert "killed" not in mesh.said
    refused(feedmesh("status", "--data", mesh.data), 1, "no mesh runs on this data folder")
    refused(feedmesh("feed", 9, "--data", mesh.data), 1, "no mesh runs on this data folder")
    refused(feedmesh("down", "--data", mesh.data), 1, "no mesh runs on this data folder")
    with up(mesh.data, "--demo") as again:
        again.until_ready()
        print(f"ready again after {again.took_s:.1f} s")
        assert "already loaded" in again.said
        assert [i["pin"] for i in again.ask("feed", 9)["items"]] == [i["pin"] for i in before]
        ran = feedmesh("down", "--data", mesh.data)
        assert (ran.returncode, ran.stdout) == (0, "stopped\n")
        assert again.ended(5) == 0
        assert not left_running(mesh.data)


def test_control_c_while_the_first_world_is_loaded(tmp_path: Path) -> None:
    """It is obeyed immediately, and half a world is not taken for a whole one."""
    with up(tmp_path / "data", "--demo") as running:
        end = time.monotonic() + 90
        while "making the world" not in running.said and not (running.data / "demo.draft").exists():
            assert running.process.poll() is None, running.said
            assert time.monotonic() < end
            time.sleep(0.02)
        running.control_c()
        assert running.ended(40) in (1, 130), running.said
        assert "stopped" in running.said
        assert (running.data / "demo").exists() == ("demo: 2,000 users" in running.said.replace(".draft", ""))
        assert not left_running(running.data)


def test_nobody_gets_a_demo_world_on_top_of_their_own(tmp_path: Path, world: Path) -> None:
    data = tmp_path / "data"
    (data / "loads").mkdir(parents=True)
    (data / "loads" / "lastfm-0123.json").write_text('{"size": 1, "events": 1}')
    with up(data, "--demo") as running:
        running.until_ready()
        assert not (data / "demo").exists()
        assert not running.ask("feed", 7)["items"]
        running.control_c()
        assert running.ended(40) == 0


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("[apiary]\nshard = 2\n", ("[apiary]", "shard")),
        ("[apiary]\nshards = 0\n", ("[apiary]", "shards")),
        ("[mesh]\npartitions = 'many'\n", ("[mesh]", "partitions")),
        ("[apiray]\n", ("[apiray]",)),
        ("[polaris]\nshards = 17\n", ("[polaris] shards = 17",)),
        ("not toml", ("not TOML",)),
    ],
)
def test_a_wrong_mesh_toml_is_refused_by_name(tmp_path: Path, toml: str, says: tuple[str, ...]) -> None:
    (tmp_path / "mesh.toml").write_text(toml)
    refused(feedmesh("up", "--data", "data", cwd=tmp_path), 2, *says)
    assert not left_running(tmp_path)


def test_every_command_follows_the_mesh_toml_beside_it(tmp_path: Path, world: Path) -> None:
    (tmp_path / "mesh.toml").write_text('[mesh]\ndata = "elsewhere"\n')
    for command in (("status",), ("down",), ("feed", 7), ("takedown", 7), ("load", "parquet", world)):
        refused(feedmesh(*command, cwd=tmp_path), 1, "elsewhere")


@pytest.mark.parametrize("name", ["up", "down", "status", "roll", "demo", "load", "feed", "event", "takedown"])
def test_help_shows_an_example(name: str) -> None:
    ran = feedmesh(name, "--help")
    assert ran.returncode == 0
    assert "Example" in ran.stdout
    assert f"feedmesh {name}" in ran.stdout
