"""`feedmesh model`: what the registry of models holds, and which of them the mesh serves.

The registry is scorpion's, found by name: the kit knows no service. A mesh that does not run is not asked; what is
promoted then is served when it starts.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from services import mesh as meshes
from services.command.console import Config, Data, data_of, err, out, plainly, sections_of
from services.errors import InvalidArgument, MeshError, NotFound
from services.mesh import Mesh

TIMEOUT_S = 30.0
DATASETS_TIMEOUT_S = 5.0
METRICS_SHOWN = 3

model = typer.Typer(
    name="model",
    help="Models that rank: check them, serve one, go back to the one before.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@model.command()
@plainly
def push(
    folder: Annotated[Path, typer.Argument(help="the model's folder", exists=True, file_okay=False)],
    promoting: Annotated[bool, typer.Option("--promote", help="and serve it")] = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Check a model and take it into the registry, as the next version of its name. It is not served yet.

    Examples:

        feedmesh model push models/ranker

        feedmesh model push models/ranker --promote
    """
    home = data_of(config, data)
    ref = _registry().push(folder, home, _datasets(home))
    out.print(f"{ref} is in the registry", highlight=False)
    if promoting:
        _promote(home, str(ref))


@model.command(name="list")
@plainly
def list_(config: Config = None, data: Data = None) -> None:
    """Show every model of the registry, which of them is served, and what a running mesh says of it."""
    home = data_of(config, data)
    registry, layout = _registry(), import_module("scorpion.layout")
    said, problems = registry.promoted(home).promoted, _problems(home)
    table = Table(box=None, header_style="bold")
    for column in ("model", "", "trained", "trees", "metrics", "fingerprint", "problem"):
        table.add_column(column, no_wrap=column in ("model", "fingerprint"), overflow="fold")
    for ref in registry.models(home):
        folder, name = registry.folder_of(home, ref), str(ref)
        try:
            manifest, mark = layout.read_json(folder / layout.MANIFEST, layout.Manifest), layout.fingerprint(folder)
        except (MeshError, OSError) as error:
            table.add_row(name, "", "", "", "", "", Text(str(error), "red"))
            continue
        state = Text("promoted", "green") if name == said else Text("")
        shape = f"{manifest.trees:,} x {manifest.leaves}, {len(manifest.columns)} features"
        figures = [_when(manifest.trained_ms), shape, _metrics(manifest.metrics), f"{mark:016x}"]
        table.add_row(name, state, *figures, Text(problems.pop(name, ""), "red"))
    out.print(table)
    for name, problem in problems.items():
        err.print(f"{name}: {problem}", highlight=False, markup=False)


@model.command()
@plainly
def promote(
    name: Annotated[str, typer.Argument(help="name@version, or a name: its newest version")],
    config: Config = None,
    data: Data = None,
) -> None:
    """Serve a model from now on. Requests under way end with the one they began with.

    Example:

        feedmesh model promote ranker@3
    """
    _promote(data_of(config, data), name)


@model.command()
@plainly
def rollback(config: Config = None, data: Data = None) -> None:
    """Serve the model again that was served before."""
    home = data_of(config, data)
    ref = _registry().rollback(home, _datasets(home), _asking(home))
    out.print(f"{ref} is served again", highlight=False)


