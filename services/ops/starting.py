"""Starts the processes of a supervisor: from the fork server where there is one, else each by itself."""

import ctypes
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

from services.core.errors import Unavailable
from services.core.installation import program
from services.ops.fork_server import READY

logger = logging.getLogger(__name__)
READY_S = 60.0  # in which the fork server has imported its packages as a mesh starts, on a busy machine too
ANSWER_S = 5.0  # in which it forks
LOOK_S = 0.02
_SET_SUBREAPER = 36  # of prctl(2)


class Started(Protocol):
    """A process that was started, as `subprocess.Popen` has it."""

    pid: int
    stdin: IO[bytes] | None

    def poll(self) -> int | None:
        """Its exit status, or less the number of the signal that ended it; None while it runs."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """The same once it has ended. Raises subprocess.TimeoutExpired."""
        ...

    def send_signal(self, sig: int) -> None:
        """Send a signal, if it has not ended."""
        ...

    def terminate(self) -> None:
        """Send SIGTERM."""
        ...

    def kill(self) -> None:
        """Send SIGKILL."""
        ...


class Forked:
    """A process that the fork server made: a child of this one."""

    def __init__(self, pid: int, stdin: IO[bytes]) -> None:
        """`stdin`: our end of its input."""
        self.pid = pid
        self.stdin: IO[bytes] | None = stdin
        self._ended: int | None = None

    def poll(self) -> int | None:
        """As `Started` has it."""
        if self._ended is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # it was waited for elsewhere
                pid, status = self.pid, 1 << 8
            if pid:
                self._ended = os.waitstatus_to_exitcode(status)
        return self._ended

    def wait(self, timeout: float | None = None) -> int:
        """As `Started` has it."""
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            time.sleep(LOOK_S)
        return code

    def terminate(self) -> None:
        """As `Started` has it."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """As `Started` has it."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, sig: int) -> None:
        """As `Started` has it."""
        if self.poll() is None:  # until it was waited for, no other process can have its number
            os.kill(self.pid, sig)


class Starter:
    """Starts processes with one environment."""

    def __init__(self, variables: Mapping[str, str], log: Path) -> None:
        """Errors of the fork server go to `log`."""
        self._variables, self._log = dict(variables), log
        self._can = False
        self._server: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._ready, self._packages = False, tuple[int, ...]()

    def begin(self) -> None:
        """Start a fork server, where this system can have one."""
        self._can = sys.platform == "linux" and _become_subreaper()
        if self._can:
            self._begin()

    def _begin(self) -> None:
        self._ready, self._packages = False, _packages()
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, self._log.open("ab") as log:
            number = theirs.fileno()
            command = [*program("services.ops.fork_server"), str(number)]
            self._server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._variables,
                pass_fds=(number,),
                start_new_session=True,
            )

    def start(self, module: str, arguments: Sequence[str], log: IO[bytes]) -> Started:
        """Run a module, its output and errors to `log`."""
        if self.is_ready():
            try:
                return self._fork([module, *arguments], log)
            except (OSError, Unavailable) as error:
                logger.warning("the fork server gave no process (%s); it is started anew", error)
                self._restart()
        return subprocess.Popen(
            [*program(module), *arguments],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=self._variables,
            start_new_session=True,
        )

    def is_ready(self, within_s: float = 0.0) -> bool:
        """Whether there is a fork server that forks; it waits so long for one that begins."""
        if not self._can or self._link is None or self._server is None:
            return False
        if self._server.poll() is not None or self._packages != _packages():
            self._restart()
        if not self._ready:
            with suppress(OSError):
                self._link.settimeout(max(within_s, 0.001))
                self._ready = self._link.recv(len(READY)) == READY
        return self._ready

    def _fork(self, command: list[str], log: IO[bytes]) -> Started:
        assert self._link is not None
        self._link.settimeout(ANSWER_S)
        read, write = os.pipe()
        try:
            socket.send_fds(self._link, [json.dumps(command).encode()], [read, log.fileno()])
            pid = int(self._link.recv(32) or b"0")
            if not pid:
                raise Unavailable("it could not fork")
        except BaseException:
            os.close(write)
            raise
        finally:
            os.close(read)
        return Forked(pid, open(write, "wb", buffering=0))

    def _restart(self) -> None:
        self.close()
        self._begin()

    def close(self) -> None:
        """End the fork server; the processes go on."""
        if self._link is not None:
            self._link.close()
        if self._server is not None:
            self._server.kill()
            self._server.wait()


def _become_subreaper() -> bool:
    """Have the processes as children whose parents ended below this one."""
    try:
        return bool(ctypes.CDLL(None).prctl(_SET_SUBREAPER, 1, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def _packages() -> tuple[int, ...]:
    """Changes when a package is installed or removed: the server has those of before in memory."""
    places = sorted({sysconfig.get_path(name) for name in ("purelib", "platlib")})
    return tuple(os.stat(place).st_mtime_ns for place in places if os.path.isdir(place))
