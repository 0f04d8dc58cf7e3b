"""`feedmesh demo`: makes a world of people, boards and pins as Parquet files, to be loaded like anybody's own."""

from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from services.clock import wall_clock
from services.errors import InvalidArgument


def demo(
    out: Annotated[Path, typer.Option(help="folder to write; files of the same names are replaced", file_okay=False)],
    users: Annotated[int, typer.Option(min=1, help="how many people")] = 2_000,
    pins: Annotated[int, typer.Option(min=1, help="how many pins")] = 20_000,
    boards: Annotated[int, typer.Option(min=1, help="how many boards")] = 6_000,
    saves: Annotated[
        int, typer.Option(min=0, help="how many saves; about 1.7 times as many other actions come along")
    ] = (150_000),
    seed: Annotated[int, typer.Option(min=0, help="the same seed makes the same world, as of now")] = 1,
) -> None:
    """Make a demo world: people in communities, boards, pins with titles, and 90 days of what they did.

    Examples:

    feedmesh demo --out data/demo

    feedmesh demo --users 10000 --pins 100000 --boards 30000 --saves 1000000 --seed 7 --out big

    Then: feedmesh load parquet data/demo
    """
    began = perf_counter()
    try:
        spec = import_module("datasets.world").Spec(users, pins, boards, saves, seed)
    except InvalidArgument as error:
        raise typer.BadParameter(str(error)) from None
    try:
        rows = _generate(spec, out)
    except (InvalidArgument, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    written = ", ".join(f"{count:,} {name}" for name, count in rows.items())
    typer.echo(f"{out}: {written} in {perf_counter() - began:.1f} s")


def _generate(spec: Any, out: Path) -> dict[str, int]:
    """Write the files under a progress bar on stderr; rows written, by file."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(show_speed=True),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("making the world", total=spec.pins + spec.saves)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        rows: dict[str, int] = import_module("datasets.generate").generate(spec, out, wall_clock(), report)
    return rows
