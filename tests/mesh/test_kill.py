"""kill -9 under load: feeds keep coming, and every acknowledged event is in every view exactly once. `make drill` is longer."""

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cli.demo import demo
from cli.load import load
from services.rpc import mesh as meshes
from tests.drill.__main__ import STATEFUL, STATELESS, one_round
from tests.mesh.command import Up, feedmesh, refused, until_gone, up
from tests.mesh.conftest import sections
from tests.running import Running, rounds, running_mesh

VICTIMS = (*STATEFUL, *STATELESS)
IN_SUITE = ("roadrunner", "polaris")  # the first rounds
ROUNDS = list(enumerate(dict.fromkeys((*IN_SUITE, *VICTIMS)), start=1))


@pytest.fixture(scope="module")
def drilled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A mesh of two shards a view with a world so small that a recount after each round is soon done; it is probed
    all the time.
    """
    data, world = tmp_path_factory.mktemp("drill") / "data", tmp_path_factory.mktemp("drill") / "world"
    demo(users=120, pins=1_000, boards=300, saves=4_000, seed=3, folder=world)
    with running_mesh(data, sections(2, prober={"every_s": 0.5})) as running:
        load("parquet", world, data=data)
        running.until_caught_up()
        yield running


@pytest.mark.parametrize(("number", "victim"), rounds(ROUNDS, len(IN_SUITE)))
def test_one_round(drilled: Running, number: int, victim: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert one_round(drilled, number, victim, seed=7), capsys.readouterr().out


def pages(running: Up) -> list[list[str]]:
    url = f"http://{meshes.load(meshes.mesh_file(running.data)).of('web')[0].http}/v1/feeds/following"
    answers = [httpx.get(url, params={"user": user}, timeout=20).raise_for_status().json() for user in (3, 14, 15)]
    return [[item["pin"] for item in answer["items"]] for answer in answers]


def test_a_killed_supervisor_leaves_nothing_running_and_nothing_lost(tmp_path: Path) -> None:
    data = tmp_path / "data"
    made = feedmesh("demo", "--out", data / "demo", "--users", 60, "--pins", 500, "--boards", 150, "--saves", 2_000)
    assert made.returncode == 0, made.stderr
    with up(data, "--demo") as first:
        first.until_ready()
        before = pages(first)
        assert all(before)
        hidden = before[0][0]
        first.ask("event", "hide", "--user", 3, "--pin", hidden)
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
        print(f"all gone {until_gone(data, 15):.1f} s after the supervisor")
        assert meshes.mesh_file(data).exists(), "no process was there to remove it"
        refused(feedmesh("status", "--data", data), 1, "not ready")
        refused(feedmesh("down", "--data", data), 1, "no mesh runs on this data folder")
    with up(data, "--demo") as second:
        second.until_ready()
        print(f"ready again after {second.took_s:.1f} s")
        after = pages(second)
        assert hidden not in after[0]
        assert after[1:] == before[1:]
        second.process.terminate()
        assert second.ended(40) == 0
