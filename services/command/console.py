"""How the command speaks: results on standard output, everything else on standard error, exit codes that scripts trust.

0: done. 1: it could not be done, and why is on standard error. 2: the command was called wrongly.
"""

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from services import settings
from services.errors import InvalidArgument, MeshError
from services.settings import Sections

P = ParamSpec("P")
T = TypeVar("T")

PIPE_WIDTH = 200  # of tables that go to a file or another program: not folded at the width of no terminal

out = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = Console(stderr=True)

Config = Annotated[Path | None, typer.Option("--config", help="a mesh.toml; ./mesh.toml is used if it is there")]
Data = Annotated[Path | None, typer.Option("--data", help="data folder [default: the config's, else ./data]")]


def plainly(command: Callable[P, T]) -> Callable[P, T]:
    """End with an error's message and exit code instead of a traceback."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except MeshError as error:
            err.print("[bold red]error:[/]", escape(str(error)), highlight=False, soft_wrap=True)
            raise typer.Exit(2 if isinstance(error, InvalidArgument) else 1) from None

    return run


def sections_of(config: Path | None, data: Path | None) -> Sections:
    """Validated settings; --data wins over the file's."""
    if config is None and Path("mesh.toml").exists():
        config = Path("mesh.toml")
    sections = settings.load(config)
    if data is not None:
        sections["mesh"].data = str(data)
    return sections


def data_of(config: Path | None, data: Path | None) -> Path:
    """The data folder meant."""
    return data if data is not None else Path(sections_of(config, None)["mesh"].data)
