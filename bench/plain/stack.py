"""Starts the plain stack: Redis and its services, each a process of `.peers/plain`, and ends them."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import httpx

from bench.peers.pairing import ONE_THREAD, PEERS, ROOT, Absent

REDIS = PEERS / "redis" / "root"
FINDERS = 2  # processes that find candidates: most of the work, so one for each core
READY_WITHIN_S = 60.0


class Stack(NamedTuple):
    """A running plain stack. pids: of its processes, by name."""

    url: str
    pids: dict[str, int]


def needed() -> None:
    """Raise Absent, with the reason, where the stack can't be started here."""
    for name in ("redis", "plain"):
        home = PEERS / name
        if not (home / "made").exists():
            reason = home / "absent"
            why = reason.read_text().strip() if reason.exists() else "not installed: make bench-peers"
            raise Absent(f"{name}: {why}")


@contextmanager
def running(events: Path, model: Path, candidates: int, folder: Path) -> Iterator[Stack]:
    """The stack with these events (world.py) loaded and this LightGBM model.

    candidates: of a page; folder: an empty one, for its socket and log.
    """
    needed()
    store = folder / "redis.sock"
    ports = _free_ports(2 + FINDERS)
    edge = ports[0]
    at = [f"127.0.0.1:{port}" for port in ports]
    started: dict[str, subprocess.Popen[bytes]] = {}
    with (folder / "log").open("wb") as log:
        try:
            started["redis"] = _redis(store, folder, log)
            subprocess.run([*_python("loading"), str(store), str(events)], cwd=ROOT, check=True, timeout=600)
            for i in range(FINDERS):
                started[f"candidates-{i}"] = _start(log, "candidates", at[2 + i], str(store), str(candidates))
            started["ranking"] = _start(log, "ranking", at[1], str(store), str(model))
            started["edge"] = _start(log, "edge", str(edge), str(store), at[1], *at[2:])
            _until_served(f"http://{at[0]}", started, folder / "log")
            yield Stack(f"http://{at[0]}", {name: process.pid for name, process in started.items()})
        finally:
            for process in reversed(started.values()):
                process.terminate()
            for process in started.values():
                _end(process)


def _python(module: str) -> list[str]:
    return [str(PEERS / "plain" / "bin" / "python"), "-m", f"bench.plain.{module}"]


def _start(log: object, module: str, *arguments: str) -> subprocess.Popen[bytes]:
    command = [*_python(module), *arguments]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **ONE_THREAD}, stdout=log, stderr=log)  # type: ignore[call-overload,no-any-return]


def _redis(store: Path, folder: Path, log: object) -> subprocess.Popen[bytes]:
    """Without persistence: that is the least that it can cost."""
    binary = REDIS / "usr" / "bin" / "redis-server"
    command = [str(binary), "--port", "0", "--unixsocket", str(store), "--save", "", "--appendonly", "no"]
    libraries = os.pathsep.join(str(path) for path in sorted(REDIS.glob("usr/lib/*-linux-gnu")))
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries}
    server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)  # type: ignore[call-overload]
    end = time.monotonic() + READY_WITHIN_S
    while not store.exists():
        if time.monotonic() > end or server.poll() is not None:
            raise Absent(f"redis-server does not start: {(folder / 'log').read_text()[-500:]}")
        time.sleep(0.05)
    return server  # type: ignore[no-any-return]


def _until_served(url: str, started: dict[str, subprocess.Popen[bytes]], log: Path) -> None:
    end = time.monotonic() + READY_WITHIN_S
    while True:
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/v1/feeds/home?user=2", timeout=10).status_code == 200:
                return
        died = [name for name, process in started.items() if process.poll() is not None]
        if died or time.monotonic() > end:
            raise RuntimeError(f"the plain stack does not serve; ended: {died}; its log: {log.read_text()[-2000:]}")
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_ports(n: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    try:
        return [int(one.getsockname()[1]) for one in held]
    finally:
        for one in held:
            one.close()
