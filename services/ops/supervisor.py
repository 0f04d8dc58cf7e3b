"""Runs every process of a mesh on one machine: starts them, starts again what dies, drains them all at the end.

It holds a pipe to each child's standard input; a child whose pipe closes drains by itself, so a killed supervisor
leaves nothing running. A child that answered and does so no more, stopped or in a deadlock, is killed and started again;
so is one that has not answered yet and uses no processor time.
"""

import fcntl
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgspec
import psutil

from services.core.clock import wall_clock
from services.core.durable import replace_durably
from services.core.errors import InvalidArgument, MeshError, Unavailable
from services.core.external import check_setting
from services.core.installation import environment, program
from services.core.settings import Sections, services_of
from services.ops import children, layouts
from services.ops.children import Exit, Fate
from services.ops.heartbeat import Heartbeat
from services.ops.layouts import Layout
from services.ops.ports import Ports
from services.rpc import mesh as meshes
from services.rpc.membership import FileMembership
from services.rpc.mesh import Address, Mesh

logger = logging.getLogger(__name__)
FORMAT = "feedmesh data 1"
_FORMAT_REMEDY = f"restore it from a backup, or write {FORMAT!r} into it if that is what the folder is"
POLL_S = 0.1
_WORDS_BYTES = 8192  # at the end of a log, in which a process says why it ends
SAID = 500  # characters of the last error of a process
FIRST_BACKOFF_S, MAX_BACKOFF_S, STEADY_S = 0.2, 5.0, 10.0
START_HANG_S = 60.0  # of a process that starts: to open its state may take long, but not without the processor
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


@dataclass(frozen=True, slots=True)
class Plan:
    """A mesh, and the free ports that were picked for it: released when a supervisor has stopped it."""

    mesh: Mesh
    ports: Ports
    notes: tuple[str, ...] = ()  # what people should know of it


def plan(sections: Sections, services: Sequence[str] = ()) -> Plan:
    """Every process of the mesh, or of these services alone, with a free or configured port for each.

    Raises Unavailable for a port in use.
    """
    notes = tuple(layouts.settle(sections, layouts.load(Path(sections["mesh"].data))))
    ports = Ports(sections["mesh"].host)
    try:
        processes = [
            process for service in services or services_of(sections) for process in _shards(service, sections, ports)
        ]
    except BaseException:
        ports.release()
        raise
    ports.planned()
    return Plan(meshes.resolve(sections, processes), ports, notes)


def _shards(service: str, sections: Sections, ports: Ports) -> Iterator[Address]:
    common, settings = sections["mesh"], sections[service]
    shards = getattr(settings, "shards", 1)
    if shards > common.partitions:
        raise InvalidArgument(f"[{service}] shards = {shards}: at most one a partition, {common.partitions}")
    host = f"[{common.host}]" if ":" in common.host else common.host
    for shard in range(shards):
        addresses, held = {}, []
        for setting in ("port", "http_port"):
            wanted = getattr(settings, setting, None)
            if wanted is not None:
                number = ports.take(wanted + shard if wanted else 0, f"[{service}] {setting}")
                addresses[setting] = f"{host}:{number}"
                held += [] if wanted else [addresses[setting]]
        yield Address(
            service=service,
            shard=shard,
            shards=shards,
            zone=common.zone,
            address=addresses["port"],
            http=addresses.get("http_port", ""),
            held=tuple(held),
        )


@dataclass(slots=True)
class Child:
    """One process, and how it has fared."""

    of: Address
    log: Path
    name: str  # service and shard; and the layout, of one that was added since the mesh was started
    process: subprocess.Popen[bytes] | None = None
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
    leaves_by: float = 0.0  # not 0: it is to end, and is killed then


