"""`feedmesh check`: whether the files on the disk are as they were written."""

import random
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from cli.console import AsJson, Config, Data, out, plainly, sections_of
from cli.progress import progress
from services.core.clock import wall_clock
from services.core.errors import InvalidArgument, Unavailable
from services.ops.supervisor import DataFolder
from services.state.scrub import Finding

if TYPE_CHECKING:
    from cli.checking import Checks


@plainly
def check(
    sample: Annotated[
        int, typer.Option(min=0, max=100_000, help="ids for which every view is compared with the log; 0: none")
    ] = 200,
    seed: Annotated[int | None, typer.Option(help="which ids these are [default: others each time]")] = None,
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Read all that a data folder holds and say what is damaged: the log, every view, models, graphs and datasets.

    The log is held against its own checksums and sequence, every view against the log for a sample of users, boards and
    pins, files against the checksums in their manifests. Nothing is changed. It works while a mesh runs on the folder,
    and while none does. Exit code 1 when something is damaged; each finding says what to do.

    Examples:

        feedmesh check

        feedmesh check --data /tmp/world --sample 2000

        feedmesh check --json > check.json
    """
    from cli.checking import Checking

    sections = sections_of(config, data)
    folder = Path(sections["mesh"].data)
    if not (folder / "FORMAT").exists():
        raise InvalidArgument(f"{folder}: is no data folder: it has no file FORMAT")
    held = _held(folder)
    try:
        with progress() as say:
            checking = Checking(sections, folder, held is None, wall_clock, say)
            found = checking.run(sample, random.randrange(2**32) if seed is None else seed)
    finally:
        if held is not None:
            held.release()
    if as_json:
        out.print_json(data=asdict(found))
    else:
        _print(found)
    if found.findings:
        raise typer.Exit(1)


def _held(folder: Path) -> DataFolder | None:
    """The data folder, locked; None when a running mesh has it."""
    try:
        return DataFolder(folder)
    except Unavailable:
        return None


def _print(found: "Checks") -> None:
    compared = f", {found.compared} ids compared with the log" if found.compared else ""
    looked = f"{found.entries:,} entries, {found.bytes / 1e6:,.1f} MB read{compared}"
    for note in found.notes:
        out.print(Text(note, "yellow"), soft_wrap=True)
    if not found.findings:
        out.print(Text.assemble(("nothing is damaged", "green"), f": {looked}"), soft_wrap=True)
        return
    out.print(Text.assemble((f"{len(found.findings)} findings", "bold red"), f": {looked}"), soft_wrap=True)
    table = Table(box=None, header_style="bold")
    for name in ("where", "damage", "remedy"):
        table.add_column(name, overflow="fold")
    for one in found.findings:
        table.add_row(_where(one), one.what, one.remedy)
    out.print(table)


def _where(one: Finding) -> str:
    family = f"family {one.family}" if one.family else ""
    key = f"key {one.key}" if one.key else ""
    return "\n".join(part for part in (one.folder, one.file, family, key) if part)
