"""`feedmesh features`: datasets of feature rows, loaded in bulk, switched atomically, and changed row by row.

A load writes files beside the data; the mesh takes them when the log says so. Rockstore says what came of it.
"""

import asyncio
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from cli.console import AsJson, Config, Data, data_of, err, existing, out, plainly, sections_of
from cli.progress import progress
from roadrunner.client import open_publisher
from rockstore import keys, versions
from rockstore.client import RockstoreClient
from services.core import context, external, tokens
from services.core.clock import wall_clock
from services.core.errors import InvalidArgument, NotFound, Unavailable
from services.core.events import EARLIEST_MS, MAX_FEATURES, RESERVED_FROM, Action, Batch, events
from services.rpc import mesh as meshes

TIMEOUT_S = 10.0
TAKING_S = 120.0  # in which the shards take a version: they check and link its files

features = typer.Typer(
    help="Datasets of feature rows: load, list, switch, remove, put.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Dataset = Annotated[str, typer.Argument(help="name of the dataset: a to z, 0 to 9 and _, a letter first")]


@features.command()
@plainly
def load(
    dataset: Dataset,
    file: Annotated[Path, typer.Argument(help="a Parquet file: one column of keys, the others numbers")],
    key: Annotated[str, typer.Option(help="the column of keys")] = "pin",
    as_of: Annotated[
        str, typer.Option(help="when the values were computed: ISO 8601 (UTC) or Unix ms [default: the file's date]")
    ] = "",
    new_columns: Annotated[bool, typer.Option("--new-columns", help="other columns than before are meant")] = False,
    no_switch: Annotated[bool, typer.Option("--no-switch", help="only write the version; `switch` serves it")] = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Load a Parquet file as a new version of a dataset, and serve it.

    Examples:

        feedmesh features load pin_quality quality.parquet

        feedmesh features load user_taste taste.parquet --key user --as-of 2026-11-01T00:00 --no-switch
    """
    from rockstore import bulk

    folder = data_of(config, data)
    running = _running(folder)
    if running is None and not no_switch:
        meshes.load(meshes.mesh_file(folder))  # raises, naming the file, before the work is done
    mesh = running.common if running else sections_of(config, data)["mesh"]
    served = _described(running) if running else []
    after = max((version for of in served if of.name == dataset for version in of.versions), default=0)
    as_of_ms = _moment(as_of) if as_of else _date_of(file)
    with progress() as report, _reading(mesh.ids):
        home, said = keys.datasets_of(folder), partial(report, f"loading {dataset}")
        made = bulk.load(file, home, dataset, mesh.partitions, as_of_ms, key, new_columns, after, said)
    out.print(f"{dataset}: version {made.version}, {made.rows:,} rows of {len(made.columns)} columns", highlight=False)
    if not no_switch:
        _switch(folder, dataset, made.version)


@features.command()
@plainly
def switch(
    dataset: Dataset,
    version: Annotated[int, typer.Argument(min=1, help="the version to serve; `list` names those there are")],
    config: Config = None,
    data: Data = None,
) -> None:
    """Serve another version of a dataset, atomically: a new one, or an earlier one.

    Example:

        feedmesh features switch pin_quality 3
    """
    folder = data_of(config, data)
    versions.check_name(dataset)
    served = _described(meshes.load(meshes.mesh_file(folder)))
    there = keys.loaded(keys.datasets_of(folder))
    kept = {one for of in served if of.name == dataset for one in of.versions}
    known = kept | set(there.get(dataset, []))
    if not known:
        raise _no_such(dataset, [*there, *(of.name for of in served)])
    if version not in known:
        numbers = ", ".join(map(str, sorted(known)))
        raise InvalidArgument(f"version = {version}: {dataset} has no such version; there are {numbers}")
    if version not in kept:
        versions.check_there(keys.datasets_of(folder), dataset, version)  # else every shard would wait for its files
    _switch(folder, dataset, version)


@features.command()
@plainly
def remove(
    dataset: Dataset,
    version: Annotated[int, typer.Argument(min=1, help="the version that nothing will serve any more")],
    config: Config = None,
    data: Data = None,
) -> None:
    """Remove the files of a version; a shard that is rebuilt from the log does without it, where it would wait for them.

    Example:

        feedmesh features remove pin_quality 1
    """
    folder = data_of(config, data)
    versions.check_name(dataset)
    served = _described(meshes.load(meshes.mesh_file(folder)))
    kept = [one for of in served if of.name == dataset for one in of.versions]
    if version in kept:
        numbers = ", ".join(map(str, kept))
        raise InvalidArgument(f"version = {version}: is served or kept to switch back to, as are {numbers}")
    versions.remove(keys.datasets_of(folder), dataset, version)
    out.print(f"{dataset}: version {version} is removed", highlight=False)


@features.command("list")
@plainly
def list_(as_json: AsJson = False, config: Config = None, data: Data = None) -> None:
    """The datasets: the version that is served, those that can be switched to, and problems.

    Example:

        feedmesh features list
    """
    folder = existing(data_of(config, data))
    running, files = _running(folder), keys.loaded(keys.datasets_of(folder))
    served = {of.name: of for of in _described(running)} if running else {}
    if as_json:
        names = sorted({*served, *files})
        out.print_json(data=[_record(name, served.get(name), files.get(name, [])) for name in names])
        return
    table = Table(box=None, header_style="bold")
    for column in ("dataset", "serves", "rows", "columns", "as of", "kept", "files", "problem"):
        table.add_column(column)
    for name in sorted({*served, *files}):
        of, there = served.get(name), ", ".join(map(str, files.get(name, [])))
        if of is None:
            table.add_row(name, "-", "", "", "", "", there, "")
            continue
        kept, version = ", ".join(map(str, of.versions)), str(of.version) if of.version else "live rows"
        shown = ", ".join(of.columns[:4]) + (f", ... ({len(of.columns)})" if len(of.columns) > 4 else "")
        table.add_row(name, version, f"{of.rows:,}", Text(shown), _date(of.as_of_ms), kept, there, Text(of.problem))
    out.print(table)
    if running is None:
        err.print("no mesh runs on this data folder: the versions that are served are not known", highlight=False)


@features.command(context_settings={"ignore_unknown_options": True})  # else -0.5 would be an option
@plainly
def put(
    dataset: Dataset,
    values: Annotated[list[float], typer.Argument(help="a number a column, in order; nan: not known")],
    key: Annotated[str, typer.Option(help="whose row it is: an id")],
    config: Config = None,
    data: Data = None,
) -> None:
    """Publish one row of a dataset that was loaded, which is served on top of the bulk load until a newer one comes.

    Example:

        feedmesh features put pin_quality --key 51 0.7 12 nan
    """
    versions.check_name(dataset)
    if len(values) > MAX_FEATURES:
        raise InvalidArgument(f"values: {len(values)} numbers; at most {MAX_FEATURES}")
    folder = data_of(config, data)
    mesh = meshes.load(meshes.mesh_file(folder))
    number = _key(key, mesh.text_ids)
    _check_row(dataset, values, _described(mesh))
    token = _publish(folder, _event(Action.PUT_FEATURES, dataset, number, [values]))
    out.print(f"accepted; token {tokens.to_text(token)}", highlight=False, soft_wrap=True)


@contextmanager
def _reading(ids: str) -> Iterator[None]:
    """Within it, keys are read as the mesh has ids."""
    from loaders import text_ids

    with text_ids.as_text(text_ids.TextIds() if ids == "text" else None):
        yield


def _key(text: str, is_text: bool) -> int:
    """The number of an id as people state it. Raises InvalidArgument."""
    if is_text:
        if not external.is_id(text):
            raise InvalidArgument(f"key = {text!r}: {external.RULE}")
        return external.number_of(text)
    if not re.fullmatch("[1-9][0-9]{0,19}", text) or int(text) >= RESERVED_FROM:
        raise InvalidArgument(f"key = {text!r}: allowed are whole numbers from 1 to {RESERVED_FROM - 1}")
    return int(text)


def _check_row(dataset: str, values: list[float], served: list[Any]) -> None:
    """Refuse a row that rockstore would pass over, or that would begin a dataset by a slip of the pen."""
    of = next((one for one in served if one.name == dataset), None)
    if of is None:
        raise _no_such(dataset, [one.name for one in served])
    if len(values) != len(of.columns):
        named = ", ".join(of.columns[:8]) + (", ..." if len(of.columns) > 8 else "")
        raise InvalidArgument(f"values: {len(values)} numbers; {dataset} has {len(of.columns)} columns: {named}")


def _no_such(dataset: str, there: Iterable[str]) -> InvalidArgument:
    names = ", ".join(sorted(set(there))) or "none"
    return InvalidArgument(
        f"dataset = {dataset!r}: there is none of this name; there are {names}. "
        f"`feedmesh features load {dataset} FILE` makes it"
    )


def _record(name: str, of: Any, there: list[int]) -> dict[str, Any]:
    """The version of a dataset that is served, and those that have files."""
    if of is None:
        return {"dataset": name, "served": None, "files": there}
    served = {"version": of.version or None, "rows": of.rows, "columns": list(of.columns), "as_of_ms": of.as_of_ms}
    return {"dataset": name, "served": served, "kept": list(of.versions), "files": there, "problem": of.problem or None}


def _switch(folder: Path, dataset: str, version: int) -> None:
    """Publish the switch, and wait until every shard of rockstore has applied it: it serves the version, or says why not."""
    token = _publish(folder, _event(Action.SWITCH_DATASET, dataset, version))
    with context.serving(TAKING_S, token):
        found = next((of for of in _described(meshes.load(meshes.mesh_file(folder))) if of.name == dataset), None)
    if found is None or found.version != version or found.problem:
        why = found.problem if found and found.problem else "another switch came after this one"
        raise Unavailable(f"{dataset}: version {version} is not served everywhere: {why}")
    out.print(f"{dataset}: serves version {version}, {found.rows:,} rows", highlight=False)


def _event(action: Action, dataset: str, target: int, values: list[list[float]] | None = None) -> Batch:
    id_ = secrets.randbits(62) + 1
    return events(1, action=action, target=target, title=[dataset], at_ms=wall_clock(), id=id_, features=values)


def _publish(folder: Path, batch: Batch) -> bytes:
    """Returns the token that makes a read see it."""
    with open_publisher(folder) as publisher:
        return publisher.publish(batch, TIMEOUT_S).token


def _running(folder: Path) -> meshes.Mesh | None:
    try:
        return meshes.load(meshes.mesh_file(folder))
    except NotFound:
        return None


def _described(mesh: meshes.Mesh) -> list[Any]:
    """The datasets that rockstore serves."""

    async def ask() -> list[Any]:
        client = RockstoreClient(mesh)
        try:
            found: list[Any] = await client.datasets(TAKING_S if context.current() else TIMEOUT_S)
            return found
        finally:
            await client.close()

    return asyncio.run(ask())


def _moment(text: str) -> int:
    """Unix ms of a date as people write it. Raises InvalidArgument."""
    try:
        when = datetime.fromisoformat(text) if not text.isdigit() or len(text) < 12 else None
    except ValueError:
        raise InvalidArgument(f"as-of = {text!r}: allowed are ISO 8601 dates and Unix milliseconds") from None
    at_ms = int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000) if when else int(text)
    if not 0 <= at_ms <= wall_clock():
        raise InvalidArgument(f"as-of = {text!r}: allowed is from 1970-01-01 to now")
    return max(at_ms, EARLIEST_MS)


def _date_of(file: Path) -> int:
    try:
        return int(file.stat().st_mtime * 1000)
    except OSError as error:
        raise InvalidArgument(f"{file}: {(error.strerror or str(error)).lower()}") from None


def _date(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M") if at_ms else ""
