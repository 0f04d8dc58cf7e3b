"""The call policy, once, for every server and every transport: gRPC and Unix sockets, on threads and on asyncio.

A call is admitted, must have time left, waits for its token, is counted, and an error of the mesh is answered as its status.
`Dispatcher.dispatch` is a coroutine that awaits nothing but the methods themselves. A server on asyncio awaits it. The methods
of a server on threads answer without awaiting, so there `finished` runs it to its end on the spot.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, nullcontext
from inspect import iscoroutinefunction
from typing import Any, NamedTuple, TypeVar

import grpc
from google.protobuf.message import DecodeError

from protos import calls_pb2 as pb
from services.core import tokens
from services.core.context import CallContext, entered, received
from services.core.errors import DeadlineExceeded, InvalidArgument, MeshError, described
from services.core.metrics import Metrics
from services.core.tokens import Reached
from services.rpc.admission import AdmissionLimiter

DEFAULT_DEADLINE_S, MAX_DEADLINE_S = 10.0, 3600.0
OWN = ("/grpc.", "/feedmesh.Status/")  # asked by probes: neither counted nor made to wait
OK = grpc.StatusCode.OK
FREE = nullcontext()  # the slot of a transport that has any number of them
WaitForToken = Callable[[Reached, float], None]
Noticed = Callable[[Exception], None]  # is given each error that a call ends with
Calls = Sequence[tuple[str, bytes]]  # each a method's name on the wire, and its request's bytes
T = TypeVar("T")


def ignored(_: Exception) -> None:
    """For a process that keeps nothing."""


class NoServicerContext:
    """The context that servicers get in place of gRPC's for a call that came by another way."""

    def is_active(self) -> bool:
        """As gRPC's."""
        return True

    def set_code(self, code: grpc.StatusCode) -> None:
        """As gRPC's: generated servicers set it, and raise NotImplementedError, which says the same."""

    def set_details(self, details: str) -> None:
        """As gRPC's."""


class Arrived(NamedTuple):
    """How a message arrived. deadline: on time.monotonic()'s clock, None where the caller gave none; context: its bytes."""

    deadline: float | None
    context: bytes
    size: int  # bytes of the message
    servicer_context: Any = NoServicerContext()
    slot: AbstractContextManager[Any] = FREE  # to be held while it is served


class Answer(NamedTuple):
    """Of one call: the reply's bytes, or a status that is not OK and what was wrong."""

    status: grpc.StatusCode
    message: str
    reply: bytes


class Method(NamedTuple):
    """A unary method of this process: the name it is counted under, and how its bytes become an answer's."""

    name: str
    read: Callable[[bytes], Any]
    answer: Callable[[Any, Any], Any]
    write: Callable[[Any], bytes]
    awaits: bool  # whether what it answers is to be awaited


def methods_of(service: str, handlers: dict[str, Any]) -> dict[str, Method]:
    """Those of a service's handlers (of gRPC, by name) that are under the call policy, by their names on the wire."""
    found = {}
    for name, handler in handlers.items():
        answer = handler.unary_unary
        if answer is not None and not f"/{service}/".startswith(OWN):
            read, write, awaits = handler.request_deserializer, handler.response_serializer, iscoroutinefunction(answer)
            found[f"/{service}/{name}"] = Method(name, read, answer, write, awaits)
    return found


def as_status(error: Exception, method: str) -> tuple[grpc.StatusCode, str]:
    """How an error of a method crosses the wire."""
    if isinstance(error, MeshError):
        return error.status, str(error)
    if isinstance(error, NotImplementedError):
        return grpc.StatusCode.UNIMPLEMENTED, f"{method} is not served here"
    return grpc.StatusCode.INTERNAL, described(error, f"{method} failed")


