"""Answers what comes through the Unix socket of a process (services/rpc/unix_socket.py), as its gRPC server does.

A server on threads has a thread for each connection: a request is answered by the thread that was waiting for it, and
nothing is handed over. `threads` of them answer at a time.
"""

import asyncio
import logging
import socket
import threading
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from google.protobuf.message import DecodeError

from protos import calls_pb2 as pb
from services.rpc.dispatch import FREE, Arrived, Dispatcher, calls_of, finished, reply_of
from services.rpc.unix_socket import LENGTH_BYTES, MAX_REQUEST, Inbox, head_of, is_private, length_of

logger = logging.getLogger(__name__)
BACKLOG = 1024
ACCEPT_AGAIN_S = 0.1


def _bound(path: Path) -> socket.socket | None:
    """A socket that listens at `path`, in place of one left by a process that was killed. None, logged, if it can't."""
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if not is_private(path.parent):
            raise PermissionError(f"{path.parent} is not a folder of this user alone")
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as error:
        logger.warning("no Unix socket at %s, calls come by gRPC alone: %s", path, error)
        return None
    return listener


async def _answered(dispatcher: Dispatcher, data: bytes, slot: AbstractContextManager[Any] = FREE) -> bytes:
    """The reply to a frame. Raises DecodeError for one that is none."""
    request = pb.CallsRequest.FromString(data)
    arrived = Arrived(request.deadline_s, request.context, len(data), slot=slot)
    return reply_of(await dispatcher.dispatch(calls_of(request), arrived))


class ThreadedUnixServer:
    """For a server on threads. Started when made."""

    def __init__(self, path: Path, dispatcher: Dispatcher, threads: int) -> None:
        self._path, self._dispatcher = path, dispatcher
        self._slots, self._lock, self._stopped = threading.Semaphore(threads), threading.Lock(), False
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._listener = _bound(path)
        if self._listener is not None:
            threading.Thread(target=self._accept, args=(self._listener,), name="unix", daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError as error:
                if self._stopped:
                    return
                logger.warning("no connection is taken: %s", error)  # no more files may be open, say
                time.sleep(ACCEPT_AGAIN_S)
                continue
            thread = threading.Thread(target=self._serve, args=(connection,), name="unix-rpc", daemon=True)
            with self._lock:
                if self._stopped:
                    connection.close()
                    return
                self._connections[connection] = thread
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb", 1 << 16) as stream:
                while (data := _read(cast(BinaryIO, stream))) is not None:
                    _send(connection, finished(_answered(self._dispatcher, data, self._slots)))
        except (OSError, DecodeError) as error:
            logger.debug("a connection ended: %s", error)
        finally:
            with self._lock:
                del self._connections[connection]

    def stop(self, drain_s: float) -> None:
        """Take nothing new, and return when what is under way has been answered, or after drain_s seconds."""
        with self._lock:
            self._stopped = True
            threads = list(self._connections.values())
            for (
                connection
            ) in self._connections:  # a thread that waits for a request sees the end; an answer still goes out
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)
        if self._listener is not None:
            self._path.unlink(missing_ok=True)
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        end = time.monotonic() + drain_s
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))


def _read(stream: BinaryIO) -> bytes | None:
    """The next message; None when the other side is done, or sends what is none."""
    head = stream.read(LENGTH_BYTES)
    if len(head) < LENGTH_BYTES:
        return None
    length = length_of(head)
    if length > MAX_REQUEST:
        return None
    data = stream.read(length)
    return data if len(data) == length else None


def _send(connection: socket.socket, reply: bytes) -> None:
    """Head and reply as one frame, without putting them together first."""
    head = head_of(reply)
    sent = connection.sendmsg([head, reply])
    if sent < LENGTH_BYTES:
        connection.sendall(head[sent:] + reply)
    elif sent < LENGTH_BYTES + len(reply):
        connection.sendall(memoryview(reply)[sent - LENGTH_BYTES :])


class _Served(asyncio.BufferedProtocol):
    """One connection to a server on asyncio."""

    def __init__(self, server: "AsyncUnixServer") -> None:
        self._server, self._inbox = server, Inbox(MAX_REQUEST)
        self._transport: Any = None
        self._work: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncio has it."""
        self._transport = transport
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio has it: the caller no longer waits for the answer."""
        self._server.connections.discard(self)
        if self._work is not None:
            self._work.cancel()

    def get_buffer(self, sizehint: int) -> memoryview:
        """As asyncio has it."""
        return self._inbox.space()

    def buffer_updated(self, nbytes: int) -> None:
        """As asyncio has it."""
        try:
            for message in self._inbox.arrived(nbytes):
                self._work = asyncio.ensure_future(self._answer(message))
        except ValueError as error:
            self._end(error)

    async def _answer(self, message: bytes) -> None:
        try:
            reply = await _answered(self._server.dispatcher, message)
        except DecodeError as error:
            self._end(error)
            return
        self._transport.writelines([head_of(reply), reply])
        self._work = None
        if self._server.stopped:
            self._transport.close()

    def _end(self, error: Exception) -> None:
        logger.debug("a connection ended: %s", error)
        self._transport.abort()

    def finish(self) -> "asyncio.Task[None] | None":
        """Close when the answer under way has gone out; the task of that answer."""
        if self._work is None:
            self._transport.close()
        return self._work


class AsyncUnixServer:
    """For a server on asyncio."""

    def __init__(self, path: Path, dispatcher: Dispatcher) -> None:
        self._path, self.dispatcher, self.stopped = path, dispatcher, False
        self._server: asyncio.AbstractServer | None = None
        self.connections: set[_Served] = set()

    async def start(self) -> None:
        """Listen."""
        if (listener := _bound(self._path)) is not None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(lambda: _Served(self), sock=listener)

    async def stop(self, drain_s: float) -> None:
        """Take nothing new, and return when what is under way has been answered, or after drain_s seconds."""
        self.stopped = True
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
        work = [task for connection in list(self.connections) if (task := connection.finish()) is not None]
        if work:
            await asyncio.wait(work, timeout=drain_s)
