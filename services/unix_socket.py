"""Where the processes of one machine meet besides gRPC: a Unix socket a process, and the frames that pass through it.

A call by gRPC costs 0.6 ms of CPU on either side when it wakes a process that was idle, most of it in handing over
between threads; the same bytes through a socket that the two processes hold cost a fifth (decision 0024). What passes
is what `Calls.Many` of protos/calls.proto carries: a frame is a length (<u4) and a `CallsRequest` or, back, its
`CallsReply`. A connection has one request under way at a time.
"""

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from services.mesh import Mesh

LENGTH_BYTES = 4
MAX_REQUEST = 16 << 20  # bytes, as gRPC's
MAX_REPLY = 64 << 20
_HOSTS = ("127.0.0.1", "localhost", "[::1]")


def socket_path(mesh: Mesh, address: str) -> Path | None:
    """Where the process of this mesh that listens for gRPC at `address` has its socket.

    None where it has none: it is on another machine, or the settings or the system know no such sockets.
    """
    host, _, port = address.rpartition(":")
    if host not in _HOSTS or not mesh.common.unix_sockets or os.name != "posix":
        return None
    data = hashlib.blake2b(os.path.abspath(mesh.common.data).encode(), digest_size=4).hexdigest()
    return Path(tempfile.gettempdir(), f"feedmesh-{os.getuid()}", f"{data}-{port}.sock")


def is_private(folder: Path) -> bool:
    """Whether only this user can put sockets there."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def framed(data: bytes) -> bytes:
    """The frame of a message."""
    return len(data).to_bytes(LENGTH_BYTES, "little") + data


def length_of(head: bytes | bytearray) -> int:
    """Of the message whose frame begins so."""
    return int.from_bytes(head[:LENGTH_BYTES], "little")


class Frames:
    """Cuts what arrives into messages."""

    def __init__(self, most: int) -> None:
        """most: bytes of a message."""
        self._most, self._rest = most, bytearray()

    def add(self, data: bytes) -> list[bytes]:
        """The messages that are whole now. Raises ValueError for one that is too long: the connection is of no use."""
        rest, found = self._rest, []
        rest += data
        while len(rest) >= LENGTH_BYTES:
            length = length_of(rest)
            if length > self._most:
                raise ValueError(f"a message of {length} bytes; at most {self._most}")
            if len(rest) < (end := LENGTH_BYTES + length):
                break
            found.append(bytes(rest[LENGTH_BYTES:end]))
            del rest[:end]
        return found
