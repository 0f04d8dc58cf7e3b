"""Redis' server for a comparison: Debian's, unpacked by `make bench-peers`, without persistence, on a unix socket."""

import atexit
import os
import subprocess
import time
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent.parent / ".peers" / "redis" / "root"


def started(folder: Path) -> Any:
    """A client of a new server, which is on the cores that this process is not on, and ends with it."""
    socket = folder / "redis.sock"
    binary = ROOT / "usr" / "bin" / "redis-server"
    command = [str(binary), "--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no"]
    libraries = os.pathsep.join(str(path) for path in sorted(ROOT.glob("usr/lib/*-linux-gnu")))
    cores = set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0) or os.sched_getaffinity(0)
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries}
    server = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    os.sched_setaffinity(server.pid, cores)
    atexit.register(server.terminate)
    client = import_module("redis").Redis(unix_socket_path=str(socket))
    _until_ready(client, server)
    return client


def _until_ready(client: Any, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            client.ping()
        except import_module("redis").exceptions.ConnectionError:
            if time.monotonic() > end or server.poll() is not None:
                raise
            time.sleep(0.05)
        else:
            return
