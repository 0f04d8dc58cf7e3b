"""One host's part of a cluster file, for `feedmesh up`: planned at the start, and again whenever the file is another one."""

import time
from collections.abc import Iterable
from pathlib import Path

from rich.text import Text

from cli.console import err
from cli.schema import SCHEMA
from services.core.errors import InvalidArgument
from services.ops import cluster as clusters
from services.ops.planning import Plan
from services.ops.supervisor import Supervisor

LOOK_S = 1.0


class ClusterPart:
    """Of one file and one host."""

    def __init__(self, path: Path, host: str) -> None:
        """Raises InvalidArgument for a file that can't be, Unavailable for a port that is another's."""
        self._path, self._host = path, host
        self._content, self._looked = _content(path), time.monotonic()
        self.plan = self._planned()
        clusters.check_ports(self.plan)

    @classmethod
    def of(cls, path: Path | None, host: str | None, alone: Iterable[object]) -> "ClusterPart":
        """As the options of the command have it. alone: those that only a mesh on one machine has."""
        if path is None or host is None:
            raise InvalidArgument("--cluster and --host: allowed are both of them, or none")
        if any(one is not None for one in alone):
            raise InvalidArgument(
                "--cluster: the file says what --config, --data, --port and --demo would; leave them out"
            )
        return cls(path, host)

    def _planned(self) -> Plan:
        return clusters.plan(clusters.read(self._path, SCHEMA), self._host)

    def look(self, supervisor: Supervisor) -> None:
        """Let the supervisor run what the file says now. A file that can't be is named, and changes nothing."""
        if time.monotonic() - self._looked < LOOK_S:
            return
        self._looked, content = time.monotonic(), _content(self._path)
        if not content or content == self._content:
            return
        self._content = content
        try:
            supervisor.take(self._planned())
        except InvalidArgument as error:
            err.print(Text(f"{self._path} has changed, and what runs has not: {error}", "yellow"), soft_wrap=True)


def _content(path: Path) -> bytes:
    """Empty where it can't be read: an editor may be about to replace it."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
