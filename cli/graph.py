"""`feedmesh graph`: builds snapshots of the graph of pins and boards, and says which one pixie serves."""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from cli.console import AsJson, Config, Data, as_typed, data_of, err, existing, hint, out, plainly
from cli.names import reading
from cli.progress import progress
from services.core.clock import wall_clock
from services.core.errors import InvalidArgument, NotFound, Unavailable
from services.rpc import mesh as meshes
from services.rpc.mesh import Mesh

READ_WITHIN_S = 3600.0

app = typer.Typer(help="Snapshots of the graph that pixie walks: build, list, push, roll back.", no_args_is_help=True)


@app.command()
@plainly
def build(
    from_log: Annotated[bool, typer.Option("--from-log", help="from the log of the running mesh; the default")] = False,
    edges: Annotated[Path | None, typer.Option(help="from a Parquet file of edges instead")] = None,
    pin: Annotated[str, typer.Option(help="its column of pin ids")] = "pin",
    board: Annotated[str, typer.Option(help="its column of board ids")] = "board",
    pins: Annotated[
        Path | None, typer.Option(help="a Parquet file of all pins: column pin, and interests if there are any")
    ] = None,
    entropy_fraction: Annotated[
        float, typer.Option(help="part of the boards to drop, those of the most diverse interests; 0: none")
    ] = 0.0,
    delta: Annotated[
        float, typer.Option(help="a pin of d boards keeps the d ** delta nearest in interests; 1: all")
    ] = 1.0,
    push_it: Annotated[
        bool, typer.Option("--push/--no-push", help="make the running mesh serve it, if one runs")
    ] = True,
    config: Config = None,
    data: Data = None,
) -> None:
    """Build a snapshot of the graph, and make the running mesh serve it.

    Nothing is pruned unless asked for: pruning pays on graphs that outgrow memory, and the paper's delta is 0.91.

    Examples:

        feedmesh graph build

        feedmesh graph build --entropy-fraction 0.1 --delta 0.91

        feedmesh graph build --edges saves.parquet --pin item --board user --pins pins.parquet --no-push
    """
    if from_log and edges:
        raise InvalidArgument("--from-log and --edges: allowed is one of them")
    if pins and not edges:
        raise InvalidArgument("--pins: is allowed with --edges alone; the log knows its pins")
    from pixie.prune import Pruning

    pruning = Pruning(entropy_fraction, delta)
    pruning.check()
    folder = data_of(config, data)
    version = _built(folder, edges, (pin, board, pins), pruning)
    if not push_it:
        return
    try:
        mesh = _mesh(folder)
    except NotFound:
        hint(f"not loaded: no mesh runs on {folder}; when one does: `feedmesh graph push {version}`")
    else:
        _push(mesh, folder, version)


def _built(folder: Path, edges: Path | None, columns: tuple[str, str, Path | None], pruning: Any) -> str:
    """Read, build and report; returns the version. columns: of the edges' pins and boards, and the file of pins."""
    from pixie import snapshot, sources

    began, source = perf_counter(), str(edges) if edges else "the log"
    with progress() as report:
        if edges:
            report(f"reading {source}", 0, 0)
            with reading(folder):
                found = sources.from_parquet(edges, *columns)
        else:
            found = sources.from_mesh(_mesh(folder), READ_WITHIN_S, partial(report, "reading the log, events"))
        version = _build(folder, found, pruning, source, lambda said: report(str(said), 0, 0))
    if found.dropped:
        err.print(
            f"warning: up to {found.dropped:,} records are no longer in the log: saves in them are not in the graph"
        )
    out.print(f"built {version} from {source} in {perf_counter() - began:.1f} s", highlight=False, soft_wrap=True)
    _print_manifest(snapshot.manifest_of(_graphs(folder), version))
    return version


