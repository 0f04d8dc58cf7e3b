"""How the command speaks: results on standard output, everything else on standard error, exit codes that scripts trust.

0: done. 1: it could not be done, and why is on standard error. 2: the command was called wrongly.
"""

import re
import shlex
import shutil
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from cli.schema import SCHEMA
from services.core import settings
from services.core.errors import InvalidArgument, MeshError, NotFound
from services.core.settings import Sections

P = ParamSpec("P")
T = TypeVar("T")

PIPE_WIDTH = 200  # of tables that go to a file or another program: not folded at the width of no terminal

out = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = Console(stderr=True)

Config = Annotated[Path | None, typer.Option("--config", help="a mesh.toml; ./mesh.toml is used if it is there")]
Data = Annotated[Path | None, typer.Option("--data", help="data folder [default: the config's, else ./data]")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead of a table")]

_NAMED = re.compile(r"`feedmesh ([^`]*)`")
_WITHOUT_FOLDER = ("demo", "plan")  # commands that take neither --data nor --config
_given: dict[str, Path] = {}  # --data and --config of this call, for the commands that its messages name


def plainly(command: Callable[P, T]) -> Callable[P, T]:
    """End with an error's message and exit code instead of a traceback."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        _given.clear()
        try:
            return command(*args, **kwargs)
        except MeshError as error:
            err.print("[bold red]error:[/]", escape(as_typed(str(error))), highlight=False, soft_wrap=True)
            raise typer.Exit(2 if isinstance(error, InvalidArgument) else 1) from None

    return run


def as_typed(text: str) -> str:
    """The text with each command in it, as in `feedmesh up`, as it works when typed here: found where the shell finds it,
    on the same data folder and configuration as this call.
    """
    return _NAMED.sub(lambda named: f"`{_typed(named[1])}`", text)


def hint(text: str) -> None:
    """Print a hint for the next step on standard error, with its commands as they work when typed."""
    err.print(as_typed(text), highlight=False, markup=False, soft_wrap=True)


def _typed(words: str) -> str:
    program = "feedmesh"
    called = Path(sys.argv[0])
    if called.name == program and shutil.which(program) is None:
        program = str(called.relative_to(Path.cwd()) if called.is_relative_to(Path.cwd()) else called)
    missing = {} if words.split(maxsplit=1)[0] in _WITHOUT_FOLDER else _given
    options = [f"{name} {shlex.quote(str(path))}" for name, path in missing.items() if name not in words]
    return " ".join([program, words, *options])


def _remember(config: Path | None, data: Path | None) -> None:
    _given.update({name: path for name, path in (("--data", data), ("--config", config)) if path is not None})


def config_of(config: Path | None) -> Path | None:
    """The mesh.toml meant: the one that is named, else that of this folder if there is one."""
    return Path("mesh.toml") if config is None and Path("mesh.toml").exists() else config


def sections_of(config: Path | None, data: Path | None) -> Sections:
    """Validated settings; --data wins over the file's."""
    _remember(config, data)
    sections = settings.load(config_of(config), SCHEMA)
    if data is not None:
        sections["mesh"].data = str(data)
    return sections


def data_of(config: Path | None, data: Path | None) -> Path:
    """The data folder meant."""
    _remember(config, data)
    return data if data is not None else Path(sections_of(config, None)["mesh"].data)


def existing(folder: Path) -> Path:
    """The data folder, for commands that only look into it: one that is misspelt is not an empty one. Raises NotFound."""
    if not folder.is_dir():
        raise NotFound(f"{folder}: no such folder; `feedmesh up` makes the data folder that it is given")
    return folder
