"""Runs every process of a mesh on one machine: starts them, starts again what dies, drains them all at the end.

It holds a pipe to each child's standard input; a child whose pipe closes drains by itself, so a killed supervisor
leaves nothing running. A child that answered and does so no more, stopped or in a deadlock, is killed and started again;
so is one that has not answered yet and uses no processor time.
"""

import fcntl
import logging
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from services.core.clock import wall_clock
from services.core.durable import replace_durably
from services.core.errors import InvalidArgument, MeshError, Unavailable
from services.core.external import check_setting
from services.core.installation import environment
from services.ops import children, layouts
from services.ops.children import Exit, Fate
from services.ops.heartbeat import Heartbeat
from services.ops.planning import Plan, laid_out
from services.ops.starting import READY_S, Started, Starter
from services.ops.status import SUPERVISED
from services.rpc import mesh as meshes
from services.rpc.membership import MemoryMembership
from services.rpc.mesh import Address

logger = logging.getLogger(__name__)
FORMAT = "feedmesh data 1"
_FORMAT_REMEDY = f"restore it from a backup, or write {FORMAT!r} into it if that is what the folder is"
POLL_S = 0.1
_WORDS_BYTES = 8192  # at the end of a log, in which a process says why it ends
SAID = 500  # characters of the last error of a process
FIRST_BACKOFF_S, MAX_BACKOFF_S, STEADY_S = 0.2, 5.0, 10.0
START_HANG_S = 60.0  # of a process that starts: to open its state may take long, but not without the processor
LEAVE_S = 3.0  # in which callers see that a process is no part of the mesh any more
_BY_RESTART = "stop this host's part, and start it again"
LOOK_S = 1.0  # of one look, at most: time while the supervisor itself was stopped counts for nothing


class DataFolder:
    """The data folder of a running mesh: locked, and of this format version."""

    def __init__(self, path: Path) -> None:
        """Lock it. Raises Unavailable when another mesh holds it, InvalidArgument when another version wrote it."""
        self.path = path
        try:
            os.umask(0o077)  # of this process and those that it starts: users' actions are for the owner alone
            (path / "run").mkdir(parents=True, exist_ok=True)
            for folder in (path, *filter(Path.is_dir, path.iterdir())):
                folder.chmod(0o700)
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
            if (self.path / "roadrunner").exists():
                raise InvalidArgument(f"{note}: is missing, and the folder holds data; {_FORMAT_REMEDY}")
            replace_durably(note, f"{FORMAT}\n".encode())
        found = note.read_bytes().decode(errors="replace").strip()
        if not found.startswith(FORMAT.rstrip("0123456789")):
            raise InvalidArgument(f"{note}: is damaged: it holds {found[:40]!r}; {_FORMAT_REMEDY}")
        if found != FORMAT:
            raise InvalidArgument(
                f"{self.path}: was written as {found!r}, this version reads {FORMAT!r}; use another folder"
            )

    def release(self) -> None:
        """Let others have it."""
        self._lock.close()


@dataclass(slots=True)
class Child:
    """One process, and how it has fared."""

    of: Address
    log: Path
    process: Started | None = None
    started: float = 0.0
    restarts: int = 0
    backoff_s: float = FIRST_BACKOFF_S
    start_at: float = 0.0
    exit_code: int | None = None
    hung_s: float = 0.0  # not 0: it was killed, as it gave no answer for so long
    cpu_s: float = 0.0  # processor time that it had used at the last look
    idle_s: float = 0.0  # for how long it has used none
    looked: float = 0.0
    logged: int = 0  # bytes of its log that those before it wrote
    exits: list[Exit] = field(default_factory=list)  # the newest first
    leave_at: float = 0.0  # not 0: it is no part of the mesh any more, and is stopped then
    end_by: float = 0.0  # when it is killed, if it was stopped

    @property
    def name(self) -> str:
        """Service, shard and replica; and the layout, of one that no client asks."""
        return self.of.name


