"""A mesh makes its own graph and first model from what is loaded into it, and nothing of that is lost or left running."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.ops import learning
from services.ops.learning import Learning
from services.rpc.mesh import load, mesh_file
from tests.mesh.command import Up, feedmesh, left_running, until_gone, up

SETTINGS = "[learning]\nsamples = 1200\n"
MADE_WITHIN_S = 600.0


def state(mesh: Up) -> Learning:
    return learning.load(learning.learning_file(mesh.data))


def until(mesh: Up, true: Callable[[Learning], bool]) -> Learning:
    end = time.monotonic() + MADE_WITHIN_S
    while not true(found := state(mesh)):
        assert time.monotonic() < end, (found, mesh.said)
        assert mesh.process.poll() is None, mesh.said
        time.sleep(0.1)
    return found


def models(mesh: Up) -> dict[str, Any]:
    edge = load(mesh_file(mesh.data)).of("web")[0].http
    answer = httpx.get(f"http://{edge}/v1/models", timeout=20)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.long  # a mesh that comes to a model is in .ci/bare too
def test_a_loaded_mesh_ends_with_a_trained_model_serving(tmp_path: Path, world: Path) -> None:
    data = tmp_path / "data"
    with up(data, settings=SETTINGS) as mesh:
        mesh.until_ready()
        assert until(mesh, lambda found: found.state == "waiting").message
        ran = feedmesh("load", "parquet", world, "--data", data)
        assert ran.returncode == 0, ran.stderr
        assert mesh.ask("feed", 7, "home")["model"] == "light"
        until(mesh, lambda found: found.state == "running" and "asking" in found.stage)
        assert models(mesh)["learning"]["state"] == "running"
        mesh.control_c()  # midway
        assert mesh.ended(60) == 0, mesh.said
        assert not left_running(data)
        assert state(mesh).state == "running"
    with up(data, settings=SETTINGS) as mesh:
        mesh.until_ready()
        until(mesh, lambda found: found.state == "running" and "asking" in found.stage)
        os.killpg(mesh.process.pid, signal.SIGKILL)
        until_gone(data, 60)
    with up(data, settings=SETTINGS) as mesh:
        mesh.until_ready()
        found = until(mesh, lambda found: found.state not in ("waiting", "running"))
        assert (found.state, found.model) == ("served", "ranker@1"), found
        assert (data / "graphs" / "current").exists()
        [version] = models(mesh)["models"]
        assert version["promoted"]
        assert version["evaluation"]["verdict"] == "better"
        assert mesh.ask("feed", 7, "home")["model"] == "ranker@1"
        assert "learning: ranker@1 ranks the feeds now: the model is better than the best baseline" in mesh.said
        mesh.control_c()
        assert mesh.ended(60) == 0, mesh.said
    with up(data, settings=SETTINGS) as mesh:  # a model is there, and stays as it is
        mesh.until_ready()
        assert [version["version"] for version in models(mesh)["models"]] == [1]
        assert "learning" not in mesh.said
        mesh.control_c()
        assert mesh.ended(60) == 0
    assert not left_running(data)
