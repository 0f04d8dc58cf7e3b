"""The installed `feedmesh` command as a person at a terminal uses it, and the processes it leaves running."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from services.rpc.mesh import load, mesh_file
from tests.running import READY_WITHIN_S

FEEDMESH = Path(sys.executable).parent / "feedmesh"
WIDE = os.environ | {"COLUMNS": "200"}


def feedmesh(*arguments: object, cwd: Path | None = None, within_s: float = 120) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    command = [str(FEEDMESH), *map(str, arguments)]
    return subprocess.run(
        command,
        cwd=cwd,
        env=WIDE,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def refused(ran: "subprocess.CompletedProcess[str]", code: int, *says: str) -> None:
    """It ended with this code, said why on standard error, and showed no traceback."""
    assert ran.returncode == code, f"{ran.returncode}: {ran.stdout}{ran.stderr}"
    assert "Traceback" not in ran.stderr
    for words in says:
        assert words in ran.stderr, ran.stderr


def left_running(data: Path) -> list[str]:
    """Processes of the mesh of a folder, by command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = process.info["cmdline"] or []
        if any(str(data) in word for word in line) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(" ".join(line[-5:]))
    return found


def until_gone(data: Path, within_s: float) -> float:
    """How long it took until nothing of the mesh ran any more."""
    started = time.monotonic()
    while left := left_running(data):
        assert time.monotonic() - started < within_s, f"left running: {left}"
        time.sleep(0.05)
    return time.monotonic() - started


@dataclass
class Up:
    """A running `feedmesh up`."""

    process: "subprocess.Popen[bytes]"
    data: Path
    out: Path
    took_s: float = 0.0

    @property
    def said(self) -> str:
        return self.out.read_text()

    def until_ready(self) -> None:
        started = time.monotonic()
        while "Feedmesh is ready" not in self.said:
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.said}"
            assert time.monotonic() - started < READY_WITHIN_S, self.said
            time.sleep(0.05)
        self.took_s = time.monotonic() - started
        edge = load(mesh_file(self.data)).of("web")[0].http
        health = httpx.get(f"http://{edge}/healthz", timeout=20)
        assert health.status_code == 200, f"said to be ready, and is not: {health.text}"

    def control_c(self) -> None:
        """As a terminal does it: to the whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def ended(self, within_s: float) -> int:
        """The code it ends with."""
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still there after {within_s:.0f} s: {self.said}") from None

    def ask(self, *arguments: object) -> Any:
        """A command's answer as JSON."""
        ran = feedmesh(*arguments, "--data", self.data, "--json")
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)


@contextmanager
def started(command: list[str], data: Path, said: Path) -> Iterator["Up"]:
    """A command that runs a mesh on a data folder, its output in a file; killed at the end if it is still there."""
    with said.open("wb") as file:
        process = subprocess.Popen(
            command, env=WIDE, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    try:
        yield Up(process, data, said)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        until_gone(data, 30)


@contextmanager
def up(data: Path, *arguments: object, settings: str = "[learning]\nfirst = false\n") -> Iterator[Up]:
    """`feedmesh up` in a process group of its own, as a shell starts it; killed at the end if it is still there. By
    default it makes no model by itself: a process that comes and goes, and takes time from what is tested.
    """
    data.mkdir(parents=True, exist_ok=True)
    said, config = data.parent / f"{data.name}.said", data.parent / f"{data.name}.toml"
    config.write_text(settings)
    command = [str(FEEDMESH), "up", "--config", str(config), "--data", str(data), "--port", "0", *map(str, arguments)]
    with started(command, data, said) as found:
        yield found