class Supervisor:
    """All children of one mesh."""

    def __init__(self, plan: Plan, report: Callable[[str], None]) -> None:
        """`report` gets a line whenever a child died or came back."""
        self.mesh, self._ports, self._report, self._notes = plan.mesh, plan.ports, report, plan.notes
        mesh, self._members = plan.mesh, MemoryMembership(plan.mesh.processes)
        mesh.follow(self._members)
        self._path = meshes.mesh_file(mesh.data)
        (mesh.data / "logs").mkdir(parents=True, exist_ok=True)
        self.children = [self._child(of) for of in plan.own]
        self._layouts_seen = 0  # when the file of layouts was written, as it was read last
        self._heartbeat = Heartbeat(mesh, plan.own)
        self._starter = Starter(_variables(), mesh.data / "logs" / "fork_server.log")

    def start(self) -> None:
        """Describe the mesh and start every process. Raises InvalidArgument for ids in another form than before."""
        check_setting(self.mesh.data, self.mesh.common.ids)
        self._starter.begin()
        for note in self._notes:
            self._report(note)
        meshes.save(self.mesh, self._path)
        self._record()
        self._starter.is_ready(READY_S)
        for child in self.children:
            self._spawn(child)
        if self.mesh.common.hang_s:
            self._heartbeat.start()

    def _child(self, of: Address) -> Child:
        return Child(of, self.mesh.data / "logs" / f"{of.name}.log")

    def take(self, plan: Plan) -> None:
        """Run this part of the mesh from now on. What is new is started; what is left out is stopped after LEAVE_S seconds,
        in which its callers turn to others. Settings are those that a process reads when it starts.

        Raises InvalidArgument, and changes nothing, when a process would move to another address while it runs, or a layout
        would answer that was not beside the one before.
        """
        wanted = {_identity(of): of for of in plan.own}
        for child in self.children:
            of = wanted.get(_identity(child.of), child.of)
            if of.address != child.of.address:
                raise InvalidArgument(
                    f"{child.name} can't move from {child.of.address} to {of.address} while it runs; {_BY_RESTART}"
                )
        layouts.check_filled(self.mesh.processes, plan.mesh.processes, _BY_RESTART)
        self.mesh = plan.mesh
        self.mesh.follow(self._members)
        self._run(plan.own)

    def _follow_layouts(self) -> None:
        """Start and stop processes as `feedmesh layout` asked since the last look."""
        try:
            seen = layouts.layouts_file(self.mesh.data).stat().st_mtime_ns
            if seen == self._layouts_seen or not self.mesh.one_machine:
                return
            self._layouts_seen, wanted = seen, layouts.load(self.mesh.data)
        except FileNotFoundError:
            return
        except InvalidArgument as error:
            self._report(str(error))
            return
        present = [child.of for child in self.children]
        self.mesh.processes[:] = laid_out(present, wanted, self.mesh.common.host, self._ports)
        self._run(self.mesh.processes)

    def _run(self, own: Sequence[Address]) -> None:
        """Run these, as the mesh has them now."""
        meshes.save(self.mesh, self._path)
        self._heartbeat.look_after(own)
        self._members.change(self.mesh.processes)
        wanted = {_identity(of): of for of in own}
        for child in self.children:
            of = wanted.pop(_identity(child.of), None)
            child.of = of or child.of
            child.leave_at = 0.0 if of else child.leave_at or time.monotonic() + LEAVE_S
        for of in wanted.values():
            self.children.append(self._child(of))
            self._spawn(self.children[-1])
            self._report(f"{of.name} starts")
        self._record()

    def _left(self, child: Child, now: float) -> bool:
        """Whether a child that is no part of the mesh has ended. It is told to once, when its time has come, and killed when it
        takes too long.
        """
        if child.process is None or child.process.poll() is not None:
            if child.process is not None and child.process.stdin:
                child.process.stdin.close()
            self._report(f"{child.name} has left")
            if layouts.is_retired(child.of, self.mesh.processes):
                layouts.remove(self.mesh.data / child.of.service / child.of.folder)
            return True
        if child.leave_at <= now:
            child.process.terminate()
            child.leave_at, child.end_by = math.inf, now + self.mesh.common.drain_s + 5
        elif child.leave_at == math.inf and now > child.end_by:
            child.process.kill()
        return False

    def _spawn(self, child: Child) -> None:
        arguments = ["--mesh", str(self._path), "--shard", str(child.of.shard), "--shards", str(child.of.shards)]
        arguments += ["--replica", str(child.of.replica)] if child.of.replica else []
        with child.log.open("ab") as log:
            child.logged = log.tell()
            child.process = self._starter.start(child.of.service, arguments, log)
        child.started = child.looked = time.monotonic()
        child.cpu_s = child.idle_s = 0.0

    def watch(self) -> None:
        """Look once after every child: start again what died, later each time it dies young."""
        now = time.monotonic()
        self._follow_layouts()
        self.children = [child for child in self.children if not child.leave_at or not self._left(child, now)]
        for child in self.children:
            if child.leave_at:
                continue
            if child.process is None:
                if now >= child.start_at:
                    child.restarts += 1
                    self._spawn(child)
                    self._record()
                    self._report(f"{child.name} starts again ({child.restarts}.)")
            elif (code := child.process.poll()) is not None:
                self._buried(child, code, now)
            elif self.mesh.common.hang_s and (hung_s := self._hung_s(child, child.process.pid, now)):
                child.hung_s = hung_s
                child.process.kill()  # SIGTERM would wait for what hangs

    def _hung_s(self, child: Child, pid: int, now: float) -> float:
        """For how many seconds a process that hangs has given no answer; 0 of one that does not."""
        within = self.mesh.common.hang_s
        silent = self._heartbeat.silent_s(child.of, pid)
        if silent is None:
            silent, within = _idle_s(child, pid, now), max(within, START_HANG_S)
        return within if silent > within else 0.0

    def _record(self) -> None:
        """Write down the facts of the children that only this process knows."""
        fates = {child.name: Fate(child.restarts, child.exits) for child in self.children}
        children.save(fates, children.children_file(self.mesh.data))

    def _buried(self, child: Child, code: int, now: float) -> None:
        pipe: IO[bytes] | None = child.process.stdin if child.process else None
        if pipe:
            pipe.close()
        steady = now - child.started > STEADY_S
        child.backoff_s = FIRST_BACKOFF_S if steady else min(child.backoff_s * 2, MAX_BACKOFF_S)
        child.process, child.exit_code, child.start_at = None, code, now + child.backoff_s
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        if child.hung_s:
            how, child.hung_s = f"gave no answer for {child.hung_s:g} s and was killed", 0.0
        said = _last_words(child.log, child.logged)
        child.exits = [Exit(wall_clock(), how, said), *child.exits][: children.KEPT]
        self._record()
        self._report(f"{child.name} {how}{f': {said}' if said else ''}; log: {child.log}")

    def fail_fast(self) -> None:
        """While a mesh starts: raise Unavailable when a child has died three times."""
        for child in self.children:
            if child.of.asked and child.process is None and child.restarts >= 2:
                said = _last_words(child.log, child.logged)
                raise Unavailable(f"{child.name} does not start{f': {said}' if said else ''}; log: {child.log}")

    def stop(self) -> list[str]:
        """Drain every process; those that had to be killed, by name."""
        self._heartbeat.stop()
        running = [child for child in self.children if child.process is not None]
        order = {"web": 0, "feedgen": 1, "roadrunner": 3}
        grace = self.mesh.common.drain_s + 5
        killed: list[str] = []
        for step in sorted({order.get(child.of.service, 2) for child in running}):
            killed += _stop([child for child in running if order.get(child.of.service, 2) == step], grace)
        self._starter.close()
        with suppress(FileNotFoundError):
            self._path.unlink()
        self._ports.release()
        return killed


