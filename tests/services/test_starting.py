"""Processes from the fork server are as those that are started one by one: parent, session, files, ends."""

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.core.installation import environment, program
from services.ops import starting
from services.ops.starting import READY_S, Forked, Started, Starter
from tests.services.children import until

MODULE = "tests.services.started_by_tests"
END_S = 60.0

linux = pytest.mark.skipif(sys.platform != "linux", reason="there is a fork server on Linux alone")


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[Starter]:
    """With a variable of its own."""
    made = Starter(environment() | {"STARTED_BY": "a test"}, tmp_path / "fork_server.log")
    yield made
    made.close()


def started(starter: Starter, log: Path, *arguments: str, within: float = READY_S) -> Started:
    """A process whose words go to `log`."""
    with log.open("ab") as file:
        starter.is_ready(within)
        return starter.start(MODULE, arguments, file)


def end_of(process: Started) -> int:
    """How it ended, as it ends by itself."""
    code = process.wait(END_S)
    assert process.stdin is not None
    process.stdin.close()
    return code


def words(log: Path) -> Any:
    """What it said of itself."""
    return ast.literal_eval(log.read_text().splitlines()[0])


@pytest.mark.parametrize("forks", [pytest.param(True, marks=linux), False])
def test_a_process_runs_its_module(starter: Starter, tmp_path: Path, forks: bool) -> None:
    """In a session of its own, with its arguments and variables."""
    if forks:
        starter.begin()
    process = started(starter, tmp_path / "log", "exit", "7")
    assert isinstance(process, Forked) == forks
    assert end_of(process) == 7 == process.poll()
    said = words(tmp_path / "log")
    assert said == {
        "session": True,
        "numba": forks,
        "main": MODULE,
        "arguments": ["exit", "7"],
        "variable": "a test",
        "threads": 1,
    }
    process.kill()  # of one that has ended does nothing


@linux
def test_it_ends_as_python_does(starter: Starter, tmp_path: Path) -> None:
    """With the words of an exit, and the traceback of an error, in its log."""
    starter.begin()
    assert end_of(started(starter, tmp_path / "words", "words")) == 1
    assert (tmp_path / "words").read_text().splitlines()[-1] == "error: as was asked"
    assert end_of(started(starter, tmp_path / "raise", "raise")) == 1
    assert (tmp_path / "raise").read_text().splitlines()[-1] == "RuntimeError: as was asked"


@linux
def test_signals_and_the_end_of_its_input(starter: Starter, tmp_path: Path) -> None:
    """It is seen which signal ended it; a closed input ends one that reads it, also when this is a process of many."""
    starter.begin()
    one, two, three = (started(starter, tmp_path / f"log{i}", "until_closed") for i in range(3))
    until(lambda: all((tmp_path / f"log{i}").read_text() for i in range(3)))
    assert one.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        one.wait(0.05)
    seen = psutil.Process(one.pid)
    assert seen.ppid() == os.getpid()
    assert seen.cmdline() == [*program(MODULE), "until_closed"]
    one.terminate()
    two.kill()
    assert three.stdin is not None
    three.stdin.close()
    assert (one.wait(END_S), two.wait(END_S), three.wait(END_S)) == (-signal.SIGTERM, -signal.SIGKILL, 0)
    for process in (one, two):
        assert process.stdin is not None
        process.stdin.close()


@linux
def test_a_fork_server_that_is_lost_or_hangs(starter: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes start by themselves until there is another one; those that it made go on."""
    monkeypatch.setattr(starting, "ANSWER_S", 0.2)
    starter.begin()
    before = started(starter, tmp_path / "log", "until_closed")
    for number in (signal.SIGKILL, signal.SIGSTOP):
        server = starter._server
        assert server is not None
        os.kill(server.pid, number)
        if number == signal.SIGKILL:
            server.wait(END_S)
        alone = started(starter, tmp_path / f"alone{number}", "exit", "0", within=0.0)
        assert not isinstance(alone, Forked)
        assert end_of(alone) == 0
        another = started(starter, tmp_path / f"log{number}", "exit", "0")
        assert isinstance(another, Forked)
        assert end_of(another) == 0
    assert before.poll() is None
    assert before.stdin is not None
    before.stdin.close()
    assert before.wait(END_S) == 0


@linux
def test_packages_that_change(starter: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an installation the server that has the old packages in memory is replaced."""
    starter.begin()
    before = started(starter, tmp_path / "log", "exit", "0")
    first = starter._server
    monkeypatch.setattr(starting, "_packages", lambda: (1,))
    alone = started(starter, tmp_path / "log", "exit", "0", within=0.0)
    after = started(starter, tmp_path / "log", "exit", "0")
    assert [isinstance(process, Forked) for process in (before, alone, after)] == [True, False, True]
    assert [end_of(process) for process in (before, alone, after)] == [0, 0, 0]
    assert first is not None
    assert first.poll() is not None
    assert starter._server is not first


@linux
def test_a_fork_server_that_can_not_import(tmp_path: Path) -> None:
    """It says why in its log, and the processes start by themselves."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "setproctitle.py").write_text("raise ImportError('it is broken')\n")
    variables = environment()
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, (str(broken), variables.get("PYTHONPATH"))))
    starter = Starter(variables, tmp_path / "fork_server.log")
    starter.begin()
    try:
        process = started(starter, tmp_path / "log", "exit", "3")
        assert not isinstance(process, Forked)
        assert end_of(process) == 3
        assert "it is broken" in (tmp_path / "fork_server.log").read_text()
    finally:
        starter.close()
