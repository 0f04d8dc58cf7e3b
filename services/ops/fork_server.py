"""A server that starts processes by forking itself: what every process imports from others' packages is imported once, and
its memory is shared. `services.ops.starting` runs it; decision 72 has why and the figures.

It imports none of our own modules, so a process has them as they are on the disk when it starts. It forks twice: the process
that is left becomes a child of the nearest subreaper above, the supervisor, which sees how it ends as if it had started it.
"""

import gc
import importlib
import json
import os
import runpy
import socket
import sys
from contextlib import suppress

from setproctitle import setproctitle

PRELOADED = (
    "asyncio",
    "numpy.random",
    "numba",
    "llvmlite.binding",
    "scipy",
    "grpc.aio",
    "grpc_tools",
    "grpc_health.v1.health",
    "grpc_reflection.v1alpha.reflection",
    "grpc_channelz.v1.channelz",
    "google.protobuf.json_format",
    "msgspec",
    "mmh3",
    "psutil",
    "prometheus_client",
    "rocksdict",
    "uvloop",
    "yaml",
)
READY = b"ready"
MOST_BYTES = 1 << 16  # of a request


def serve(link: socket.socket) -> list[str] | None:
    """Import the packages, then fork a process for each request: JSON, the module and its arguments, with two files, its
    input, and its output and errors. The answer is its number, or nothing when it could not be forked.

    Returns its module and arguments in each process that is forked, and None in the server, when the other end is closed.
    """
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # objects of before stay in pages that are shared
    if (threads := len(os.listdir("/proc/self/task"))) > 1:
        sys.exit(f"error: {threads} threads run after the imports; a process forked from several is not safe to use")
    link.send(READY)
    while True:
        request, files, _, _ = socket.recv_fds(link, MOST_BYTES, 2)
        if not request:
            return None
        pid = _forked()
        if pid is None:
            os.setsid()
            link.close()
            for number, file in ((0, files[0]), (1, files[1]), (2, files[1])):
                os.dup2(file, number)
            for file in files:
                os.close(file)
            return list(json.loads(request))
        for file in files:
            os.close(file)
        link.send(pid)


def _forked() -> bytes | None:
    """The number of a new process, empty if there could be none; None in it."""
    read, write = os.pipe()
    with suppress(OSError):
        between = os.fork()
        if between == 0:
            os.close(read)
            status = 1
            with suppress(OSError):
                pid = os.fork()
                if pid == 0:
                    os.close(write)
                    return None
                os.write(write, str(pid).encode())
                status = 0
            os._exit(status)
        os.waitpid(between, 0)  # from here on the process has its new parent
    os.close(write)
    with open(read, "rb") as file:  # empty without a process
        return file.read() or b"0"


def main() -> None:
    """Serve; in a process that was forked, run its module as `python -m` does."""
    command = serve(socket.socket(fileno=int(sys.argv[1])))
    if command is not None:
        setproctitle(" ".join([sys.executable, "-P", "-m", *command]))
        sys.argv = command
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
