"""The frames of a Unix socket (services/rpc/unix_socket.py) over TCP under TLS, to compare gRPC with.

No part of the mesh. A server on threads has one for each connection, as at a Unix socket; the client is on asyncio.
"""

import asyncio
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from protos import calls_pb2 as pb
from services.rpc.credentials import Files
from services.rpc.dispatch import Arrived, Dispatcher, calls_of, finished, reply_of
from services.rpc.unix_client import UnixClient, _Connection
from services.rpc.unix_server import _read
from services.rpc.unix_socket import head_of


def context_of(files: Files, server: bool) -> ssl.SSLContext:
    """Of one end: both prove that their certificates are of the CA."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_REQUIRED
    made.load_verify_locations(files.ca)
    made.load_cert_chain(files.certificate, files.key)
    return made


class FramedServer:
    """Started when made."""

    def __init__(self, dispatcher: Dispatcher, files: Files, threads: int) -> None:
        self._dispatcher, self._context = dispatcher, context_of(files, server=True)
        self._slots, self._listener = threading.Semaphore(threads), socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with (
            suppress(OSError),
            self._context.wrap_socket(plain, server_side=True) as connection,
            connection.makefile("rb", 1 << 16) as stream,
        ):
            while (data := _read(cast(BinaryIO, stream))) is not None:
                request = pb.CallsRequest.FromString(data)
                arrived = Arrived(request.deadline_s, request.context, len(data), slot=self._slots)
                reply = reply_of(finished(self._dispatcher.dispatch(calls_of(request), arrived)))
                connection.sendall(head_of(reply) + reply)

    def stop(self) -> None:
        """Take no more connections."""
        self._listener.close()


class FramedClient(UnixClient):
    """Of one server."""

    def __init__(self, port: int, files: Files) -> None:
        super().__init__(Path())
        self._port, self._context = port, context_of(files, server=False)

    async def _connect(self, timeout: float) -> _Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout):
            _, connection = await loop.create_connection(
                lambda: _Connection(self._free),
                "127.0.0.1",
                self._port,
                ssl=self._context,
                server_hostname="roadrunner",
            )
        return connection
