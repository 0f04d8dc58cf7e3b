"""Asks a process of the same machine through its Unix socket (services/rpc/unix_socket.py), from asyncio."""

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc

from protos import calls_pb2 as pb
from services.rpc.unix_socket import MAX_REPLY, MAX_REQUEST, Inbox, head_of, is_private

IDLE = 64  # connections kept to one process


Calls = list[tuple[str, bytes]]  # the method's name, and its request as written


def request_of(calls: Calls) -> pb.CallsRequest:
    """Calls as one request. They are made in their place: a message put into another is copied."""
    request = pb.CallsRequest()
    for method, data in calls:
        request.calls.add(method=method, request=data)
    return request


class NoSocket(Exception):
    """Nothing listens there, or nothing so large is taken there; gRPC says more."""


class Refused(grpc.RpcError):
    """A call failed that did not travel by gRPC, or not alone: with the status and the words that gRPC has for it."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        """Its status."""
        return self._code

    def details(self) -> str:
        """The error's text."""
        return self._details


class _Connection(asyncio.BufferedProtocol):
    """One connection: a request goes out, its reply comes back, and then the next."""

    def __init__(self, free: list["_Connection"]) -> None:
        self._free, self._inbox = free, Inbox(MAX_REPLY)
        self._transport: Any = None  # uvloop's are no asyncio.Transport
        self._reply: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: Any) -> None:
        """As asyncio has it."""
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio has it: the other side ended."""
        self._fail(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        if self in self._free:
            self._free.remove(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """As asyncio has it."""
        return self._inbox.space()

    def buffer_updated(self, nbytes: int) -> None:
        """As asyncio has it."""
        try:
            messages = self._inbox.arrived(nbytes)
        except ValueError as error:
            self._fail(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
            self.close()
            return
        for message in messages:
            if self._reply is not None and not self._reply.done():
                self._reply.set_result(message)

    def send(self, request: bytes) -> "asyncio.Future[bytes]":
        """The reply to come; Refused once it is plain that none will."""
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(head_of(request) + request)
        return self._reply

    @property
    def ended(self) -> bool:
        """Whether nothing can be sent any more."""
        return bool(self._transport.is_closing())

    def give_up(self) -> None:
        """The time is over."""
        self._fail(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def close(self) -> None:
        """Hang up."""
        self._transport.abort()

    def _fail(self, code: grpc.StatusCode, details: str) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(Refused(code, details))


class UnixClient:
    """Of one process. A reply that did not come in time would come later, so its connection is closed."""

    def __init__(self, path: Path) -> None:
        self._path, self._free, self._closed = path, list[_Connection](), False

    async def ask(self, calls: Calls, timeout: float, context: bytes) -> pb.CallsReply:
        """The answers to calls, within `timeout` seconds. context: its bytes. Raises Refused, or NoSocket before it asked."""
        deadline = time.monotonic() + timeout
        request = request_of(calls)
        request.deadline_s, request.context = deadline, context
        data = request.SerializeToString()
        if len(data) > MAX_REQUEST:
            raise NoSocket  # gRPC says how much is allowed
        connection = self._idle() or await self._connect(timeout)
        timer = asyncio.get_running_loop().call_later(deadline - time.monotonic(), connection.give_up)
        try:
            reply = pb.CallsReply.FromString(await connection.send(data))
        except BaseException:
            connection.close()
            raise
        finally:
            timer.cancel()
        if len(self._free) < IDLE and not connection.ended and not self._closed:
            self._free.append(connection)
        else:
            connection.close()
        return reply

    def _idle(self) -> _Connection | None:
        while self._free:
            if not (connection := self._free.pop()).ended:
                return connection
        return None

    async def _connect(self, timeout: float) -> _Connection:
        if not is_private(self._path.parent):
            raise NoSocket
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                _, connection = await loop.create_unix_connection(lambda: _Connection(self._free), str(self._path))
        except (OSError, TimeoutError):
            raise NoSocket from None
        return connection

    def close(self) -> None:
        """Hang up all that is idle, and the others when they have their replies."""
        self._closed = True
        while self._free:
            self._free.pop().close()
