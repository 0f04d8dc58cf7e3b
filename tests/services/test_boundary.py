"""Whatever goes wrong inside a command ends with a message and a code; a file has the rest for developers."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli.boundary import BACKGROUND, NICE, Commands
from services.core.errors import InvalidArgument, NotFound

app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)
inner = typer.Typer()
app.add_typer(inner, name="inner")


class Lost(Exception):
    """Nothing that the command knows."""


ERRORS = {
    "lost": Lost("every source"),
    "key": KeyError("pins"),
    "disk": OSError(28, "No space left on device"),
    "file": PermissionError(13, "Permission denied", "/data/models"),
    "odd": FileNotFoundError(2, "No such file or directory", "/data/draft"),
    "recursion": RecursionError(),
    "wrong": InvalidArgument("x = 1 is not allowed"),
    "absent": NotFound("no such model"),
}


@inner.command()
def fails(how: str) -> None:
    raise ERRORS[how]


@inner.command()
def ends(code: int) -> None:
    raise typer.Exit(code)


def run(*words: str) -> tuple[int, str]:
    ran = CliRunner().invoke(app, ["inner", *words])
    return ran.exit_code, ran.stderr


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("lost", "Lost: every source"), ("key", "KeyError: 'pins'"), ("odd", "No such file or directory"),
        ("recursion", "RecursionError"),
    ],
)  # fmt: skip
def test_what_was_not_foreseen_is_a_message_and_a_file(how: str, says: str) -> None:
    code, said = run("fails", how)
    assert code == 1
    assert "error: this was not foreseen: " in said
    assert says in said
    assert "Traceback" not in said
    [path] = re.findall(r"for developers: (\S+)", said)
    log = Path(path)
    assert "Traceback" in log.read_text()
    log.unlink()


def test_what_the_machine_refuses_is_said_as_it_is() -> None:
    assert run("fails", "disk") == (1, "error: No space left on device\n")
    assert run("fails", "file") == (1, "error: /data/models: Permission denied\n")


def test_errors_of_the_mesh_are_themselves() -> None:
    assert run("fails", "wrong") == (2, "error: x = 1 is not allowed\n")
    assert run("fails", "absent") == (1, "error: no such model\n")


def test_endings_of_the_command_line_stay_what_they_are() -> None:
    assert run("ends", "130")[0] == 130
    assert run("nothing")[0] == 2
    assert run("ends")[0] == 2


def test_a_command_in_the_background_is_nice_and_ends_with_its_supervisor() -> None:
    program = (
        "import os, time, typer\n"
        "from cli.boundary import Commands\n"
        "app = typer.Typer(cls=Commands)\n"
        "app.callback()(lambda: None)\n"
        "@app.command()\n"
        "def wait() -> None:\n"
        "    print(os.nice(0), flush=True)\n"
        "    while True:\n"
        "        time.sleep(0.05)\n"
        "app(['wait'])\n"
    )
    environment = os.environ | {BACKGROUND: "1"}
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert child.stdout is not None
    assert int(child.stdout.readline()) == min(19, os.nice(0) + NICE)
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(60) != 0
    child.stdout.close()
