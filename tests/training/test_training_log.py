"""History from a running log is every event once, in order of time, and the served pages beside it."""

from pathlib import Path

import numpy as np
import pytest
import typer

from cli.model import train
from learning.training.events import of_dataset, of_mesh
from loaders import parquet
from loaders.generate import generate
from loaders.world import Spec
from protos import roadrunner_pb2 as pb
from protos.roadrunner_pb2_grpc import RoadrunnerStub
from scorpion import registry
from services.core.errors import InvalidArgument
from services.core.events import Action, Batch, events
from services.rpc import mesh as meshes
from tests.roadrunner.running import running
from tests.training.worlds import NOW_MS, small

NAMES = ("user", "action", "pin", "board", "target", "at_ms")
MOMENT = NOW_MS - 1_000


def rows(batch: Batch) -> list[tuple[int, ...]]:
    columns = [getattr(batch, name).tolist() for name in NAMES]
    return sorted(zip(*columns, batch.interests.lengths().tolist(), strict=True))


def owner_of(world: Batch, board: int) -> int:
    """The user who made a board."""
    (row,) = np.flatnonzero((world.action == Action.CREATE_BOARD) & (world.board == board))
    return int(world.user[row])


def test_every_event_of_the_log_once_and_by_time(tmp_path: Path) -> None:
    generate(Spec(users=30, pins=80, boards=40, saves=300, seed=2), tmp_path / "world", NOW_MS)
    world = of_dataset(parquet.open(tmp_path / "world")).events
    owner, stranger = owner_of(world, 6), 20_000
    void = events(1, action=Action.DELETE_BOARD, user=stranger, board=7, at_ms=MOMENT, id=6)  # it does not hold
    more = events(
        5, action=[Action.UNSAVE, Action.TAKEDOWN, Action.JOIN_INTEREST, Action.PUT_FEATURES, Action.DELETE_BOARD],
        user=[1, 0, 0, 0, owner], pin=[2, 3, 4, 0, 0], board=[5, 0, 0, 0, 6], target=[0, 0, 7, 8, 0], at_ms=MOMENT,
        title=["", "", "", "words", ""], features=[[], [], [], [1.0], []], id=range(1, 6),
    )  # fmt: skip
    served = events(2, action=Action.SERVED, user=9, pin=[1, 2], at_ms=MOMENT, features=[[1.0], [2.0]], id=[10, 11])
    with running(tmp_path) as ingest:
        for batch in (world, more, void, served):
            ingest.publisher().publish(batch, 30.0)
        RoadrunnerStub(ingest.channel()).Probe(pb.ProbeRequest(turn=3, at_ms=MOMENT), timeout=30)
        found = of_mesh(ingest.mesh)
    assert rows(found.events) == rows(Batch.concat([world, more]))
    assert (np.diff(found.events.at_ms) >= 0).all()
    assert found.served.pin.tolist() == [1, 2]
    assert found.served.features.values.tolist() == [1.0, 2.0]


def test_an_empty_log_is_refused(tmp_path: Path) -> None:
    with running(tmp_path) as ingest, pytest.raises(InvalidArgument, match="the log is empty: load a set first"):
        of_mesh(ingest.mesh)


def test_the_command_trains_on_the_log_and_promotes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = small(tmp_path / "world")
    data = tmp_path / "data"
    with running(tmp_path) as ingest:
        for start in range(0, len(history.events), 5_000):
            ingest.publisher().publish(history.events.slice(start, min(start + 5_000, len(history.events))), 60.0)
        mesh = ingest.mesh
        mesh.settings["mesh"]["data"] = str(data)
        meshes.save(mesh, meshes.mesh_file(data))
        train(name="first", samples=360, moments=12, horizon=5.0, promoting=True, force=True, data=data)
        with pytest.raises(typer.Exit) as refused:
            train(origin="nowhere", data=data)
    assert refused.value.exit_code == 2
    said = capsys.readouterr()
    assert "first@1 is in the registry; report: " in said.out
    assert "first@1 is promoted" in said.out
    for word in ("popularity", "recency", "light", "item-knn", "the best baseline"):
        assert word in said.out
    assert "--from nowhere: allowed are auto, replay, log-served" in said.err
    assert registry.promoted(data).promoted == "first@1"
    [folder] = (data / "training").iterdir()
    assert {"model.txt", "report.html"} <= {path.name for path in (folder / "model").iterdir()}
