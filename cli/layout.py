"""`feedmesh layout`: another number of shards for a service, while the mesh runs."""

import asyncio
import fcntl
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from cli.console import AsJson, Config, Data, data_of, existing, out, plainly
from services.core.clock import wall_clock
from services.core.errors import Conflict, InvalidArgument, NotFound, Unavailable
from services.ops import layouts
from services.ops.layouts import Layout
from services.ops.probe import Health, asked_once
from services.rpc import mesh as meshes
from services.rpc.mesh import Address, Mesh
from services.rpc.routing import LATE_S
from services.state.follower import READY_LAG_EVENTS

TAKEN_WITHIN_S, POLL_S = 20.0, 0.2
CLIENTS_S = 2.0  # within which every client has seen that another layout answers, and some more
LOCK = "LOCK"  # in RocksDB's folders: held while one is open

layout = typer.Typer(
    help="Another number of shards for a service while it runs: add, status, switch, retire.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Service = Annotated[str, typer.Argument(help="the service")]


@layout.command()
@plainly
def add(
    service: Service,
    shards: Annotated[int, typer.Option(min=1, help="how many shards the new layout has")],
    config: Config = None,
    data: Data = None,
) -> None:
    """Start a layout of so many shards beside the one that answers.

    Each of its shards has as many replicas as the present layout, begins with its snapshots, if there are any, and follows
    the log; no client asks it before `switch`.

    Example:

        feedmesh layout add polaris --shards 3
    """
    folder, mesh = _running(config, data)
    of = _layout(folder, mesh, service)
    if of.beside:
        raise Conflict(
            f"{service} has {of.beside} shards beside its {of.serves} already; `feedmesh layout retire {service}` ends them"
        )
    most = mesh.common.partitions
    if shards > most or shards == of.serves:
        raise InvalidArgument(
            f"--shards {shards}: allowed is another number than {of.serves}, at most one a partition, {most}"
        )
    _write(folder, service, Layout(of.serves, shards, wall_clock()))
    _until(lambda: _there(folder, service, shards) == shards, f"the {shards} shards are started")
    out.print(
        f"{service}: {shards} shards start beside {of.serves}; `feedmesh layout status` shows how far they are",
        soft_wrap=True,
    )


@layout.command()
@plainly
def status(as_json: AsJson = False, config: Config = None, data: Data = None) -> None:
    """Show the layouts of services, and how far each shard is.

    Examples:

        feedmesh layout status

        feedmesh layout status --json
    """
    folder = existing(data_of(config, data))
    mesh, known = meshes.load(meshes.mesh_file(folder)), layouts.load(folder)
    named = {p.service for p in mesh.processes if layouts.SETTING in mesh.settings[p.service]}
    health = [
        h for h in asyncio.run(asked_once(mesh)) if h.of.service in named and (h.of.service in known or h.of.asked)
    ]
    if as_json:
        out.print_json(data=[_record(h) for h in health])
        return
    table = Table(box=None, header_style="bold")
    for name in ("process", "layout", "asked", "state"):
        table.add_column(name)
    table.add_column("behind", justify="right")
    for h in health:
        state = Text("ready", "green") if h.ready else Text(h.why, "yellow")
        behind = str(h.status.behind) if h.status else "-"
        table.add_row(h.of.name, f"{h.of.shards} shards", "yes" if h.of.asked else "no", state, behind)
    out.print(table)


@layout.command()
@plainly
def switch(
    service: Service,
    wait: Annotated[float, typer.Option(min=0, help="seconds to wait for the new shards to be ready")] = 0.0,
    config: Config = None,
    data: Data = None,
) -> None:
    """Have the other layout answer, once each of its shards is ready. The one before stays beside it, so this goes back too.

    Examples:

        feedmesh layout switch polaris

        feedmesh layout switch polaris --wait 600
    """
    folder, mesh = _running(config, data)
    of = _beside(folder, mesh, service)
    _await_ready(mesh, service, of.beside, wait)
    _write(folder, service, Layout(of.beside, of.serves, wall_clock()))
    _until(lambda: _asked(folder, service) == of.beside, "the new layout is in the mesh's file")
    out.print(
        f"{service}: {of.beside} shards answer; `feedmesh layout retire {service}` ends the {of.serves} of before",
        soft_wrap=True,
    )


@layout.command()
@plainly
def retire(service: Service, config: Config = None, data: Data = None) -> None:
    """End the layout that no client asks: the one of before, or one that was added; and remove its folders.

    Its snapshots stay until they are pruned.

    Example:

        feedmesh layout retire polaris
    """
    folder, mesh = _running(config, data)
    of = _beside(folder, mesh, service)
    paths = [folder / service / p.folder for p in _processes(folder, service) if p.shards == of.beside]
    time.sleep(max(0.0, of.since_ms / 1000 + CLIENTS_S + LATE_S - time.time()))  # calls of before the switch end first
    _write(folder, service, Layout(of.serves, 0, wall_clock()))
    _until(lambda: _there(folder, service, of.beside) == 0, "its shards are out of the mesh's file")
    within_s = mesh.common.drain_s + TAKEN_WITHIN_S
    for path in paths:
        _until(lambda path=path: not _is_open(path), f"{path} is closed", within_s)  # type: ignore[misc]
        shutil.rmtree(path, ignore_errors=True)
    out.print(
        f"{service}: {of.serves} shards; write `{layouts.SETTING} = {of.serves}` into [{service}] of the settings",
        soft_wrap=True,
    )


def _running(config: Config, data: Data) -> tuple[Path, Mesh]:
    """The mesh whose layouts change. Raises InvalidArgument for one of several hosts, which all would have to follow."""
    folder = existing(data_of(config, data))
    mesh = meshes.load(meshes.mesh_file(folder))
    if not mesh.one_machine:
        raise InvalidArgument(
            f"a mesh on several machines has its layouts by its cluster file: stop it on all of them, set `{layouts.SETTING}` "
            "there, and start it; new folders are filled from snapshots. On one machine layouts change while the mesh runs"
        )
    return folder, mesh


def _layout(folder: Path, mesh: Mesh, service: str) -> Layout:
    sharded = [name for name, section in mesh.settings.items() if layouts.SETTING in section]
    if service not in sharded:
        raise InvalidArgument(f"service = {service!r} has no shards; those that do are {', '.join(sharded)}")
    return layouts.load(folder).get(service) or Layout(mesh.of(service)[0].shards)


def _beside(folder: Path, mesh: Mesh, service: str) -> Layout:
    of = _layout(folder, mesh, service)
    if not of.beside:
        raise NotFound(
            f"{service} has no layout beside its {of.serves} shards; `feedmesh layout add {service} --shards N` adds one"
        )
    return of


def _write(folder: Path, service: str, of: Layout) -> None:
    layouts.save(folder, layouts.load(folder) | {service: of})


def _processes(folder: Path, service: str) -> list[Address]:
    return [p for p in meshes.load(meshes.mesh_file(folder)).processes if p.service == service]


def _there(folder: Path, service: str, shards: int) -> int:
    """How many shards of a layout the mesh has."""
    return len({p.shard for p in _processes(folder, service) if p.shards == shards})


def _asked(folder: Path, service: str) -> int:
    """How many shards the layout has that answers."""
    return next((p.shards for p in _processes(folder, service) if p.asked), 0)


def _until(done: Callable[[], bool], what: str, within_s: float = TAKEN_WITHIN_S) -> None:
    end = time.monotonic() + within_s
    while not done():
        if time.monotonic() > end:
            raise Unavailable(f"not within {within_s:g} s: {what}; does the mesh's supervisor run?")
        time.sleep(POLL_S)


def _await_ready(mesh: Mesh, service: str, shards: int, within_s: float) -> None:
    end = time.monotonic() + within_s
    while True:
        own = [h for h in asyncio.run(asked_once(mesh)) if (h.of.service, h.of.shards) == (service, shards)]
        unready, there = [why for h in own if (why := _unready(h))], len({h.of.shard for h in own})
        if there == shards and not unready:
            return
        if time.monotonic() >= end:
            why = unready[0] if unready else f"{there} of {shards} are there"
            raise Unavailable(f"the layout of {shards} shards is not ready: {why}; nothing was changed")
        time.sleep(POLL_S)


def _unready(h: Health) -> str:
    if not h.ready:
        return f"{h.of.name}: {h.why}"
    behind = h.status.behind if h.status else 0
    return f"{h.of.name} is {behind} events behind" if behind > READY_LAG_EVENTS else ""


def _record(h: Health) -> dict[str, object]:
    of = {name: getattr(h.of, name) for name in ("service", "shard", "shards", "replica", "asked")}
    return of | {"ready": h.ready, "why": h.why or None, "behind": h.status.behind if h.status else None}


def _is_open(folder: Path) -> bool:
    """Whether a process has the database of a folder open."""
    try:
        with (folder / LOCK).open("r+b") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
