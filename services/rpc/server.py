"""The gRPC server of a process: from threads for stores, on asyncio for pipelines, both under the call policy (dispatch.py).

Health, reflection, channelz and the mesh's own status service come with it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_channelz.v1 import channelz
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from protos import calls_pb2 as pb
from services.core import tokens
from services.core.context import wire_of
from services.core.errors import Unavailable
from services.rpc.batching import MANY
from services.rpc.credentials import Credentials
from services.rpc.dispatch import (
    OK,
    Answer,
    Arrived,
    Dispatcher,
    Method,
    as_status,
    calls_of,
    finished,
    methods_of,
    not_a_request,
    reply_of,
)
from services.rpc.stream_server import MOST, STREAM, Streams

MAX_MESSAGE = 16 << 20
NO_DEADLINE_S = 1e9  # a call with more time left than this has no deadline: threads see 292 billion years
OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", 4 * MAX_MESSAGE),
    ("grpc.max_metadata_size", 2 * tokens.MAX_BYTES),  # a context with a token of every partition
    # Clients on other machines ping once a second (channel.py), and a server that takes offence hangs up on them, in the
    # middle of a call too.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
]


async def _answered(dispatcher: Dispatcher, method: str, data: bytes, context: Any) -> Answer:
    """The answer to one message: a call alone, or several."""
    left = context.time_remaining()
    deadline = None if left is None or left > NO_DEADLINE_S else time.monotonic() + left
    arrived = Arrived(deadline, wire_of(context.invocation_metadata()), len(data), context)
    if method != MANY:
        [answer] = await dispatcher.dispatch([(method, data)], arrived)
        return answer
    try:
        calls = calls_of(pb.CallsRequest.FromString(data))
    except DecodeError:
        return Answer(*as_status(not_a_request(data, MANY), MANY), b"")
    return Answer(OK, "", reply_of(await dispatcher.dispatch(calls, arrived)))


class _Handlers:
    """gRPC's handlers of the methods under the call policy. They take and give bytes, which the dispatcher reads and writes."""

    def __init__(self, dispatcher: Dispatcher, answer: Callable[..., Any], stream: Callable[..., Any] | None) -> None:
        """stream: answers a stream of messages."""
        self._dispatcher, self._answer = dispatcher, answer
        self._made: dict[str, Any] = {STREAM: grpc.stream_stream_rpc_method_handler(stream)} if stream else {}

    def of(self, method: str) -> Any:
        """The handler of a method; None of one that passes: streams and the standard services."""
        found = self._made.get(method)
        if found is None and (method == MANY or method in self._dispatcher.methods):
            answer = partial(self._answer, method)
            found = self._made[method] = grpc.unary_unary_rpc_method_handler(answer, None, None)
        return found


class ThreadedInterceptor(grpc.ServerInterceptor):
    """Hands what comes to a server on threads to a dispatcher."""

    def __init__(self, dispatcher: Dispatcher, streams: Streams | None) -> None:
        stream: Any = partial(streams.on_threads) if streams else None
        if streams:  # threads of their own: those of calls must not wait for the next message
            stream.experimental_thread_pool = ThreadPoolExecutor(MOST, thread_name_prefix="stream-rpc")
        self._dispatcher, self._handlers = dispatcher, _Handlers(dispatcher, self._answer, stream)

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        """As gRPC has it."""
        return self._handlers.of(details.method) or continuation(details)

    def _answer(self, method: str, data: bytes, context: Any) -> bytes:
        answer = finished(_answered(self._dispatcher, method, data, context))
        if answer.status is not OK:
            context.abort(answer.status, answer.message)
        return answer.reply


class AsyncInterceptor(grpc.aio.ServerInterceptor):
    """Hands what comes to a server on asyncio to a dispatcher."""

    def __init__(self, dispatcher: Dispatcher, streams: Streams | None) -> None:
        stream = streams.on_asyncio if streams else None
        self._dispatcher, self._handlers = dispatcher, _Handlers(dispatcher, self._answer, stream)

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """As gRPC has it."""
        return self._handlers.of(details.method) or await continuation(details)

    async def _answer(self, method: str, data: bytes, context: Any) -> bytes:
        answer = await _answered(self._dispatcher, method, data, context)
        if answer.status is not OK:
            await context.abort(answer.status, answer.message)
        return answer.reply


class Adding:
    """A server to the generated add_…_to_server: keeps the methods that it adds, so that they can be called by name."""

    def __init__(self, methods: dict[str, Method], server: Any = None) -> None:
        """server: None where only the methods are wanted."""
        self._methods, self._server = methods, server

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """As the server's."""
        if self._server is not None:
            self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """As the server's."""
        self._methods |= methods_of(service, handlers)
        if self._server is not None:
            self._server.add_registered_method_handlers(service, handlers)


