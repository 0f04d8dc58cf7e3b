"""`feedmesh model`: the models in the registry, and the one that the mesh serves.

The registry is scorpion's, found by name: the kit knows no service. A mesh that does not run is not asked; it
serves the promoted model when it starts.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from cli import extras, outcome
from cli.console import AsJson, Config, Data, data_of, err, existing, hint, out, plainly, sections_of
from cli.outcome import Outcome
from cli.progress import progress
from cli.schema import SCHEMA
from rockstore.client import RockstoreClient
from scorpion.client import ScorpionClient
from services.core import settings
from services.core.errors import InvalidArgument, MeshError, NotFound, NotReady
from services.core.settings import Sections
from services.rpc import mesh as meshes
from services.rpc.mesh import Mesh

C = TypeVar("C", RockstoreClient, ScorpionClient)
T = TypeVar("T")
TIMEOUT_S = 30.0
DATASETS_TIMEOUT_S = 5.0

Force = Annotated[bool, typer.Option("--force", help="even one that is not better")]

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
    force: Force = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Check a model and take it into the registry, as the next version of its name. It is not served yet.

    Examples:

        feedmesh model push models/ranker

        feedmesh model push models/ranker --promote
    """
    home = data_of(config, data)
    from scorpion import registry

    ref = registry.push(folder, home, _datasets(home))
    out.print(f"{ref} is in the registry", highlight=False)
    if promoting:
        _promote(home, str(ref), force)


@model.command(name="list")
@plainly
def list_(as_json: AsJson = False, config: Config = None, data: Data = None) -> None:
    """Show every model of the registry, which of them is served, and the state that a running mesh reports.

    The figure is that of the metric which decides, on a period later than the one learned from, beside the best baseline.

    Examples:

        feedmesh model list

        feedmesh model list --json | jq '.[] | select(.promoted)'
    """
    from scorpion import registry

    home = existing(data_of(config, data))
    problems = _problems(home)
    found = [_listed(home, ref, problems.pop(str(ref), "")) for ref in registry.models(home)]
    if as_json:
        out.print_json(data=found)
    elif found:
        out.print(_models(found))
    else:
        hint("there is no model yet: `feedmesh model train` makes one")
    for name, problem in problems.items():
        err.print(f"{name}: {problem}", highlight=False, markup=False)


def _listed(home: Path, ref: Any, problem: str) -> dict[str, Any]:
    """A version by its manifest; of one whose files can't be read, the reason."""
    from scorpion import registry

    state = {"model": str(ref), "promoted": registry.promoted(home).promoted == str(ref)}
    try:
        manifest, mark = registry.manifest_of(home, ref), registry.fingerprint_of(home, ref)
    except (MeshError, OSError) as error:
        return state | {"problem": str(error)}
    made = {name: getattr(manifest, name) for name in ("trained_ms", "trees", "leaves", "metrics")}
    judged = msgspec.to_builtins(manifest.evaluation)
    features = {"features": list(manifest.columns), "fingerprint": f"{mark:016x}"}
    return state | made | features | {"evaluation": judged, "problem": problem or None}


def _models(found: list[dict[str, Any]]) -> Table:
    """In 80 columns: the rest is in --json and on the page."""
    table = Table(box=None, header_style="bold")
    for column in ("model", "trained", "decides", "best baseline", "fingerprint"):
        table.add_column(column, no_wrap=column != "model", overflow="fold")
    for one in found:
        name = Text(one["model"])
        if one["promoted"]:
            name.append("\npromoted", "green")
        if one["problem"]:
            name.append(f"\n{one['problem']}", "red")
        figures = _deciding(one.get("evaluation"))
        table.add_row(
            name, _when(one["trained_ms"]) if "trained_ms" in one else "", *figures, one.get("fingerprint", "")
        )
    return table


def _deciding(evaluation: dict[str, Any] | None) -> tuple[str, str]:
    if evaluation is None:
        return "", ""
    metric, best = evaluation["metric"], evaluation["best_baseline"]
    own, other = (evaluation["methods"][name][metric]["value"] for name in ("model", best))
    shown = ["" if value is None else f"{value:.3f}" for value in (own, other)]
    return f"{metric} {shown[0]}", f"{shown[1]} {best}"


