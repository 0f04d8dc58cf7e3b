"""Runs every process of a mesh on one machine: starts them, starts again what dies, drains them all at the end.

It holds a pipe to each child's standard input; a child whose pipe closes drains by itself, so a killed supervisor
leaves nothing running.
"""

import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from services import mesh as meshes
from services.errors import InvalidArgument, MeshError, Unavailable
from services.mesh import Address, Mesh
from services.settings import SERVICES, Sections

logger = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parent.parent
FORMAT = "feedmesh data 1"
POLL_S = 0.1
FIRST_BACKOFF_S, MAX_BACKOFF_S, STEADY_S = 0.2, 5.0, 10.0


class DataFolder:
    """The data folder of a running mesh: locked, and of this format version."""

    def __init__(self, path: Path) -> None:
        """Lock it. Raises Unavailable when another mesh holds it, InvalidArgument when another version wrote it."""
        self.path = path
        try:
            (path / "run").mkdir(parents=True, exist_ok=True)
            self._lock = (path / "run" / "lock").open("a+")
        except OSError as error:
            raise InvalidArgument(f"{path}: cannot be the data folder: {error.strerror}") from None
        try:
            self._take()
            self._check_format()
        except MeshError:
            self.release()
            raise

    def _take(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.seek(0)
            holder = self._lock.read().strip() or "unknown"
            raise Unavailable(
                f"{self.path}: a mesh is running on this data folder already (process {holder}); "
                "stop it with `feedmesh down`, or name another folder"
            ) from None
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()

    def _check_format(self) -> None:
        note = self.path / "FORMAT"
        if not note.exists():
            draft = note.with_suffix(".draft")  # whole or not at all, whenever this is killed
            draft.write_text(FORMAT + "\n")
            os.replace(draft, note)
        found = note.read_text().strip()
        if found != FORMAT:
            raise InvalidArgument(
                f"{self.path}: was written as {found!r}, this version reads {FORMAT!r}; use another folder"
            )

    def release(self) -> None:
        """Let others have it."""
        self._lock.close()


def plan(sections: Sections, services: Sequence[str] = ()) -> Mesh:
    """Every process of the mesh, or of these services alone, with a free or configured port for each.

    Raises Unavailable for a port in use.
    """
    common, processes = sections["mesh"], []
    host = f"[{common.host}]" if ":" in common.host else common.host
    taken: list[socket.socket] = []  # held until all are picked, so that no two are the same
    try:
        for service in services or SERVICES:
            shards = getattr(sections[service], "shards", 1)
            if shards > common.partitions:
                raise InvalidArgument(f"[{service}] shards = {shards}: at most one a partition, {common.partitions}")
            for shard in range(shards):
                ports = {}
                for setting in ("port", "http_port"):
                    wanted = getattr(sections[service], setting, None)
                    if wanted is not None:
                        number = wanted + shard if wanted else 0
                        taken.append(_listen(common.host, number, f"[{service}] {setting}"))
                        ports[setting] = f"{host}:{taken[-1].getsockname()[1]}"
                place = {"service": service, "shard": shard, "shards": shards, "zone": common.zone}
                processes.append(Address(**place, address=ports["port"], http=ports.get("http_port", "")))
    finally:
        for listener in taken:
            listener.close()
    return meshes.resolve(sections, processes)


def _listen(host: str, port: int, setting: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()  # or another may be bound to the same port beside it
    except (OSError, OverflowError) as error:
        listener.close()
        why = error.strerror if isinstance(error, OSError) else "ports end at 65535"
        raise Unavailable(f"{setting}: cannot listen on {host}:{port}: {why}; choose another") from None
    return listener


@dataclass(slots=True)
class Child:
    """One process, and how it has fared."""

    of: Address
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    restarts: int = 0
    backoff_s: float = FIRST_BACKOFF_S
    start_at: float = 0.0
    exit_code: int | None = None

    @property
    def name(self) -> str:
        """Service and shard."""
        return f"{self.of.service}-{self.of.shard}"


class Supervisor:
    """All children of one mesh."""

    def __init__(self, mesh: Mesh, report: Callable[[str], None]) -> None:
        """`report` is told, in a line, whenever a child died or came back."""
        self.mesh, self._report = mesh, report
        self._path = meshes.mesh_file(mesh.data)
        logs = mesh.data / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self.children = [Child(p, logs / f"{p.service}-{p.shard}.log") for p in mesh.processes]

    def start(self) -> None:
        """Describe the mesh and start every process."""
        meshes.save(self.mesh, self._path)
        for child in self.children:
            self._spawn(child)

    def _spawn(self, child: Child) -> None:
        command = [sys.executable, "-m", child.of.service, "--mesh", str(self._path), "--shard", str(child.of.shard)]
        environment = os.environ | {
            "FEEDMESH_SUPERVISED": "1",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "MALLOC_ARENA_MAX": "2",  # glibc's arenas, one a thread, hold memory that nobody uses
            "GRPC_VERBOSITY": os.environ.get("GRPC_VERBOSITY", "ERROR"),
        }
        with child.log.open("ab") as log:
            child.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        child.started = time.monotonic()

    def watch(self) -> None:
        """Look once after every child: start again what died, later each time it dies young."""
        now = time.monotonic()
        for child in self.children:
            if child.process is None:
                if now >= child.start_at:
                    child.restarts += 1
                    self._spawn(child)
                    self._report(f"{child.name} starts again ({child.restarts}.)")
            elif (code := child.process.poll()) is not None:
                self._buried(child, code, now)

    def _buried(self, child: Child, code: int, now: float) -> None:
        pipe: IO[bytes] | None = child.process.stdin if child.process else None
        if pipe:
            pipe.close()
        steady = now - child.started > STEADY_S
        child.backoff_s = FIRST_BACKOFF_S if steady else min(child.backoff_s * 2, MAX_BACKOFF_S)
        child.process, child.exit_code, child.start_at = None, code, now + child.backoff_s
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        self._report(f"{child.name} {how}{_last_error(child.log)}; log: {child.log}")

    def fail_fast(self) -> None:
        """While a mesh starts: raise Unavailable when a child has died three times."""
        for child in self.children:
            if child.process is None and child.restarts >= 2:
                raise Unavailable(f"{child.name} does not start{_last_error(child.log)}; log: {child.log}")

    def stop(self) -> list[str]:
        """Drain every process; those that had to be killed, by name."""
        running = [child for child in self.children if child.process is not None]
        order = {"web": 0, "feedgen": 1, "roadrunner": 3}
        grace = self.mesh.common.drain_s + 5
        killed: list[str] = []
        for step in sorted({order.get(child.of.service, 2) for child in running}):
            killed += _stop([child for child in running if order.get(child.of.service, 2) == step], grace)
        with suppress(FileNotFoundError):
            self._path.unlink()
        return killed


def _stop(children: list[Child], grace_s: float) -> list[str]:
    for child in children:
        if child.process:
            with suppress(ProcessLookupError):
                child.process.terminate()
    killed, end = [], time.monotonic() + grace_s
    for child in children:
        if child.process is None:
            continue
        try:
            child.process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
            killed.append(child.name)
        if child.process.stdin:
            child.process.stdin.close()
        child.process = None
    return killed


def _last_error(log: Path) -> str:
    """The last line of a log that says what went wrong, as the end of a sentence."""
    with suppress(OSError):
        lines = log.read_bytes()[-8192:].decode(errors="replace").splitlines()
        for line in reversed(lines):
            if line.startswith("error: ") or "Error" in line:
                return f": {line.removeprefix('error: ').strip()[:400]}"
    return ""