def _build(folder: Path, found: Any, pruning: Any, source: str, say: Any) -> str:
    from pixie.build import build as built

    try:
        version: str = built(
            _graphs(folder), found.edges, found.topics, pruning, built_ms=wall_clock(), source=source, say=say
        )
    except OSError as error:
        raise Unavailable(f"{folder}: the graph was not written: {error}") from None
    return version


@app.command("list")
@plainly
def list_(as_json: AsJson = False, config: Config = None, data: Data = None) -> None:
    """List the snapshots: their contents, the one that is opened at a start, and the one that pixie serves now.

    Example:

        feedmesh graph list
    """
    from pixie import pushing

    folder = existing(data_of(config, data))
    try:
        mesh = _mesh(folder)
    except NotFound:
        mesh = None
    found = pushing.listed(_graphs(folder), mesh)
    if as_json:
        out.print_json(data=[_record(one) for one in found])
        return
    if not found:
        out.print(as_typed(f"no snapshot in {folder}; `feedmesh graph build` makes one"), soft_wrap=True)
        return
    table = Table(box=None, header_style="bold")
    for name in ("version", "built"):
        table.add_column(name, no_wrap=True)
    table.add_column("from", overflow="fold")
    for name in ("pins", "boards", "edges", "MB"):
        table.add_column(name, justify="right")
    table.add_column("state", overflow="fold")
    for one in found:
        marks = [name for name, is_so in (("pushed", one.pushed), ("served", one.served)) if is_so]
        state = escape(one.problem) or ", ".join(marks)
        table.add_row(one.version, *(_row(one.manifest) if one.manifest else ["-"] * 6), state)
    out.print(table)


def _record(one: Any) -> dict[str, Any]:
    state = {"pushed": one.pushed, "served": one.served, "problem": one.problem or None}
    return {"version": one.version} | state | {"manifest": msgspec.to_builtins(one.manifest)}


def _row(of: Any) -> list[str]:
    built = datetime.fromtimestamp(of.built_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    counts = [f"{of.pins:,}", f"{of.boards:,}", f"{of.edges:,}", f"{of.bytes / 1e6:,.1f}"]
    return [built, escape(of.source), *counts]


@app.command()
@plainly
def push(
    version: Annotated[str, typer.Argument(help="of `feedmesh graph list`")],
    config: Config = None,
    data: Data = None,
) -> None:
    """Make the running mesh serve a snapshot, now and from its next start on; a bad one is refused and changes nothing.

    Example:

        feedmesh graph push 20261121T100000-1
    """
    folder = data_of(config, data)
    _push(_mesh(folder), folder, version)


@app.command()
@plainly
def rollback(config: Config = None, data: Data = None) -> None:
    """Make the running mesh serve the snapshot that was pushed before the present one.

    Example:

        feedmesh graph rollback
    """
    folder = data_of(config, data)
    from pixie import pushing

    loaded = pushing.rollback(_mesh(folder), _graphs(folder))
    out.print(f"serving {loaded.version} again", highlight=False)


def _push(mesh: Mesh, folder: Path, version: str) -> None:
    from pixie import pushing

    with err.status(f"pixie checks {version}"):
        loaded = pushing.push(mesh, _graphs(folder), version)
    out.print(f"serving {loaded.version}", highlight=False)


def _mesh(folder: Path) -> Mesh:
    """The mesh that runs on the folder. Raises NotFound."""
    return meshes.load(meshes.mesh_file(folder))


def _graphs(folder: Path) -> Any:
    from pixie import keys

    return keys.graphs_of(folder)


def _print_manifest(of: Any) -> None:
    kept = ""
    if of.entropy_fraction or of.delta < 1:
        kept = f", pruned with entropy fraction {of.entropy_fraction:g} and delta {of.delta:g}"
    size = f"{of.bytes / 1e6:,.1f} MB"
    out.print(f"{of.pins:,} pins, {of.boards:,} boards, {of.edges:,} edges, {size}{kept}", highlight=False)
