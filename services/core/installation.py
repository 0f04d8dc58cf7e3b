"""Where this code lies: in a checkout, or where a wheel was installed, which may be read-only and holds others' packages."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def record() -> Path | None:
    """The list of the installed wheel's files, with a digest of each; None in a checkout."""
    return next(ROOT.glob("feedmesh-*.dist-info/RECORD"), None)


def user_kernels() -> Path:
    """Where an installed wheel keeps its compiled kernels, a folder for each state of them."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "feedmesh" / "kernels"


def program(module: str) -> list[str]:
    """The command line that runs one of our modules; -P, or a folder `web` where the user stands would be taken for ours."""
    return [sys.executable, "-P", "-m", module]


def environment() -> dict[str, str]:
    """The environment in which a module of ours is found; a checkout need not be installed."""
    return dict(os.environ) if record() else os.environ | {"PYTHONPATH": str(ROOT)}


def remedy(extra: str = "") -> str:
    """The command that installs what we stand on, or what one of our extras does."""
    return f"pip install '{f'feedmesh[{extra}]' if extra else 'feedmesh'}'" if record() else "make setup"
