"""Ports of a mesh's processes: those that its settings name, and free ones that stay its own for as long as it runs.

A free port that is only looked up may be another's by the time its process listens there, or as it starts again: any
connection may be given it as its own end. So the planning process stays bound to it, without listening, and shares it
with that process alone (`SO_REUSEPORT` on both, tests/assumptions/test_assumptions_ports.py): others get the error that it is in
use, and are never given it as a free one.
"""

import socket

from services.core.errors import Unavailable


class Ports:
    """The ports of one mesh, while it is planned and while it runs."""

    def __init__(self, host: str) -> None:
        """`host`: the address where its processes listen."""
        self._host = host
        self._held: list[socket.socket] = []
        self._named: list[socket.socket] = []  # while it is planned, so that no two are the same

    def take(self, number: int, setting: str) -> int:
        """The port that a setting names, or a free one, held from now on, for 0. Raises Unavailable for one in use."""
        bound = socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR if number else socket.SO_REUSEPORT, 1)
        try:
            bound.bind((self._host, number))
            if number:
                bound.listen()  # or another may be bound to the same port beside it
        except (OSError, OverflowError) as error:
            bound.close()
            why = error.strerror if isinstance(error, OSError) else "ports end at 65535"
            raise Unavailable(f"{setting}: cannot listen on {self._host}:{number}: {why}; choose another") from None
        (self._named if number else self._held).append(bound)
        return int(bound.getsockname()[1])

    def planned(self) -> None:
        """Let the processes listen on the ports that settings name."""
        while self._named:
            self._named.pop().close()

    def release(self) -> None:
        """Let others have them: the processes have ended, or none was started."""
        self.planned()
        while self._held:
            self._held.pop().close()