class Supervisor:
    """All children of one mesh."""

    def __init__(self, plan: Plan, report: Callable[[str], None]) -> None:
        """`report` gets a line whenever a child died or came back."""
        self.mesh, self._ports, self._report, self._notes = plan.mesh, plan.ports, report, plan.notes
        mesh = plan.mesh
        self._path = meshes.mesh_file(mesh.data)
        (mesh.data / "logs").mkdir(parents=True, exist_ok=True)
        self.children = [self._child(p, f"{p.service}-{p.shard}") for p in mesh.processes]
        self._layouts_seen = 0
        self._heartbeat = Heartbeat(mesh)

    def start(self) -> None:
        """Describe the mesh and start every process. Raises InvalidArgument for ids in another form than before."""
        check_setting(self.mesh.data, self.mesh.common.ids)
        for note in self._notes:
            self._report(note)
        meshes.save(self.mesh, self._path)
        self.mesh.follow(FileMembership(self._path, self.mesh.processes))  # processes come and go with layouts
        self._record()
        for child in self.children:
            self._spawn(child)
        if self.mesh.common.hang_s:
            self._heartbeat.start()

    def _spawn(self, child: Child) -> None:
        command = [*program(child.of.service), "--mesh", str(self._path), "--shard", str(child.of.shard)]
        command += ["--shards", str(child.of.shards)]
        variables = environment() | {
            "FEEDMESH_SUPERVISED": "1",
            "OMP_NUM_THREADS": "1",
            "MALLOC_ARENA_MAX": "2",  # glibc's arenas, one a thread, hold memory that no thread uses
            "GRPC_VERBOSITY": os.environ.get("GRPC_VERBOSITY", "ERROR"),
        }
        with child.log.open("ab") as log:
            child.logged = log.tell()
            child.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=variables, start_new_session=True
            )
        child.started = child.looked = time.monotonic()
        child.cpu_s = child.idle_s = 0.0

    def watch(self) -> None:
        """Look once after every child: start again what died, later each time it dies young."""
        now = time.monotonic()
        self._follow_layouts(now)
        for child in list(self.children):
            if child.leaves_by:
                self._leave(child, now)
            elif child.process is None:
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

    def _child(self, of: Address, name: str) -> Child:
        return Child(of, self.mesh.data / "logs" / f"{name}.log", name)

    def _follow_layouts(self, now: float) -> None:
        """Start and end processes as `feedmesh layout` asked since the last look."""
        try:
            seen = layouts.layouts_file(self.mesh.data).stat().st_mtime_ns
            if seen == self._layouts_seen:
                return
            self._layouts_seen, wanted = seen, layouts.load(self.mesh.data)
        except FileNotFoundError:
            return
        except InvalidArgument as error:
            self._report(str(error))
            return
        for service, of in wanted.items():
            own = [child for child in self.children if child.of.service == service]
            there = {child.of.shards for child in own if not child.leaves_by}
            if of.serves in there:  # else it is no layout of this mesh
                self._take(service, of, own, now)
        self.mesh.processes[:] = [child.of for child in self.children if not child.leaves_by]
        meshes.save(self.mesh, self._path)
        for child in self.children:
            if child.process is None and not child.started and not child.leaves_by:
                self._spawn(child)
        self._record()

    def _take(self, service: str, of: Layout, own: list[Child], now: float) -> None:
        for child in own:
            child.of = msgspec.structs.replace(child.of, asked=child.of.shards == of.serves)
            if child.of.shards not in (of.serves, of.beside) and not child.leaves_by:
                child.leaves_by = now + self.mesh.common.drain_s + 5
                if child.process:
                    child.process.terminate()
        if of.beside and of.beside not in {child.of.shards for child in own if not child.leaves_by}:
            added = beside(self.mesh, self._ports, service, of.beside)
            self.children += [self._child(p, f"{service}-{p.shard}of{p.shards}") for p in added]

    def _leave(self, child: Child, now: float) -> None:
        """Forget a child that has ended as it was told to; kill it when it takes too long."""
        if child.process is not None and child.process.poll() is None:
            if now > child.leaves_by:
                child.process.kill()
            return
        if child.process is not None and child.process.stdin:
            child.process.stdin.close()
        self.children.remove(child)
        self._record()

    def _hung_s(self, child: Child, pid: int, now: float) -> float:
        """For how many seconds a process that hangs has given no answer; 0 of one that does not."""
        within = self.mesh.common.hang_s
        silent = self._heartbeat.silent_s(child.of.address, pid)
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
            if child.process is None and child.restarts >= 2:
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
        with suppress(FileNotFoundError):
            self._path.unlink()
        self._ports.release()
        return killed


def beside(mesh: Mesh, ports: Ports, service: str, shards: int) -> list[Address]:
    """The processes of another layout of a service, on free ports, which no client asks."""
    common = mesh.common
    host = f"[{common.host}]" if ":" in common.host else common.host
    at = [f"{host}:{ports.take(0, f'[{service}] port')}" for _ in range(shards)]
    return [
        Address(
            service=service, shard=shard, shards=shards, address=address, zone=common.zone, asked=False, held=(address,)
        )
        for shard, address in enumerate(at)
    ]


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
