"""The wheel of a clean checkout, built once."""

from pathlib import Path

import pytest

from tests.installed.environments import BUILD, clean_copy, environment, pip


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clean_copy(tmp_path_factory.mktemp("source") / "feedmesh")


@pytest.fixture(scope="session")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    assert not list(source.rglob("*_pb2*")), "a clone has no generated code"
    environment(folder / "environment", BUILD)
    pip(folder / "environment", "wheel", "--no-build-isolation", "--wheel-dir", folder, source)
    (made,) = folder.glob("*.whl")
    return made
