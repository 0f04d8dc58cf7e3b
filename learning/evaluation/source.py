"""Which code a result was measured with."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path


def commit_of(root: Path, written: Sequence[str]) -> str:
    """The commit of a checkout, with `-dirty` behind it where files have changed; "" without git.

    written: paths that the measurement writes itself, whose changes do not count.
    """
    others = (".", *(f":!{path}" for path in written))
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", *others)
    found = _git(root, "describe", "--always")
    return f"{found}-dirty" if found and changed else found


def _git(root: Path, *arguments: str) -> str:
    if shutil.which("git") is None:
        return ""
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False).stdout.strip()