class Dispatcher:
    """Answers the calls of one process. methods: its own, by their names on the wire."""

    def __init__(
        self,
        metrics: Metrics,
        limiter: AdmissionLimiter,
        wait: WaitForToken | None = None,
        noticed: Noticed = ignored,
        at_once: bool = False,
    ) -> None:
        """wait: for a token, on threads alone; a process on asyncio holds no view and passes tokens on.

        at_once: on asyncio, calls of one message are answered in parallel; else one after the other.
        """
        self.limiter, self.methods = limiter, dict[str, Method]()
        self._metrics, self._wait, self._noticed, self._at_once = metrics, wait, noticed, at_once

    async def dispatch(self, calls: Calls, arrived: Arrived) -> list[Answer]:
        """The answers to calls that came as one message, under one deadline and one context. Never raises an Exception."""
        began, size = time.perf_counter(), arrived.size
        try:
            self.limiter.take(size)
            try:
                with arrived.slot, entered(_in_time(arrived)) as context:
                    if self._wait is not None:
                        self._wait(tokens.decode(context.token), context.remaining())
                    if len(calls) == 1:
                        return [await self._answer(*calls[0], arrived.servicer_context)]
                    return await self._answers(calls, arrived.servicer_context)
            finally:
                self.limiter.give_back(size)
        except Exception as error:
            self._noticed(error)
            return [self._refusal(error, method, time.perf_counter() - began) for method, _ in calls]

    async def _answers(self, calls: Calls, context: Any) -> list[Answer]:
        work = [self._answer(method, request, context) for method, request in calls]
        return await asyncio.gather(*work) if self._at_once else [await one for one in work]

    async def _answer(self, name: str, request: bytes, context: Any) -> Answer:
        method = self.methods.get(name)
        if method is None:
            message = f"{name[:100]} is not served here in a batch of calls"
            return Answer(grpc.StatusCode.UNIMPLEMENTED, message, b"")
        began, status = time.perf_counter(), OK
        try:
            answered = method.answer(_read(method, request), context)
            return Answer(OK, "", method.write(await answered if method.awaits else answered))
        except Exception as error:
            self._noticed(error)
            status, message = as_status(error, name)
            return Answer(status, message, b"")
        finally:
            self._metrics.observe(method.name, time.perf_counter() - began, status)

    def _refusal(self, error: Exception, name: str, seconds: float) -> Answer:
        """The answer of one call of a message whose calls were not begun."""
        status, message = as_status(error, name)
        if name in self.methods:
            self._metrics.observe(self.methods[name].name, seconds, status)
        return Answer(status, message, b"")


def finished(work: Coroutine[Any, Any, T]) -> T:
    """The outcome of a coroutine that has nothing to wait for, as those of a server on threads."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    work.close()
    raise TypeError("a method of a server on threads awaits, which only one on asyncio may")


def _in_time(arrived: Arrived) -> CallContext:
    """Its context. Raises DeadlineExceeded when it waited too long for its turn: its caller has given up."""
    now = time.monotonic()
    deadline = now + DEFAULT_DEADLINE_S if arrived.deadline is None else arrived.deadline
    if deadline <= now:
        raise DeadlineExceeded("the deadline had passed before the call was served")
    return received(min(deadline, now + MAX_DEADLINE_S), arrived.context)


def _read(method: Method, request: bytes) -> Any:
    try:
        return method.read(request)
    except DecodeError:
        raise not_a_request(request, method.name) from None


def not_a_request(data: bytes, name: str) -> InvalidArgument:
    """The error of bytes that are no request of a method."""
    return InvalidArgument(f"the {len(data)} bytes are no request of {name}: cut short, or of another message")


def calls_of(request: pb.CallsRequest) -> Calls:
    """The calls of a message that carries several."""
    return [(call.method, call.request) for call in request.calls]


def reply_of(answers: Sequence[Answer]) -> bytes:
    """The message of several answers. They are written in their place: a message put into another is copied."""
    reply = pb.CallsReply()
    for status, message, data in answers:
        into = reply.answers.add()
        if status is OK:
            into.reply = data
        else:
            into.status, into.message = status.value[0], message
    return reply.SerializeToString()
