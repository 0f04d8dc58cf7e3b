"""`pip wheel .` of a clean checkout, with the packages of a build alone, makes a wheel from which a mesh runs with the
packages of a mesh alone, wherever the user stands.
"""

import json
import os
import re
import subprocess
import zipfile
from pathlib import Path

import httpx
import pytest

from services.rpc.mesh import load, mesh_file
from tests.installed.environments import QUICKLY, RUNTIME, environment, pip, run
from tests.mesh.command import Up, left_running, until_gone

WORLD = ("--users", 60, "--pins", 500, "--boards", 150, "--saves", 2_000, "--seed", 5)
SETTINGS = "[web]\nhttp_port = 0\n[learning]\nfirst = false\n"
STRANGERS = ("web", "services", "features", "cli")  # folders that a project of the user's may have


@pytest.fixture(scope="module")
def held(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_has_the_code_of_every_proto(source: Path, held: set[str]) -> None:
    protos = [path.stem for path in (source / "protos").glob("*.proto")]
    assert len(protos) > 10
    for name in protos:
        ends = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
        assert {f"protos/{name}{end}" for end in ends} <= held


def test_the_wheel_has_every_file_of_its_packages(source: Path, held: set[str]) -> None:
    packages = {name.split("/")[0] for name in held if not name.startswith("feedmesh-")}
    assert packages == {path.parent.name for path in source.glob("*/__init__.py")}
    files = [path for package in packages for path in (source / package).rglob("*") if path.is_file()]
    wanted = {str(path.relative_to(source)) for path in files if path.name != "README.md"}
    assert {name for name in wanted - held if not name.startswith("learning/evaluation/")} == set()
    assert any(re.fullmatch(r"feedmesh-[\d.]+\.dist-info/licenses/LICENSE", name) for name in held)


def test_a_mesh_runs_from_the_wheel_elsewhere(wheel: Path, tmp_path: Path) -> None:
    site = environment(tmp_path / "environment", RUNTIME)
    pip(tmp_path / "environment", "install", wheel)
    before = files_of(site)
    place = Elsewhere(tmp_path)

    assert re.fullmatch(r"feedmesh \d+\.\d+\.\d+\n", place.feedmesh("--version"))
    found = {one["what"]: one for one in json.loads(place.feedmesh("doctor", "--json"))}
    assert found["packages"]["state"] == "well"
    assert found["training"]["state"] == "note"
    assert "lightgbm is missing" in found["training"]["text"]
    assert "pip install 'feedmesh[training]'" in found["training"]["remedy"]

    place.feedmesh("demo", "--out", "data/demo", *WORLD)
    mesh = place.up()
    try:
        mesh.until_ready()
        answers(f"http://{load(mesh_file(place.data)).of('web')[0].http}")
        refused = place.run("model", "train")
        assert refused.returncode == 1
        assert "pip install 'feedmesh[training]'" in refused.stderr
        place.feedmesh("down")
        assert mesh.ended(30) == 0
        assert not left_running(place.data)
    finally:
        mesh.process.kill()
        mesh.process.wait()
        until_gone(place.data, 30)
    assert list((tmp_path / "cache" / "feedmesh" / "kernels").glob("*/*.lock")), "kernels are in the user's cache"
    assert files_of(site) == before, "the environment may be read-only"


class Elsewhere:
    """A folder of the user's, with modules of our names in it, and the command of the environment beside it."""

    def __init__(self, home: Path) -> None:
        self.folder, self._command = home / "elsewhere", home / "environment" / "bin" / "feedmesh"
        self.data = self.folder / "data"
        for name in STRANGERS:
            (self.folder / name).mkdir(parents=True)
            (self.folder / name / "__init__.py").write_text("raise SystemExit('of the user, and not ours')\n")
        (self.folder / "mesh.toml").write_text(SETTINGS)
        kept = {name: value for name, value in os.environ.items() if name not in ("NUMBA_CACHE_DIR", "PYTHONPATH")}
        self._environment = kept | QUICKLY | {"XDG_CACHE_HOME": str(home / "cache"), "COLUMNS": "200"}

    def feedmesh(self, *words: object) -> str:
        """The output of a command that went well."""
        return run([self._command, *words], cwd=self.folder, env=self._environment)

    def run(self, *words: object) -> "subprocess.CompletedProcess[str]":
        """A command, however it ends."""
        how = {"cwd": self.folder, "env": self._environment, "capture_output": True, "text": True, "timeout": 120}
        command = [str(self._command), *map(str, words)]
        return subprocess.run(command, check=False, **how)  # type: ignore[call-overload,no-any-return]

    def up(self) -> Up:
        """`feedmesh up --demo`, started."""
        said = self.folder / "said"
        with said.open("wb") as file:
            process = subprocess.Popen(
                [self._command, "up", "--demo"],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        return Up(process, self.data, said)


def files_of(site: Path) -> set[Path]:
    """Of our own packages, and beside them."""
    return {path for path in site.rglob("*") if "__pycache__" not in path.parts}


def answers(url: str) -> None:
    """The page with its files, the documentation of the API, and home."""
    with httpx.Client(base_url=url, timeout=30) as client:
        page = client.get("/")
        assert page.status_code == 200
        parts = re.findall(r'(?:src|href)="(static/[^"]+)"', page.text)
        assert parts
        for path in (*parts, "static/icon.svg", "health", "models", "docs", "openapi.json"):
            assert client.get(path).status_code == 200, path
        home = client.get("v1/feeds/home", params={"user": "7"})
        assert home.status_code == 200
        assert home.json()["items"]
