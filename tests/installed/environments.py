"""Environments that hold the packages of some lock files and nothing else, made from those installed here: no network."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNTIME, TRAINING, BUILD, CLUSTER, DEV = (
    f"requirements{kind}.lock" for kind in ("", "-training", "-build", "-cluster", "-dev")
)
#: Compiled without optimization, all kernels take half of the time: that they are found is tested here, not that they are fast.
QUICKLY = {"NUMBA_OPT": "0"}
HERE = Path(sysconfig.get_path("purelib"))


def locked(*files: str) -> list[str]:
    """Names of the distributions that lock files pin."""
    return [name for file in files for name in re.findall(r"^([a-z0-9-]+)==", (ROOT / file).read_text(), re.MULTILINE)]


def run(command: Iterable[object], **how: object) -> str:
    """The output of a command that went well."""
    ran = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=300, **how)  # type: ignore[call-overload]
    assert ran.returncode == 0, f"{ran.args}: {ran.stdout}{ran.stderr}"
    return str(ran.stdout)


def environment(folder: Path, *files: str) -> Path:
    """An empty virtual environment in which the packages of these lock files are linked; its site-packages."""
    run([sys.executable, "-m", "venv", "--without-pip", folder])
    site = Path(
        run([folder / "bin" / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
    )
    for name in locked(*files):
        tops = {path.parts[0] for path in importlib.metadata.distribution(name).files or () if path.parts[0] != ".."}
        for top in tops - {"__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(HERE / top)
    return site


def pip(of: Path, *words: object) -> None:
    """Run pip on the environment in a folder, which has none. PATH leads to the plugins of protoc."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    offline = ("--no-index", "--no-deps", "--disable-pip-version-check", "--quiet")
    command = [sys.executable, "-m", "pip", "--python", of / "bin" / "python", words[0], *offline, *words[1:]]
    run(command, env=os.environ | {"PATH": path})


def clean_copy(into: Path) -> Path:
    """The checkout as a clone has it: nothing that .gitignore leaves out, and no tests."""
    left_out = [line.strip("/\n") for line in (ROOT / ".gitignore").read_text().splitlines()]
    left_out = [line.removeprefix("protos/") for line in left_out]
    shutil.copytree(ROOT, into, ignore=shutil.ignore_patterns(*left_out, ".git", "tests", "bench", "deploy", "docs"))
    return into
