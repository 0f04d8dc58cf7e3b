"""The boundary of the command: whatever goes wrong inside ends with a message and an exit code, never with a traceback.

An error that this project foresaw is a MeshError, and each command prints it (`console.plainly`). A refusal of the machine, such
as a full disk, is an OSError that names itself. Anything else is a fault of the program: the message names it, and a file
has the whole of it for developers.
"""

import errno
import os
import sys
import tempfile
import threading
import time
import traceback
from datetime import UTC, datetime
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from cli.console import as_typed, err
from services.core.errors import InvalidArgument, MeshError

BACKGROUND = "FEEDMESH_BACKGROUND"  # set for a command that a supervisor runs beside the mesh
NICE = 15
ENDS_WITHIN_S = 5.0
#: A full or read-only disk, a file that this user may not touch, no files or memory left, a disk that fails.
OF_THE_MACHINE = frozenset(
    (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EIO,
    )
)
#: How the libraries of the command end it themselves: an exit code, a wrong call, a reader that went away.
ENDINGS = ("Exit", "Abort", "ClickException", "BrokenPipeError")


class Commands(TyperGroup):
    """The commands, with the boundary around each."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was called."""
        if os.environ.get(BACKGROUND):
            stay_in_the_background()
        try:
            return super().invoke(ctx)
        except Exception as error:
            if any(kind.__name__ in ENDINGS for kind in type(error).__mro__):
                raise
            raise typer.Exit(explain(error)) from None


def explain(error: Exception) -> int:
    """Say what went wrong, on standard error; the exit code."""
    said = str(error)
    if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
        said = f"{error.filename}: {error.strerror}" if error.filename else f"{error.strerror}"
    elif not isinstance(error, MeshError):
        said = f"{type(error).__name__}: {said}" if said else type(error).__name__
        said = f"this was not foreseen: {said}; all of it, for developers: {written(error)}"
    err.print("[bold red]error:[/]", escape(as_typed(said)), highlight=False, soft_wrap=True)
    return 2 if isinstance(error, InvalidArgument) else 1


def written(error: Exception) -> str:
    """The path of a file with the command and its traceback."""
    lines = [f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC", " ".join(sys.argv), *traceback.format_exception(error)]
    try:
        with tempfile.NamedTemporaryFile("w", prefix="feedmesh-error-", suffix=".log", delete=False) as file:
            file.write("\n".join(lines))
            return file.name
    except OSError as full:
        return f"not written: {full}"


def stay_in_the_background() -> None:
    """Leave the processors to other processes, and end when the supervisor does, however it ended: it holds a pipe to the
    standard input.
    """
    os.nice(NICE)

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), 2)
        time.sleep(ENDS_WITHIN_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
