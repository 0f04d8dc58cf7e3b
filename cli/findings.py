"""The checks of `feedmesh doctor`: the machine, the ports and the data folder. Nothing is changed."""

import fcntl
import os
import resource
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import psutil

from cli import extras
from cli.schema import SERVICES
from services.core import summed
from services.core.errors import MeshError
from services.core.installation import remedy
from services.core.settings import Sections
from services.ops import openmp
from services.ops.planning import replicas_of, shards_of
from services.ops.supervisor import FORMAT
from services.rpc import mesh as meshes

State = Literal["well", "note", "fault"]
DAY_S = 86_400
STALE_GRAPH_DAYS, STALE_MODEL_DAYS = 7, 30
NEEDED_MB = 1_500  # resident in all processes of a mesh with a small world
FILES = 4_096  # open files: every column family may have up to 512 of its own
CHROMIUM = "/usr/bin/chromium"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. state: well; note: works, and something is worth knowing; fault: does not work.

    `remedy` names what mends it, empty where nothing must be.
    """

    what: str
    state: State
    text: str
    remedy: str = ""


def machine_findings(data: Path, min_free_mb: int) -> Iterator[Finding]:
    """Python, packages, libraries, memory, disk and limits."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", "well" if sys.version_info >= (3, 11) else "fault", version)
    yield _packages()
    yield _training()
    yield Finding("cores", "well" if (os.cpu_count() or 1) > 1 else "note", f"{os.cpu_count()}")
    yield _memory()
    yield _disk(data, min_free_mb)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = soft < FILES
    remedy = f"raise it: ulimit -n {min(FILES * 4, hard)}" if few else ""
    yield Finding("open files", "note" if few else "well", f"at most {soft:,} a process", remedy)
    found = Path(CHROMIUM).exists()
    text = "is there" if found else "is missing; only the browser tests need it"
    yield Finding("chromium", "well" if found else "note", text, "" if found else "apt-get install chromium")


def _packages() -> Finding:
    if wrong := extras.lacking():
        return Finding("packages", "fault", "; ".join(wrong), f"`{remedy()}`")
    if wrong := extras.namesakes():
        return Finding("packages", "fault", "; ".join(wrong), "install feedmesh into an environment of its own")
    return Finding("packages", "well", "all that the mesh runs on are there")


def _training() -> Finding:
    if wrong := extras.lacking(extras.TRAINING):
        text = f"{'; '.join(wrong)}: the mesh runs, and no model can be trained"
        return Finding("training", "note", text, f"`{remedy(extras.TRAINING)}`")
    if why := extras.openmp_lacking():
        return Finding("training", "fault", f"LightGBM does not load, so no model can be trained: {why}", openmp.REMEDY)
    return Finding("training", "well", "all that training needs is there, and LightGBM loads")


def _memory() -> Finding:
    free = psutil.virtual_memory().available >> 20
    short = free < NEEDED_MB
    text = f"{free:,} MB are free" + (f"; a small world needs about {NEEDED_MB:,}" if short else "")
    return Finding("memory", "note" if short else "well", text)