AddServicer = Callable[[Any], None]  # adds one servicer to a server, as the generated add_…_to_server do


def threaded(
    dispatcher: Dispatcher,
    servicers: list[AddServicer],
    threads: int,
    held: bool = False,
    streams: Streams | None = None,
) -> grpc.Server:
    """A server from a pool of threads, not started; `held`: for a port that is held for it (services/ops/ports.py).

    streams: of its own, to be stopped before it is; None: it has none.
    """
    pool, most = ThreadPoolExecutor(threads, thread_name_prefix="rpc"), _most(dispatcher, streams)
    policy: list[grpc.ServerInterceptor] = [ThreadedInterceptor(dispatcher, streams)]
    server = grpc.server(pool, interceptors=policy, options=_options(held), maximum_concurrent_rpcs=most)
    _add(server, servicers, dispatcher.methods)
    return server


def on_asyncio(
    dispatcher: Dispatcher, servicers: list[AddServicer], held: bool = False, streams: Streams | None = None
) -> grpc.aio.Server:
    """A server on the running event loop, not started; `held`, `streams`: as of `threaded`."""
    policy, most = [AsyncInterceptor(dispatcher, streams)], _most(dispatcher, streams)
    server = grpc.aio.server(interceptors=policy, options=_options(held), maximum_concurrent_rpcs=most)
    _add(server, servicers, dispatcher.methods)
    return server


def _most(dispatcher: Dispatcher, streams: Streams | None) -> int:
    """Calls of gRPC under way at most; a stream is one for as long as it is open."""
    return dispatcher.limiter.requests + (MOST if streams else 0)


def _options(held: bool) -> list[tuple[str, Any]]:
    # A port in use is an error, not a lottery, unless it is this process's own.
    return [*OPTIONS, ("grpc.so_reuseport", int(held))]


def _add(server: Any, servicers: list[AddServicer], methods: dict[str, Method]) -> None:
    for add in servicers:
        add(Adding(methods, server))
    channelz.add_channelz_servicer(server)


class LoopHealth:
    """The standard health service of a server on asyncio, set from any thread.

    The threaded one would hold a thread for every probe that watches, and with it the end of the process.
    """

    def __init__(self) -> None:
        """To be made on the server's loop."""
        self.servicer, self._loop = health.aio.HealthServicer(), asyncio.get_running_loop()

    def set(self, service: str, status: Any) -> None:
        """As the threaded one's."""
        asyncio.run_coroutine_threadsafe(self.servicer.set(service, status), self._loop)

    def enter_graceful_shutdown(self) -> None:
        """As the threaded one's."""
        asyncio.run_coroutine_threadsafe(self.servicer.enter_graceful_shutdown(), self._loop)


Health = health.HealthServicer | LoopHealth


ALIVE = "alive"  # what the health service is asked for by those who would restart a process: it answers, ready or not


def set_health(servicer: Health, ready: bool) -> None:
    """Set the answer of the standard health service."""
    states = health_pb2.HealthCheckResponse
    servicer.set("", states.SERVING if ready else states.NOT_SERVING)


def add_health(server: Any, names: list[str]) -> Health:
    """The standard health and reflection services for the services named."""
    made: Health = LoopHealth() if isinstance(server, grpc.aio.Server) else health.HealthServicer()
    set_health(made, False)
    made.set(ALIVE, health_pb2.HealthCheckResponse.SERVING)
    servicer = made.servicer if isinstance(made, LoopHealth) else made
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    return made


def health_alone(made: Health, address: str) -> tuple[Any, int]:
    """A server of the same health service and no other, without TLS, for probes that know none: not started; and its port."""
    aio = isinstance(made, LoopHealth)
    server = grpc.aio.server() if aio else grpc.server(ThreadPoolExecutor(2, thread_name_prefix="health"))
    health_pb2_grpc.add_HealthServicer_to_server(made.servicer if isinstance(made, LoopHealth) else made, server)
    return server, bind(server, address)


def bind(server: Any, address: str, credentials: Credentials | None = None) -> int:
    """Listen on host:port or unix:path; the port. credentials: its own; None: there is no TLS. Raises Unavailable when it is
    in use.
    """
    try:
        if credentials is not None and credentials.applies(address):
            port = server.add_secure_port(address, credentials.server())
        else:
            port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if not port:
        raise Unavailable(f"cannot listen on {address}: the port is in use, or the address is not this machine's")
    return int(port)