@model.command()
@plainly
def train(
    name: Annotated[str, typer.Option(help="of the model: a-z, 0-9, _ and -")] = "ranker",
    origin: Annotated[
        str,
        typer.Option("--from", help="replay: moments of the past; log-served: what was served; auto: enough of it?"),
    ] = "auto",
    samples: Annotated[int, typer.Option(min=60, max=1_000_000, help="requests to learn from and to judge by")] = 6_000,
    moments: Annotated[int, typer.Option(min=3, max=10_000, help="moments of the past at which they are made")] = 48,
    horizon: Annotated[
        float, typer.Option(min=0.01, max=3_650, help="days after a moment in which a save or click counts")
    ] = 7.0,
    seed: Annotated[int, typer.Option(min=0, help="which requests are drawn")] = 1,
    promoting: Annotated[bool, typer.Option("--promote", help="and serve it")] = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Train a model on the log of the running mesh, report how good it is on a later period, and push it.

    Examples:

        feedmesh model train --promote

        feedmesh model train --name small --samples 500 --horizon 3

        feedmesh model train --from log-served
    """
    home = data_of(config, data)
    command, wanted = import_module("training.command"), import_module("training.samples").Wanted
    if origin not in list(command.Origin):
        raise InvalidArgument(f"--from {origin}: allowed are {', '.join(command.Origin)}")
    asked = wanted(requests=samples, moments=moments, horizon_days=horizon, seed=seed)
    mesh, sections = meshes.load(meshes.mesh_file(home)), sections_of(config, data)
    sections["mesh"].partitions = mesh.common.partitions
    with _progress() as progress:
        made = command.run(mesh, sections, name, origin, asked, progress)
    _print_trained(made)
    ref = _registry().push(made.folder, home, _datasets(home))
    out.print(f"{ref} is in the registry; report: {made.report}", highlight=False, soft_wrap=True)
    if promoting:
        _promote(home, str(ref))


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each thing that is done, on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of)
            bars.update(tasks[what], completed=done, total=of)

        yield report


def _print_trained(made: Any) -> None:
    table = Table(box=None, header_style="bold")
    for column in ("on a later period", "AUC", "NDCG@10", "AUC per request"):
        table.add_column(column)
    for method, quality in made.trained.quality.items():
        table.add_row(method, f"{quality.auc:.4f}", f"{quality.ndcg:.4f}", f"{quality.request_auc:.4f}")
    out.print(table)
    out.print(f"calibration error {made.trained.ece:.5f}", highlight=False)


def _promote(home: Path, name: str) -> None:
    ref = _registry().promote(home, name, _datasets(home), _asking(home))
    out.print(f"{ref} is promoted", highlight=False)


def _registry() -> Any:
    return import_module("scorpion.registry")


def _running(home: Path, service: str) -> Mesh | None:
    try:
        mesh = meshes.load(meshes.mesh_file(home))
        mesh.of(service)
    except NotFound:
        return None
    return mesh


def _ask(mesh: Mesh, client: str, question: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
    """What a client of the mesh answers, such as "scorpion.client.ScorpionClient"."""
    module, _, name = client.rpartition(".")

    async def ask() -> Any:
        asking = getattr(import_module(module), name)(mesh)
        try:
            return await question(asking)
        finally:
            await asking.close()

    return asyncio.run(ask())


def _datasets(home: Path) -> Mapping[str, Collection[str]] | None:
    """The columns of rockstore's datasets; None, and a word of it, when it can't be asked."""
    mesh = _running(home, "rockstore")
    if mesh is None:
        return None
    try:
        found = _ask(mesh, "rockstore.client.RockstoreClient", lambda client: client.datasets(DATASETS_TIMEOUT_S))
    except MeshError as error:
        err.print(f"columns of datasets are not checked: {error}", highlight=False, markup=False)
        return None
    return {dataset.name: list(dataset.columns) for dataset in found}


def _problems(home: Path) -> dict[str, str]:
    """What the running mesh says is wrong, by model."""
    mesh = _running(home, "scorpion")
    if mesh is None:
        return {}
    try:
        found = _ask(mesh, "scorpion.client.ScorpionClient", lambda client: client.models(TIMEOUT_S))
    except MeshError as error:
        return {"scorpion": str(error)}
    return {f"{one.name}@{one.version}" if one.version else one.name: one.problem for one in found if one.problem}


def _asking(home: Path) -> Callable[[object], str]:
    """Tells every shard of the running mesh to look; why one refuses the model, empty when all serve it.

    A mesh, or a shard, that is away is not waited for: it reads the registry when it starts.
    """

    def ask(ref: object) -> str:
        mesh = _running(home, "scorpion")
        if mesh is None:
            err.print("the mesh does not run: it is served when it starts", highlight=False)
            return ""
        try:
            found = _ask(mesh, "scorpion.client.ScorpionClient", lambda client: client.refresh(TIMEOUT_S))
        except MeshError as error:
            err.print(f"not heard of all shards: {error}", highlight=False, markup=False)
            return ""
        return next((one.problem for one in found if f"{one.name}@{one.version}" == str(ref)), "")

    return ask


def _when(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def _metrics(metrics: Mapping[str, float]) -> str:
    shown = [f"{name} {value:.4g}" for name, value in list(metrics.items())[:METRICS_SHOWN]]
    return ", ".join(shown)
