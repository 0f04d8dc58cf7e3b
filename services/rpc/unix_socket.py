"""Where the processes of one machine meet besides gRPC: a Unix socket a process, and the frames that pass through it.

A call by gRPC costs 0.6 ms of CPU on either side when it wakes a process that was idle, most of it in handing over
between threads; the same bytes through a socket that the two processes hold cost a fifth (decision 0024). The messages
are those of `Calls.Many` of protos/calls.proto: a frame is a length (<u4) and a `CallsRequest` or, back, its
`CallsReply`. A connection has one request under way at a time.
"""

import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import cast

from services.rpc.mesh import Mesh, bracketed

LENGTH_BYTES = 4
MAX_REQUEST = 16 << 20  # bytes, as gRPC's
MAX_REPLY = 64 << 20
SMALL = 1 << 16  # bytes that are read at a time; a frame that is larger has a place of its own


def socket_path(mesh: Mesh, address: str) -> Path | None:
    """Where the process of this mesh that listens for gRPC at `address` has its socket.

    None where it has none: it is on another machine, or the settings or the system know no such sockets.
    """
    host, _, port = address.rpartition(":")
    here = host in ("127.0.0.1", "localhost", "[::1]", bracketed(mesh.common.host))
    if not here or not mesh.common.unix_sockets or os.name != "posix":
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


def head_of(message: bytes) -> bytes:
    """The header of a message."""
    return len(message).to_bytes(LENGTH_BYTES, "little")


def length_of(head: bytes | memoryview) -> int:
    """Of the message whose frame begins so."""
    return int.from_bytes(head[:LENGTH_BYTES], "little")


class Inbox:
    """Cuts what arrives into messages. A large one arrives in a place of its own and is not copied again."""

    def __init__(self, most: int) -> None:
        """most: bytes of a message."""
        self._most, self._small, self._have = most, memoryview(bytearray(SMALL)), 0
        self._large, self._got = bytearray(), 0  # a message too large for the small place, and how much of it is there

    def space(self) -> memoryview:
        """Where to put what arrives next; never empty."""
        return memoryview(self._large)[self._got :] if self._large else self._small[self._have :]

    def arrived(self, n: int) -> list[bytes]:
        """The messages that are whole, now that n bytes were put into `space`. Raises ValueError for one that is too long:
        the connection is of no use.
        """
        if not self._large:
            self._have += n
            return self._cut()
        self._got += n
        if self._got < len(self._large):
            return []
        whole, self._large = self._large, bytearray()
        return [cast(bytes, whole)]  # readers of messages read either

    def _cut(self) -> list[bytes]:
        found: list[bytes] = []
        small, have, at = self._small, self._have, 0
        while have - at >= LENGTH_BYTES:
            length = length_of(small[at : at + LENGTH_BYTES])
            if length > self._most:
                raise ValueError(f"a message of {length} bytes; at most {self._most}")
            first, end = at + LENGTH_BYTES, at + LENGTH_BYTES + length
            if end <= have:
                found.append(bytes(small[first:end]))
                at = end
                continue
            if end - at > SMALL:
                self._large, self._got = bytearray(length), have - first
                self._large[: self._got] = small[first:have]
                at = have
            break
        if 0 < at < have:
            small[: have - at] = bytes(small[at:have])
        self._have = have - at
        return found
