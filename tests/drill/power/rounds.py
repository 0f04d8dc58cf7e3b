"""Rounds of a store on a file system whose power is cut at a random moment: killed, cut, opened again, and compared."""

import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.drill.power import CUT
from tests.drill.power.stores import Store, say_into

ROOT = Path(__file__).resolve().parents[3]
WITHIN_S = 120.0
MOST_LINES = 120  # acknowledged before a cut, at most
#: A child has the modules and kernels of a process without threads; one that is forked from a thread of tests may hang.
_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload(["tests.drill.power.preloaded"])


class NotMountedError(Exception):
    """This machine mounts no such file system."""


@dataclass
class Cuts:
    """What came of them. lines: acknowledgements; opened_s: how long each store took to open and be read."""

    count: int = 0
    lines: int = 0
    wrong: list[str] = field(default_factory=list)
    opened_s: list[float] = field(default_factory=list)


def missing() -> str:
    """Why there is no such file system here, and how to get one; empty where there is."""
    if os.geteuid() or not Path("/dev/fuse").exists():
        return "NOT TESTED: a cut of the power. It takes root and /dev/fuse"
    if find_spec("mfusepy") is None:
        return "NOT TESTED: a cut of the power. There is no mfusepy here: make setup .venv/made-dev"
    try:
        import mfusepy  # noqa: F401 - it looks for the library as it is imported
    except OSError:
        return "NOT TESTED: a cut of the power. There is no libfuse here: apt-get install fuse3 libfuse3-3"
    return ""


@contextmanager
def lossy(folder: Path, seed: int) -> Iterator[Path]:
    """A file system of its own, on a folder that lasts no longer than it."""
    backing, mount = folder / "backing", folder / "mount"
    backing.mkdir()
    mount.mkdir()
    command = [sys.executable, "-m", "tests.drill.power.lossy", str(backing), str(mount), str(seed)]
    with subprocess.Popen(command, cwd=ROOT) as serving:
        try:
            end = time.monotonic() + WITHIN_S
            while not os.path.ismount(mount):
                if serving.poll() is not None or time.monotonic() > end:
                    raise NotMountedError(f"{mount}: the file system ended with {serving.poll()} before it was mounted")
                time.sleep(0.01)
            yield mount
        finally:
            subprocess.run(["umount", "-l", str(mount)], check=False, stderr=subprocess.DEVNULL)
            try:
                serving.wait(10)
            except subprocess.TimeoutExpired:
                serving.kill()


def cut(mount: Path) -> None:
    """Cut the power of a file system; it is there again when this returns."""
    (mount / CUT).mkdir()
    (mount / CUT).rmdir()


def rounds(store: Store, folder: Path, cuts: int, seed: int, say: Any = lambda *_: None) -> Cuts:
    """So many cuts, one after the other, on one store. say: the cuts so far."""
    chance, found, known = random.Random(seed), Cuts(), store.heard([])
    with lossy(folder, seed) as mount:
        for _ in range(cuts):
            lines = _written(store, mount / store.name, known, chance)
            cut(mount)
            found.lines += len(lines)
            known = store.heard(lines)
            began = time.monotonic()
            try:
                found.wrong += [
                    f"cut {found.count}: {what}" for what in store.check(_looked(store, mount / store.name))
                ]
            except RuntimeError as error:
                found.wrong.append(f"cut {found.count}: {error}")
                return found
            found.opened_s.append(time.monotonic() - began)
            found.count += 1
            say(found)
    return found


def _written(store: Store, folder: Path, known: Any, chance: random.Random) -> list[str]:
    """What a process said that wrote the store until it was killed: after some lines, and a moment of any length."""
    ours, theirs = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_write, args=(type(store), folder, known, theirs))
    process.start()
    theirs.close()
    most, data = chance.randrange(MOST_LINES), b""
    while data.count(b"\n") < most:
        more = os.read(ours.fileno(), 65_536) if ours.poll(WITHIN_S) else b""
        if not more:
            break
        data += more
    time.sleep(chance.random() * 0.02)
    ended = process.exitcode
    process.kill()
    process.join()
    while more := os.read(ours.fileno(), 65_536):
        data += more
    ours.close()
    if ended is not None:
        raise RuntimeError(f"{store.name}: its writer ended by itself with {ended}")
    return data.decode().splitlines()


def _write(kind: type[Store], folder: Path, known: Any, pipe: Connection) -> None:
    kind().write(folder, known, say_into(pipe.fileno()))


def _looked(store: Store, folder: Path) -> Any:
    """What a process finds that opens the store. Raises RuntimeError where it can't."""
    ours, theirs = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_look, args=(type(store), folder, theirs))
    process.start()
    theirs.close()
    try:
        found = ours.recv() if ours.poll(WITHIN_S) else "it did not answer"
    except EOFError:
        found = "it died"
    process.kill()
    process.join()
    ours.close()
    if isinstance(found, str):
        raise RuntimeError(f"{store.name} did not open: {found}")
    return found


def _look(kind: type[Store], folder: Path, pipe: Connection) -> None:
    try:
        pipe.send(kind().look(folder))
    except Exception as error:
        pipe.send(repr(error))