@model.command()
@plainly
def promote(
    name: Annotated[str, typer.Argument(help="name@version, or a name: its newest version")],
    force: Force = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Serve a model from now on. Requests under way end with the one they began with.

    A model that its own training found worse than a simple baseline, or than the model that serves, is refused, unless
    with --force.

    Example:

        feedmesh model promote ranker@3
    """
    _promote(data_of(config, data), name, force)


@model.command()
@plainly
def rollback(config: Config = None, data: Data = None) -> None:
    """Serve the model again that was served before."""
    from scorpion import registry

    home = data_of(config, data)
    ref = registry.rollback(home, _datasets(home), _asking(home))
    out.print(f"{ref} is served again", highlight=False)


@model.command()
@plainly
def train(
    name: Annotated[str, typer.Option(help="of the model: a-z, 0-9, _ and -")] = "ranker",
    origin: Annotated[
        str,
        typer.Option("--from", help="replay: past moments; log-served: served pages; auto: these, if enough"),
    ] = "auto",
    samples: Annotated[int, typer.Option(min=60, max=1_000_000, help="requests to learn from and to judge by")] = 6_000,
    moments: Annotated[
        int,
        typer.Option(
            min=3, max=10_000, help="moments of the past at which they are made; more where few users are active"
        ),
    ] = 48,
    horizon: Annotated[
        float, typer.Option(min=0.01, max=3_650, help="days after a moment in which a save or click counts")
    ] = 7.0,
    seed: Annotated[int, typer.Option(min=0, help="which requests are drawn")] = 1,
    promoting: Annotated[
        bool,
        typer.Option("--promote", help="and serve it, if it is better than every simple baseline and than what serves"),
    ] = False,
    force: Force = False,
    status: Annotated[Path | None, typer.Option(help="a file that always says how far it is", hidden=True)] = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """Train a model on the log of the running mesh, report how good it is on a later period, and push it.

    It is compared with popularity, recency, the light score, item-KNN and the model that serves, on the same requests and
    candidates. With --promote it is served if it is better than all of them, beyond what chance explains.

    Examples:

        feedmesh model train --promote

        feedmesh model train --name small --samples 500 --horizon 3

        feedmesh model train --from log-served
    """
    home = data_of(config, data)
    from scorpion import registry

    with outcome.kept(status) as ended:
        command = extras.training()
        if origin not in list(command.SampleOrigin):
            raise InvalidArgument(f"--from {origin}: allowed are {', '.join(command.SampleOrigin)}")
        asked = command.Wanted(requests=samples, moments=moments, horizon_days=horizon, seed=seed)
        mesh = meshes.load(meshes.mesh_file(home))
        sections = _sections(mesh, config, data)
        sections["mesh"].partitions = mesh.common.partitions
        with progress() as report:
            made = command.run(mesh, sections, name, origin, asked, outcome.also(report, status))
        _print_trained(made)
        ref = registry.push(made.folder, home, _datasets(home))
        out.print(f"{ref} is in the registry; report: {made.report}", highlight=False, soft_wrap=True)
        ended(Outcome(ended="kept", message=_in_words(made.evaluation), model=str(ref)))
        if promoting:
            _check_unasked(home, ref, force)
            ended(Outcome(ended="failed", message=f"{ref} could not be promoted", model=str(ref)))
            _promote(home, str(ref), force)
            ended(Outcome(ended="promoted", message=_in_words(made.evaluation), model=str(ref)))


def _sections(mesh: Mesh, config: Path | None, data: Path | None) -> Sections:
    """The settings that a model is trained with: of a host of a cluster those that it runs with."""
    if config is None and not mesh.one_machine:
        return settings.validated(mesh.settings, "the running mesh", SCHEMA)
    return sections_of(config, data)


def _print_trained(made: Any) -> None:
    found = made.evaluation
    table = Table(box=None, header_style="bold")
    for column in ("on a later period", "NDCG@10", "95 % interval", "AUC per request", "AUC"):
        table.add_column(column)
    for method, metrics in found.methods.items():
        deciding = metrics[found.metric]
        between = "" if deciding.low is None else f"{deciding.low:.4f} to {deciding.high:.4f}"
        shown = [_figure(deciding), between, _figure(metrics["request_auc"]), _figure(metrics["auc"])]
        table.add_row(method, *shown)
    out.print(table)
    if made.without:
        out.print(f"{made.without:,} moments had no candidates and were left out", highlight=False)
    out.print(_in_words(found), highlight=False, soft_wrap=True)


def _figure(figure: Any) -> str:
    return "" if figure.value is None else f"{figure.value:.4f}"


def _check_unasked(home: Path, ref: Any, force: bool) -> None:
    """Raise NotReady for a model that was just trained and is not better than the best baseline and what serves."""
    from scorpion import registry

    why = "" if force else registry.not_unasked(home, ref)
    if why:
        raise NotReady(
            f"{ref} is kept and not promoted: {why}. `feedmesh model promote {ref} --force` serves it all the same"
        )


def _promote(home: Path, name: str, force: bool) -> None:
    from scorpion import registry

    ref = registry.promote(home, name, _datasets(home), _asking(home), force)
    out.print(f"{ref} is promoted", highlight=False)


def _in_words(found: Any) -> str:
    from scorpion.verdict import in_words

    return in_words(found)


def _running(home: Path, service: str) -> Mesh | None:
    try:
        mesh = meshes.load(meshes.mesh_file(home))
        mesh.of(service)
    except NotFound:
        return None
    return mesh


def _ask(mesh: Mesh, client: Callable[[Mesh], C], question: Callable[[C], Coroutine[Any, Any, T]]) -> T:
    """The answer of a client of the mesh."""

    async def ask() -> T:
        asking = client(mesh)
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
        found = _ask(mesh, RockstoreClient, lambda client: client.datasets(DATASETS_TIMEOUT_S))
    except MeshError as error:
        err.print(f"columns of datasets are not checked: {error}", highlight=False, markup=False)
        return None
    return {dataset.name: list(dataset.columns) for dataset in found}


def _problems(home: Path) -> dict[str, str]:
    """The problems that the running mesh reports, by model."""
    mesh = _running(home, "scorpion")
    if mesh is None:
        return {}
    try:
        found = _ask(mesh, ScorpionClient, lambda client: client.models(TIMEOUT_S))
    except MeshError as error:
        return {"scorpion": str(error)}
    return {f"{one.name}@{one.version}" if one.version else one.name: one.problem for one in found if one.problem}


def _asking(home: Path) -> Callable[[object], str]:
    """Make every shard of the running mesh look; the reason why one refuses the model, empty when all serve it.

    A mesh, or a shard, that is away is not waited for: it reads the registry when it starts.
    """

    def ask(ref: object) -> str:
        mesh = _running(home, "scorpion")
        if mesh is None:
            err.print("the mesh does not run: it is served when it starts", highlight=False)
            return ""
        try:
            found = _ask(mesh, ScorpionClient, lambda client: client.refresh(TIMEOUT_S))
        except MeshError as error:
            err.print(f"not heard of all shards: {error}", highlight=False, markup=False)
            return ""
        return next((one.problem for one in found if f"{one.name}@{one.version}" == str(ref)), "")

    return ask


def _when(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
