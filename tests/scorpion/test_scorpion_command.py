"""`feedmesh model` on a registry, with and without a mesh that runs."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from scorpion import registry
from services.rpc import mesh as meshes
from tests.scorpion.making import written
from tests.scorpion.world import running


def run(data: Path, *arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["model", *map(str, arguments), "--data", str(data)])
    return result.exit_code, " ".join(result.stdout.split()), " ".join(result.stderr.split())


@pytest.fixture
def made(tmp_path: Path) -> Path:
    written(tmp_path / "made", trees=3)
    return tmp_path / "made"


def test_push_promote_list_and_roll_back_without_a_mesh(made: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert run(data, "push", made) == (0, "ranker@1 is in the registry", "")
    code, said, aside = run(data, "push", made, "--promote")
    assert (code, said) == (0, "ranker@2 is in the registry ranker@2 is promoted")
    assert aside == "the mesh does not run: it is served when it starts"
    assert run(data, "promote", "ranker@1")[1] == "ranker@1 is promoted"
    listed = run(data, "list")[1]
    assert "ranker@1" in listed
    assert "promoted" in listed
    assert run(data, "rollback")[1] == "ranker@2 is served again"
    assert registry.promoted(data).promoted == "ranker@2"


def test_what_cannot_be_done_is_said(made: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    code, _, said = run(data, "promote", "ranker")
    assert code == 1
    assert "error: model 'ranker' is not in the registry; there are none" in said
    assert run(data, "rollback")[0] == 1
    (made / "model.txt").unlink()
    code, _, said = run(data, "push", made)
    assert code == 2
    assert "model.txt is missing" in said


def test_a_running_mesh_serves_it_or_says_why_not(made: Path, tmp_path: Path) -> None:
    with running(tmp_path / "world", 2) as world:
        meshes.save(world.mesh, meshes.mesh_file(world.data))
        assert run(world.data, "push", made, "--promote")[:2] == (0, "ranker@1 is in the registry ranker@1 is promoted")
        assert [str(models.get("").ref) for models in world.models] == ["ranker@1"] * 2
        written(tmp_path / "other", names=("pin_quality", "moods.joy"), trees=2)
        code, _, said = run(world.data, "push", tmp_path / "other")
        assert (code, "feature moods.joy: rockstore has no dataset 'moods'; it has taste" in said) == (2, True)
        registry.push(tmp_path / "other", world.data)  # as if rockstore had it then
        code, _, said = run(world.data, "promote", "ranker@2")
        assert (code, "rockstore has no dataset 'moods'" in said) == (2, True)
        assert registry.promoted(world.data).promoted == "ranker@1"
