"""`make bench-peers`: every peer into an environment of its own under `.peers/`, at the versions of its lock file.

A peer that can't be installed, or imported once it is, is reported with the reason and counts as absent. Running it again
installs only what is missing or has another lock file.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from bench.peers.pairing import PEERS

LOCKS = Path(__file__).parent
IMPORTS = {"pybloom-live": "pybloom_live", "plain": "lightgbm"}  # where the module has another name than the peer
DEBS = ("redis-server", "redis-tools", "libjemalloc2", "liblzf1")
WITHIN_S = 900


def main() -> int:
    """Install the missing peers; 0 unless none is there."""
    locks = sorted(LOCKS.glob("*.txt"))
    there = [installed(lock.stem, lock) for lock in locks]
    print(f"{sum(there)} of {len(there)} peers are in {PEERS}")
    return 0 if any(there) else 1


def installed(name: str, lock: Path) -> bool:
    """Whether the peer is there, after an attempt at it."""
    home, state = PEERS / name, hashlib.sha256(lock.read_bytes()).hexdigest()
    made, absent = home / "made", home / "absent"
    if made.exists() and made.read_text() == state:
        print(f"{name}: there already", flush=True)
        return True
    print(f"{name}: installing …", flush=True)
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    try:
        _environment(home, lock)
        if name == "redis":
            _debian_redis(home)
        _run([str(home / "bin" / "python"), "-c", f"import {IMPORTS.get(name, name)}"])
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        absent.write_text(f"{error}\n")
        print(f"{name}: absent: {error}", flush=True)
        return False
    made.write_text(state)
    print(f"{name}: installed", flush=True)
    return True


def _environment(home: Path, lock: Path) -> None:
    _run([sys.executable, "-m", "venv", str(home)])
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "-r", str(lock)])


def _debian_redis(home: Path) -> None:
    """Debian's packages, unpacked beside the client: nothing of the system is changed and no service is started."""
    debs = home / "debs"
    debs.mkdir()
    _run(["apt-get", "download", *DEBS], debs)
    for deb in sorted(debs.glob("*.deb")):
        _run(["dpkg-deb", "-x", str(deb), str(home / "root")])


def _run(command: list[str], folder: Path | None = None) -> None:
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=WITHIN_S)
    if ran.returncode:
        said = [line for line in ran.stderr.splitlines() if line.strip() and not line.startswith(("W:", "WARNING"))]
        raise RuntimeError(f"{Path(command[0]).name} {' '.join(command[1:3])}: {said[-1] if said else ran.returncode}")


if __name__ == "__main__":
    sys.exit(main())
