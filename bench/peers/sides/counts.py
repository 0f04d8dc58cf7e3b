"""Redis: a counter a pin and action, and MGET of those that one request needs, over a unix socket, parsed by hiredis."""

import atexit
import os
import subprocess
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.side import Work, serve

ROOT = Path(__file__).resolve().parent.parent.parent.parent / ".peers" / "redis" / "root"
BATCH = 20_000


def redis(folder: Path) -> Work:
    """A server of its own on the machine's other core, without persistence. Keys are made before anything is timed."""
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
    keys, counts, asked = (np.load(folder / f"{name}.npy") for name in ("keys", "counts", "asked"))
    for start in range(0, len(keys), BATCH):
        part = slice(start, start + BATCH)
        client.mset(dict(zip(_names(keys[part]), counts[part].tolist(), strict=True)))
    names = _names(asked)

    def mget() -> Any:
        return np.array(client.mget(names), np.float32)

    return {"counts": mget}


def _names(keys: Any) -> list[str]:
    """`pin:action`, as one names counters there. keys: uint64[n, 2]."""
    return [f"{pin}:{action}" for pin, action in keys.tolist()]


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


if __name__ == "__main__":
    serve({"redis": redis})
