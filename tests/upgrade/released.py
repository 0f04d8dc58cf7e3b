"""The last released version as it runs beside this one: its commit of the changelog, laid out in a folder with its wire code.

The folder stays, outside of what git tracks, since the kernels of a version are compiled there once.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.installed.environments import ROOT

FOLDER = ROOT / ".released"
RELEASE = re.compile(
    r"^## (?P<version>\d+\.\d+\.\d+) \(\d{4}-\d\d-\d\d, commit (?P<commit>[0-9a-f]{12})\)$", re.MULTILINE
)


def _run(*command: object, cwd: Path = ROOT) -> bytes:
    ran = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, check=False, timeout=300)
    assert ran.returncode == 0, f"{ran.args}: {ran.stderr.decode(errors='replace')}"
    return ran.stdout


def released() -> Path:
    """The folder of the last release. Skips, loudly, where its commit can't be had."""
    found = RELEASE.search((ROOT / "CHANGELOG.md").read_text())
    assert found, "CHANGELOG.md names no release"
    commit, folder = found["commit"], FOLDER / found["commit"]
    if (folder / "made").exists():
        return folder
    if (
        not (ROOT / ".git").exists()
        or subprocess.run(["git", "cat-file", "-e", commit], cwd=ROOT, check=False).returncode
    ):
        pytest.skip(
            f"NOT TESTED: commit {commit} of release {found['version']} is not here: it takes a git clone with its history"
        )
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder.with_suffix(".tar")
    archive.write_bytes(_run("git", "archive", commit))
    _run("tar", "xf", archive, "-C", folder)
    archive.unlink()
    _run(sys.executable, "setup.py", "--quiet", "build_wire", "--inplace", cwd=folder)
    (folder / "made").touch()
    return folder
