"""`feedmesh graph` on a mesh of two real processes, the ingest API and pixie: from the log to a walk, and back."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from cli.schema import SCHEMA
from pixie.client import BOARDS, PixieClient, Recommended
from roadrunner.client import open_publisher
from services.core import settings
from services.core.clock import wall_clock
from services.core.columns import ids
from services.core.errors import NotReady, Unavailable
from services.core.events import Action, events
from services.log.reading import open_reader
from services.rpc import mesh as meshes
from services.rpc.mesh import Address, Mesh
from tests.kit import asked
from tests.services.children import until

ROOT = Path(__file__).resolve().parent.parent.parent
A = Action


def graph(data: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["graph", *map(str, arguments), "--data", str(data)], env={"COLUMNS": "200"})


def done(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def process(service: str, mesh: Path) -> Iterator[None]:
    """The ingest API of the mesh, until the block ends."""
    command = [sys.executable, "-m", service, "--mesh", str(mesh)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL) as running:
        try:
            yield
        finally:
            running.terminate()
            running.wait(20)


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    """The description of a mesh of two processes that do not run yet."""
    sections = settings.validated({"mesh": {"data": str(tmp_path / "data"), "partitions": 3}}, "a test", SCHEMA)
    addresses = [Address(service=name, shard=0, shards=1, address=f"127.0.0.1:{free_port()}")
                 for name in ("roadrunner", "pixie")]  # fmt: skip
    found = meshes.resolve(sections, addresses)
    meshes.save(found, meshes.mesh_file(found.data))
    return found


def near(mesh: Mesh, pin: int) -> Recommended:
    """Pixie's answer, once it listens."""
    end = time.monotonic() + 60
    while True:
        try:
            found: Recommended = asked(PixieClient, mesh, lambda client: client.recommend(
                ids([pin]), np.ones(1, np.float32), want=BOARDS, k=9, steps=2_000, restart=1.0, timeout=30))  # fmt: skip
        except Unavailable:
            assert time.monotonic() < end
            time.sleep(0.05)
        else:
            return found


def log_answers(mesh: Mesh) -> bool:
    """Whether the ingest API listens: it and pixie start side by side, and either may be first."""
    log = open_reader(mesh)
    try:
        return bool(log.ends(5))
    except Unavailable:
        return False
    finally:
        log.close()


def publish(mesh: Mesh, *rows: tuple[Action, int, int, int]) -> None:
    action, pin, board, target = zip(*rows, strict=True)
    n = len(rows)
    batch = events(n, action=action, user=1, pin=pin, board=board, target=target, at_ms=wall_clock(),
                   id=[wall_clock() * 100 + i for i in range(n)])  # fmt: skip
    with open_publisher(mesh.data) as publisher:
        publisher.publish(batch, 20)


def test_from_the_log_to_a_walk_and_back(mesh: Mesh) -> None:
    file, data = meshes.mesh_file(mesh.data), mesh.data
    with process("roadrunner", file), process("pixie", file):
        with pytest.raises(NotReady):
            near(mesh, 1)
        until(lambda: log_answers(mesh))
        empty = graph(data, "build")
        assert empty.exit_code == 2
        assert "the log: no pin is on a board" in empty.output
        publish(mesh, (A.SAVE, 1, 10, 0), (A.SAVE, 2, 10, 0), (A.SAVE, 2, 11, 0), (A.JOIN_INTEREST, 2, 0, 5))
        publish(mesh, (A.SAVE, 3, 12, 0), (A.UNSAVE, 3, 12, 0), (A.SAVE, 2, 13, 0), (A.DELETE_BOARD, 0, 13, 0))
        said = done(graph(data, "build"))
        assert "from the log" in said
        assert "2 pins, 2 boards, 3 edges" in said
        first = near(mesh, 2)
        assert set(first.ids.tolist()) == {10, 11}
        publish(mesh, (A.SAVE, 1, 14, 0), (A.TAKEDOWN, 2, 0, 0))
        done(graph(data, "build", "--from-log"))
        assert set(near(mesh, 1).ids.tolist()) == {10, 14}
        listed = done(graph(data, "list"))
        assert listed.count("the log") == 2
        assert listed.count("pushed, served") == 1
        assert f"serving {first.version} again" in done(graph(data, "rollback"))
        assert near(mesh, 2).version == first.version
    with process("pixie", file):
        assert near(mesh, 2).version == first.version, "the snapshot served last is opened at a start"


def test_from_parquet_without_a_mesh(tmp_path: Path) -> None:
    data, edges, pins = tmp_path / "data", tmp_path / "e.parquet", tmp_path / "p.parquet"
    pq.write_table(pa.table({"item": [1, 2, 2], "user": [7, 7, 8]}), edges)
    pq.write_table(pa.table({"pin": [1, 2], "interests": [[5], [6]]}), pins)
    data.mkdir()
    assert "no snapshot in" in done(graph(data, "list"))
    ask = ("build", "--edges", edges, "--pin", "item", "--board", "user")
    said = done(graph(data, *ask, "--pins", pins, "--delta", "0.5"))
    assert "2 pins, 2 boards, 3 edges" in said
    assert "pruned with entropy fraction 0 and delta 0.5" in said
    assert "no mesh runs on" in said
    version = next((data / "graphs").iterdir()).name
    assert json.loads((data / "graphs" / version / "manifest.json").read_text())["delta"] == 0.5
    (data / "graphs" / version / "manifest.json").write_text("{}")
    assert "format = None" in done(graph(data, "list"))


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("build",), 1, "no mesh runs on this data folder"),
        (("push", "x"), 1, "no mesh runs on this data folder"),
        (("rollback",), 1, "no mesh runs on this data folder"),
        (("build", "--edges", "no.parquet"), 2, "no.parquet: no such file"),
        (("build", "--edges", "no.parquet", "--from-log"), 2, "--from-log and --edges: allowed is one of them"),
        (("build", "--pins", "no.parquet"), 2, "--pins: is allowed with --edges alone"),
        (("build", "--delta", "0"), 2, "delta = 0.0: allowed are above 0 to 1"),
        (("build", "--entropy-fraction", "1"), 2, "entropy_fraction = 1.0: allowed are 0 to below 1"),
    ],
)
def test_what_can_not_be_done_is_said(tmp_path: Path, arguments: tuple[str, ...], code: int, says: str) -> None:
    result = graph(tmp_path, *arguments)
    assert result.exit_code == code
    assert says in " ".join(result.output.split())
