"""`feedmesh layout`: another number of shards for a service, while the mesh runs."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from cli.cluster_layout import OfCluster
from cli.console import AsJson, Config, Data, data_of, existing, out, plainly
from services.core.clock import wall_clock
from services.core.errors import Conflict, InvalidArgument, NotFound, Unavailable
from services.ops import layouts
from services.ops.layouts import RETIRED, Layout, why_not_filled
from services.ops.probe import Health, asked_once
from services.rpc import mesh as meshes
from services.rpc.mesh import Address, Mesh
from services.rpc.routing import LATE_S

TAKEN_WITHIN_S, POLL_S = 20.0, 0.2
CLIENTS_S = 2.0  # within which every client has seen that another layout answers, and some more

layout = typer.Typer(
    help="Another number of shards for a service while it runs: add, status, switch, retire.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Service = Annotated[str, typer.Argument(help="the service")]
Cluster = Annotated[Path | None, typer.Option("--cluster", help="a cluster file, which is changed: all of its hosts")]
Without = Annotated[
    list[str] | None, typer.Option("--without", help="a host of the cluster that may be away; may be repeated")
]


@layout.command()
@plainly
def add(
    service: Service,
    shards: Annotated[int, typer.Option(min=1, help="how many shards the new layout has")],
    cluster: Cluster = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """Start a layout of so many shards beside the one that answers.

    Each of its shards has as many replicas as the present layout, begins with its snapshots, if there are any, and follows
    the log; no client asks it before `switch`. On several machines the cluster file is changed: bring it to all of them.

    Examples:

        feedmesh layout add polaris --shards 3

        feedmesh layout add polaris --shards 3 --cluster /etc/feedmesh/cluster.toml
    """
    if cluster is not None:
        OfCluster(cluster, config, data).add(service, shards)
        return
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
def status(as_json: AsJson = False, cluster: Cluster = None, config: Config = None, data: Data = None) -> None:
    """Show the layouts of services, how far each shard is, and on several machines which layout each process' host asks.

    Examples:

        feedmesh layout status

        feedmesh layout status --json

        feedmesh layout status --cluster /etc/feedmesh/cluster.toml
    """
    if cluster is not None:
        mesh = OfCluster(cluster, config, data).mesh
    else:
        mesh = meshes.load(meshes.mesh_file(existing(data_of(config, data))))
    named = {p.service for p in mesh.processes if layouts.SETTING in mesh.settings[p.service]}
    health = [h for h in asyncio.run(asked_once(mesh)) if h.of.service in named]
    if as_json:
        out.print_json(data=[_record(h) for h in health])
        return
    hosts = any(h.of.host for h in health)
    table = Table(box=None, header_style="bold")
    for name in ("process", *(["host"] if hosts else []), "layout", "asked", "state"):
        table.add_column(name)
    table.add_column("behind", justify="right")
    for h in health:
        state = Text("ready", "green") if h.ready else Text(h.why, "yellow")
        behind, asks = (str(h.status.behind), _asks(h)) if h.status else ("-", None)
        asked = ("yes" if h.of.asked else "no") + (f", its host asks {asks}" if hosts and asks else "")
        table.add_row(h.of.name, *([h.of.host] if hosts else []), f"{h.of.shards} shards", asked, state, behind)
    out.print(table)


@layout.command()
@plainly
def switch(
    service: Service,
    shards: Annotated[
        int | None, typer.Option(min=1, help="of the layout that is to answer [default: the one that does not]")
    ] = None,
    wait: Annotated[float, typer.Option(min=0, help="seconds to wait for the new shards to be ready")] = 0.0,
    cluster: Cluster = None,
    without: Without = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """Have the other layout answer, once each of its shards is ready. The one before stays beside it, so this goes back too.

    With --shards it may be said twice: where that layout answers, nothing is changed.

    Examples:

        feedmesh layout switch polaris

        feedmesh layout switch polaris --shards 3 --wait 600

        feedmesh layout switch polaris --shards 3 --cluster /etc/feedmesh/cluster.toml
    """
    if cluster is not None:
        OfCluster(cluster, config, data, without).switch(service, shards, wait)
        return
    folder, mesh = _running(config, data)
    if _layout(folder, mesh, service).serves == shards:
        out.print(f"{service}: {shards} shards answer already")
        return
    of = _beside(folder, mesh, service)
    layouts.check_is_beside(service, shards, of.beside)
    _await_ready(mesh, service, of.beside, wait)
    _write(folder, service, Layout(of.beside, of.serves, wall_clock()))
    _until(lambda: _asked(folder, service) == of.beside, "the new layout is in the mesh's file")
    out.print(
        f"{service}: {of.beside} shards answer; `feedmesh layout retire {service}` ends the {of.serves} of before",
        soft_wrap=True,
    )


@layout.command()
@plainly
def retire(
    service: Service,
    wait: Annotated[
        float, typer.Option(min=0, help="seconds to wait for all hosts to ask the layout that answers")
    ] = 0.0,
    cluster: Cluster = None,
    without: Without = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """End the layout that no client asks: the one of before, or one that was added; and remove its folders.

    Its snapshots stay until they are pruned.

    Examples:

        feedmesh layout retire polaris

        feedmesh layout retire polaris --cluster /etc/feedmesh/cluster.toml --wait 60
    """
    if cluster is not None:
        OfCluster(cluster, config, data, without).retire(service, wait)
        return
    folder, mesh = _running(config, data)
    of = _beside(folder, mesh, service)
    paths = [folder / service / p.folder for p in _processes(folder, service) if p.shards == of.beside]
    time.sleep(max(0.0, of.since_ms / 1000 + CLIENTS_S + LATE_S - time.time()))  # calls of before the switch end first
    _write(folder, service, Layout(of.serves, 0, wall_clock()))
    _until(lambda: _there(folder, service, of.beside) == 0, "its shards are out of the mesh's file")
    within_s = mesh.common.drain_s + TAKEN_WITHIN_S
    for path in (*paths, *(path.with_name(path.name + RETIRED) for path in paths)):
        _until(lambda path=path: not path.exists(), f"{path} is removed", within_s)  # type: ignore[misc]
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
            "a mesh on several machines has its layouts by its cluster file: name it, --cluster FILE, and bring what it is then "
            "to all hosts; with a [rule] each service has one layout"
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
        unready, there = [why for h in own if (why := why_not_filled(h))], len({h.of.shard for h in own})
        if there == shards and not unready:
            return
        if time.monotonic() >= end:
            why = unready[0] if unready else f"{there} of {shards} are there"
            raise Unavailable(f"the layout of {shards} shards is not ready: {why}; nothing was changed")
        time.sleep(POLL_S)


def _asks(h: Health) -> int | None:
    """The layout of its service that is asked on the host of a process."""
    return (h.status.asks.get(h.of.service) or None) if h.status else None


def _record(h: Health) -> dict[str, object]:
    of = {name: getattr(h.of, name) for name in ("service", "shard", "shards", "replica", "asked")}
    of |= {"host": h.of.host, "host_asks": _asks(h)} if h.of.host else {}
    return of | {"ready": h.ready, "why": h.why or None, "behind": h.status.behind if h.status else None}