def _disk(data: Path, min_free_mb: int) -> Finding:
    there = next(folder for folder in (data.absolute(), *data.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free >> 20
    if free < min_free_mb:
        remedy = "free some space, or lower `min_free_mb` in [mesh]"
        return Finding("disk", "fault", f"{free:,} MB are free, and below {min_free_mb:,} no event is accepted", remedy)
    return Finding("disk", "well", f"{free:,} MB are free at {there}")


def port_findings(sections: Sections) -> Iterator[Finding]:
    """Every port that the settings fix: free, held by this mesh, or by something else."""
    host = sections["mesh"].host
    try:
        running = meshes.load(meshes.mesh_file(Path(sections["mesh"].data)))
    except MeshError:
        running = None
    own = {at for of in (running.processes if running else []) for at in (of.address, of.http)}
    for service in SERVICES:
        for setting in ("http_port", "port"):
            first = getattr(sections[service], setting, 0)
            processes = shards_of(sections, service) * replicas_of(sections, service)
            for port in range(first, first + processes) if first else ():
                yield _port(f"port {port}", f"[{service}] {setting}", host, port, f"{host}:{port}" in own)


def _port(what: str, setting: str, host: str, port: int, own: bool) -> Finding:
    if own:
        return Finding(what, "well", f"{setting}: the running mesh listens on it")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            remedy = "name another: `feedmesh up --port 9000`" if setting.startswith("[web]") else "name another"
            return Finding(what, "fault", f"{setting}: can't be used: {(error.strerror or '').lower()}", remedy)
    return Finding(what, "well", f"{setting}: is free")


def folder_findings(data: Path) -> Iterator[Finding]:
    """The data folder: its format, whether a mesh runs on it, the models that it serves, and stale files."""
    if not data.exists():
        yield Finding("data", "note", f"{data} does not exist yet", "`feedmesh up --demo` makes it, with a world in it")
        return
    yield _format(data)
    yield _running(data)
    yield _model(data)
    yield _graph(data)
    yield from _loads(data)
    for left in sorted(data.glob("*/*.damaged-*")):
        yield Finding("damage", "note", f"{left} was set aside", "look at it, then remove it")


def _format(data: Path) -> Finding:
    note, remedy = data / "FORMAT", "use another folder, or restore it from a backup"
    try:
        found = note.read_text().strip()
    except FileNotFoundError:
        known = any((data / service).exists() for service in SERVICES)
        return Finding("format", "fault" if known else "note", f"{note} is missing", remedy if known else "")
    except (OSError, UnicodeDecodeError) as error:
        return Finding("format", "fault", f"{note} can't be read: {error}", remedy)
    if found != FORMAT:
        return Finding("format", "fault", f"{data}: was written as {found!r}, this version reads {FORMAT!r}", remedy)
    return Finding("format", "well", f"{data}: {found}")


def _running(data: Path) -> Finding:
    try:
        with (data / "run" / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = (data / "run" / "lock").read_text().strip() or "unknown"
        return Finding("mesh", "well", f"a mesh runs on this folder (process {holder})", "`feedmesh status`")
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            return Finding("mesh", "fault", f"{data / 'run' / 'lock'}: {error.strerror}", "run as the folder's owner")
    return Finding("mesh", "well", "no mesh runs on this folder")


def _model(data: Path) -> Finding:
    from scorpion import registry

    try:
        said = registry.promoted(data).promoted
        if not said:
            return Finding(
                "model", "note", "none is promoted: the light score ranks", "`feedmesh model train --promote`"
            )
        ref = next(ref for ref in registry.models(data) if str(ref) == said)
        manifest, mark = registry.manifest_of(data, ref), f"{registry.fingerprint_of(data, ref):016x}"
    except StopIteration:
        return Finding("model", "fault", f"{said} is promoted, and is not in the registry", "`feedmesh model rollback`")
    except (MeshError, OSError) as error:
        return Finding("model", "fault", str(error), "`feedmesh model list`")
    return _aged(
        Finding("model", "well", f"{said} ({mark})", "`feedmesh model train`"), manifest.trained_ms, STALE_MODEL_DAYS
    )


def _graph(data: Path) -> Finding:
    from pixie import keys, snapshot

    try:
        graphs = keys.graphs_of(data)
        version = snapshot.current(graphs)[:1]
        if not version:
            return Finding("graph", "note", "none is built: picked and home walk nothing", "`feedmesh graph build`")
        manifest = snapshot.manifest_of(graphs, version[0])
    except (MeshError, OSError) as error:
        return Finding("graph", "fault", str(error), "`feedmesh graph build`")
    return _aged(Finding("graph", "well", version[0], "`feedmesh graph build`"), manifest.built_ms, STALE_GRAPH_DAYS)


def _aged(of: Finding, made_ms: int, stale_days: int) -> Finding:
    days = (time.time() - made_ms / 1000) / DAY_S
    stale = days > stale_days
    text = f"{of.text}, {days:.1f} days old" + (": it knows nothing that came after" if stale else "")
    return Finding(of.what, "note" if stale else "well", text, of.remedy if stale else "")


def _loads(data: Path) -> Iterator[Finding]:
    for path in sorted((data / "loads").glob("*.json")):
        try:
            load = summed.decoded(path.read_bytes(), dict[str, Any])
            done, size = int(load["events"]), int(load["size"])
        except (OSError, msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
            yield Finding(
                "load",
                "fault",
                f"{path}: can't be read: {error}",
                "remove it, and load that part of the set again: rows that were loaded are not published twice",
            )
            continue
        if done < size:
            text = f"{path.stem}: {done:,} of {size:,} events were loaded"
            yield Finding("load", "note", text, "the same `feedmesh load` goes on from there")
