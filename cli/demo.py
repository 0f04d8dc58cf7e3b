"""`feedmesh demo`: makes a world of people, boards and pins as Parquet files, to be loaded like a user's own data."""

from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from cli.console import AsJson, hint, out, plainly
from cli.progress import progress
from services.core.clock import wall_clock
from services.core.errors import Unavailable


@plainly
def demo(
    folder: Annotated[
        Path, typer.Option("--out", help="folder to write; files of the same names are replaced", file_okay=False)
    ],
    users: Annotated[int, typer.Option(min=1, help="how many people")] = 2_000,
    pins: Annotated[int, typer.Option(min=1, help="how many pins")] = 20_000,
    boards: Annotated[int, typer.Option(min=1, help="how many boards")] = 6_000,
    saves: Annotated[
        int, typer.Option(min=0, help="how many saves; about 1.7 times as many other actions come along")
    ] = (150_000),
    seed: Annotated[int, typer.Option(min=0, help="the same seed makes the same world, as of now")] = 1,
    as_json: AsJson = False,
    no_hint: Annotated[bool, typer.Option("--no-hint", hidden=True, help="`up` loads it itself")] = False,
) -> None:
    """Make a demo world: people in communities, boards, pins with titles, and 90 days of their actions.

    Examples:

        feedmesh demo --out data/demo

        feedmesh demo --users 10000 --pins 100000 --boards 30000 --saves 1000000 --seed 7 --out big

    Then: feedmesh load parquet data/demo
    """
    began = perf_counter()
    from loaders.generate import generate
    from loaders.world import Spec

    spec = Spec(users, pins, boards, saves, seed)
    try:
        with progress() as report:
            making = partial(report, "making the world")
            rows = generate(spec, folder, wall_clock(), making)
    except OSError as error:
        raise Unavailable(f"{folder}: not written: {error.strerror or error}") from None
    if as_json:
        out.print_json(data={"folder": str(folder), "rows": rows})
        return
    written = ", ".join(f"{count:,} {name}" for name, count in rows.items())
    out.print(f"{folder}: {written} in {perf_counter() - began:.1f} s", highlight=False, soft_wrap=True)
    if not no_hint:
        hint(f"to load it into the running mesh: `feedmesh load parquet {folder}`")
