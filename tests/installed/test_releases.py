"""The version is one number in one place, and the changelog names the commit of each release."""

import re
import subprocess
import tomllib

import pytest

from tests.installed.environments import ROOT
from tests.mesh.command import feedmesh

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
RELEASE = re.compile(r"(?P<version>\d+\.\d+\.\d+) \((?P<date>\d{4}-\d\d-\d\d), commit (?P<commit>[0-9a-f]{12})\)")


def headings(text: str) -> list[str]:
    """The texts of the changelog's headings of releases."""
    return re.findall(r"^## (.*)$", text, re.MULTILINE)


def test_the_command_prints_the_version_of_the_project() -> None:
    assert feedmesh("--version").stdout == f"feedmesh {VERSION}\n"


def test_the_version_is_written_in_one_place() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for folder in ("cli", "services", "web", "docs")
        for path in (ROOT / folder).rglob("*.*")
        if path.suffix in (".py", ".md", ".html", ".js") and f'"{VERSION}"' in path.read_text()
    ]
    assert not wrong


def test_every_release_in_the_changelog_names_its_commit() -> None:
    first, *releases = headings((ROOT / "CHANGELOG.md").read_text())
    assert first == "Unreleased"
    wrong = [heading for heading in releases if not RELEASE.fullmatch(heading)]
    assert not wrong, "of the form: 0.2.0 (2026-12-24, commit 0123456789ab)"
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    for release in map(RELEASE.fullmatch, releases):
        assert release
        command = ["git", "show", f"{release['commit']}:pyproject.toml"]
        shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert tomllib.loads(shown)["project"]["version"] == release["version"]


@pytest.mark.parametrize("heading", ["0.2.0", "0.2.0 (2026-12-24)", "0.2 (2026-12-24, commit 0123456789ab)"])
def test_a_heading_without_a_commit_is_none(heading: str) -> None:
    assert not RELEASE.fullmatch(heading)