def _variables() -> dict[str, str]:
    """The environment of the processes."""
    return environment() | {
        SUPERVISED: "1",
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",  # glibc's arenas, one a thread, hold memory that no thread uses
        "GRPC_VERBOSITY": os.environ.get("GRPC_VERBOSITY", "ERROR"),
    }


def _identity(of: Address) -> tuple[str, str]:
    """What a process keeps, whether clients ask it or not: where its state is."""
    return of.service, of.folder


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


def _idle_s(child: Child, pid: int, now: float) -> float:
    """For how many seconds of looks this process has used no processor time."""
    with suppress(psutil.Error):  # it died meanwhile: the next look finds that
        used = sum(psutil.Process(pid).cpu_times()[:2])
        child.idle_s = child.idle_s + min(now - child.looked, LOOK_S) if used == child.cpu_s else 0.0
        child.cpu_s, child.looked = used, now
    return child.idle_s


def _shortened(said: str) -> str:
    """Its beginning and its end, where it says what to do."""
    return said if len(said) <= SAID else f"{said[: SAID // 2]} ... {said[-SAID // 2 :]}"


def _last_words(log: Path, since: int) -> str:
    """The last line from byte `since` of a log on that says what went wrong, or else the last one; empty where nothing is."""
    lines: list[str] = []
    with suppress(OSError), log.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(since, end - _WORDS_BYTES))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    wrong = [line for line in lines if line.startswith("error: ") or "Error" in line]
    return _shortened((wrong or lines or [""])[-1].removeprefix("error: "))
