"""`feedmesh doctor`: missing packages and files, free ports, and the data folder with its stale parts."""

from dataclasses import asdict
from pathlib import Path

import typer
from rich.table import Table
from rich.text import Text

from cli.console import AsJson, Config, Data, as_typed, out, plainly, sections_of
from cli.findings import Finding, folder_findings, machine_findings, port_findings

COLOURS = {"well": "green", "note": "yellow", "fault": "bold red"}


@plainly
def doctor(as_json: AsJson = False, config: Config = None, data: Data = None) -> None:
    """Look at this machine, the settings and the data folder, and say what is missing, in the way or stale.

    It changes nothing, and needs no running mesh. Exit code 1 when something must be mended before the mesh works.

    Examples:

        feedmesh doctor

        feedmesh doctor --data /tmp/world --json
    """
    sections = sections_of(config, data)
    folder = Path(sections["mesh"].data)
    found = [
        *machine_findings(folder, sections["mesh"].min_free_mb),
        *port_findings(sections),
        *folder_findings(folder),
    ]
    if as_json:
        out.print_json(data=[asdict(one) | {"remedy": as_typed(one.remedy) or None} for one in found])
    else:
        out.print(_table(found))
    if any(one.state == "fault" for one in found):
        raise typer.Exit(1)


def _table(found: list[Finding]) -> Table:
    table = Table(box=None, header_style="bold", show_header=False)
    for name in ("", "what"):
        table.add_column(name, no_wrap=True)
    table.add_column("how it is", overflow="fold")
    for one in found:
        text = Text(one.text)
        if one.remedy:
            text.append(f"\n{as_typed(one.remedy)}", "dim")
        table.add_row(Text(one.state, COLOURS[one.state]), one.what, text)
    return table
