"""Call batching: calls that a request makes to one process at one moment are one message, `Calls.Many` (protos/calls.proto).

A call costs both sides several times what a small question does: threads and sockets that are woken. A caller that makes
several calls concurrently makes them within `batched_calls()`; each call has its own answer or error. To a process of the
same machine they travel through its Unix socket, one alone too; to others on a stream of gRPC.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import grpc

from protos import calls_pb2 as pb
from services.core.context import wire_of
from services.rpc.unix_client import Calls, NoSocket, Refused, request_of

MANY = "/feedmesh.Calls/Many"
STATUS = {code.value[0]: code for code in grpc.StatusCode}
Metadata = tuple[tuple[str, bytes], ...] | None
T = TypeVar("T")


class Peer(Protocol):
    """A process that is asked by messages, each of which carries calls."""

    async def ask(self, calls: Calls, timeout: float, context: bytes) -> pb.CallsReply:
        """The answers, within `timeout` seconds. context: its bytes. Raises grpc.RpcError, or NoSocket before it asked."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class _Waiting(NamedTuple):
    method: "Method"
    request: Any
    timeout: float
    answer: "asyncio.Future[Any]"


@dataclass(slots=True, eq=False)
class _Batch:
    """Calls that wait for the end of this iteration of the event loop, by channel and metadata."""

    waiting: dict[tuple[int, Metadata], list[_Waiting]] = field(default_factory=dict)
    sending: set[asyncio.Task[None]] = field(default_factory=set)
    chosen: dict[Any, Any] = field(default_factory=dict)

    def add(self, method: "Method", request: Any, timeout: float, metadata: Metadata) -> "asyncio.Future[Any]":
        loop = asyncio.get_running_loop()
        if not self.waiting:
            loop.call_soon(self._send)
        waiting = _Waiting(method, request, timeout, loop.create_future())
        self.waiting.setdefault((id(method.many), metadata), []).append(waiting)
        return waiting.answer

    def _send(self) -> None:
        waiting, self.waiting = self.waiting, {}
        self.chosen.clear()
        for (_, metadata), calls in waiting.items():
            task = asyncio.ensure_future(_ask(calls, metadata))
            self.sending.add(task)
            task.add_done_callback(self.sending.discard)


_batch: ContextVar[_Batch | None] = ContextVar("batch", default=None)


@contextmanager
def batched_calls() -> Iterator[None]:
    """Calls of tasks that are made here, to one process in the same iteration of the event loop, are one message."""
    reset = _batch.set(_Batch())
    try:
        yield
    finally:
        _batch.reset(reset)


def chosen(key: Any, choose: Callable[[], T]) -> T:
    """The result of `choose`: called once for all calls with this key that become one message."""
    now = _batch.get()
    if now is None:
        return choose()
    if key not in now.chosen:
        now.chosen[key] = choose()
    return now.chosen[key]  # type: ignore[no-any-return]


class Method:
    """One method of a channel, as a stub calls it."""

    __slots__ = ("alone", "many", "name", "peer", "read", "write")

    def __init__(
        self,
        alone: Any,
        many: Any,
        peer: Peer | None,
        name: str,
        write: Callable[[Any], bytes],
        read: Callable[[bytes], Any],
    ):
        self.alone, self.many, self.peer, self.name, self.write, self.read = alone, many, peer, name, write, read

    def __call__(self, request: Any, *, timeout: float, metadata: Metadata = None) -> Awaitable[Any]:
        """The answer, within `timeout` seconds. Raises grpc.RpcError."""
        now = _batch.get()
        if now is not None:
            return now.add(self, request, timeout, metadata)
        if self.peer is not None:
            return self._by_peer(self.peer, request, timeout, metadata)
        return self.alone(request, timeout=timeout, metadata=metadata)  # type: ignore[no-any-return]

    async def _by_peer(self, peer: Peer, request: Any, timeout: float, metadata: Metadata) -> Any:
        try:
            reply = await peer.ask([(self.name, self.write(request))], timeout, wire_of(metadata))
        except NoSocket:
            return await self.alone(request, timeout=timeout, metadata=metadata)
        (answer,) = reply.answers
        if answer.status:
            raise Refused(STATUS[answer.status], answer.message)
        return self.read(answer.reply)


class BatchingChannel:
    """A channel whose calls may be batched, or go as messages to a peer: by a socket of the same machine, or a stream."""

    def __init__(self, channel: grpc.aio.Channel, peer: Peer | None = None) -> None:
        self._channel, self._peer = channel, peer
        self._many = channel.unary_unary(MANY, pb.CallsRequest.SerializeToString, pb.CallsReply.FromString)

    def unary_unary(self, name: str, request_serializer: Any, response_deserializer: Any, **more: Any) -> Method:
        """As the channel's own."""
        alone = self._channel.unary_unary(name, request_serializer, response_deserializer, **more)
        return Method(alone, self._many, self._peer, name, request_serializer, response_deserializer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)


async def _ask(calls: list[_Waiting], metadata: Metadata) -> None:
    """Give each call its answer, or the error of it."""
    timeout = max(call.timeout for call in calls)  # a caller with less time gives up by itself
    try:
        reply = await _answers(calls, timeout, metadata)
        for call, answer in zip(calls, reply.answers, strict=True):
            if answer.status:
                _fail(call, Refused(STATUS[answer.status], answer.message))
            else:
                _deliver(call, call.method.read(answer.reply))
    except Exception as error:  # grpc's, and any other: no caller is left waiting
        for call in calls:
            _fail(call, error)


async def _answers(calls: list[_Waiting], timeout: float, metadata: Metadata) -> pb.CallsReply:
    method, asked = calls[0].method, [(call.method.name, call.method.write(call.request)) for call in calls]
    if method.peer is not None:
        with suppress(NoSocket):
            return await method.peer.ask(asked, timeout, wire_of(metadata))
    reply: pb.CallsReply = await method.many(request_of(asked), timeout=timeout, metadata=metadata)
    return reply


def _deliver(call: _Waiting, answer: Any) -> None:
    if not call.answer.done():  # its caller may have given up
        call.answer.set_result(answer)


def _fail(call: _Waiting, error: Exception) -> None:
    if not call.answer.done():
        call.answer.set_exception(error)
