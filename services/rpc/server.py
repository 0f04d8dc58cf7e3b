"""The gRPC server of a process: from threads for stores, on asyncio for pipelines, with one call policy for both.

Every request gets a deadline, waits for its token, is counted, and answers errors of the mesh as their status. Health,
reflection, channelz and the mesh's own status service come with it.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError
from grpc_channelz.v1 import channelz
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from protos import calls_pb2 as pb
from services.core import context as request_context
from services.core import tokens
from services.core.errors import DeadlineExceeded, InvalidArgument, MeshError, Unavailable, described
from services.core.metrics import Metrics
from services.core.tokens import Reached
from services.rpc.together import MANY
from services.rpc.under_way import UnderWay

logger = logging.getLogger(__name__)
MAX_MESSAGE = 16 << 20
MAX_UNDER_WAY = 16 * MAX_MESSAGE  # bytes of all requests of a server on asyncio; one on threads has one for each thread
DEFAULT_DEADLINE_S = 10.0
NO_DEADLINE_S = 1e9  # what has more time left than this was given no deadline: threads see 292 billion years
OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", 4 * MAX_MESSAGE),
    ("grpc.max_metadata_size", 2 * tokens.MAX_BYTES),  # a token of every partition and what stands beside it
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
]
OWN = ("/grpc.", "/feedmesh.Status/")  # asked by probes: neither counted nor made to wait
WaitForToken = Callable[[Reached, float], None]
Noticed = Callable[[Exception], None]  # is told of each error that a call ends with


def ignored(_: Exception) -> None:
    """For a process that keeps nothing."""


class _Measured:
    """One call: counted when it is over, as ended with `status`."""

    __slots__ = ("_method", "_metrics", "_started", "status")

    def __init__(self, metrics: Metrics, method: str) -> None:
        self._metrics, self._method, self.status = metrics, method, grpc.StatusCode.OK

    def __enter__(self) -> "_Measured":
        self._started = time.perf_counter()
        return self

    def __exit__(self, *raised: object) -> None:
        self._metrics.observe(self._method, time.perf_counter() - self._started, self.status)


def _timeout(context: Any) -> float:
    """Seconds left of the call. Raises DeadlineExceeded when it waited too long for its turn: nobody is listening."""
    remaining = context.time_remaining()
    if remaining is None or remaining > NO_DEADLINE_S:
        return DEFAULT_DEADLINE_S
    if remaining <= 0:
        raise DeadlineExceeded("the deadline had passed before the call was served")
    return min(float(remaining), 3600.0)


def _token(context: Any) -> bytes:
    return next((value for key, value in context.invocation_metadata() or () if key == request_context.TOKEN_KEY), b"")


def _reader(handler: Any, method: str) -> Callable[[bytes], Any]:
    """Reads requests; what is none becomes an error for `_read` to raise, as grpc would blame the server for it."""

    def read(data: bytes) -> Any:
        try:
            return handler.request_deserializer(data)
        except DecodeError:
            return InvalidArgument(
                f"the {len(data)} bytes are no request of {method}: cut short, or of another message"
            )

    return read


def _read(request: Any) -> Any:
    if isinstance(request, InvalidArgument):
        raise request
    return request


def _sized(read: Callable[[bytes], Any]) -> Callable[[bytes], tuple[Any, int]]:
    """Reads requests, with their sizes in bytes."""
    return lambda data: (read(data), len(data))


def as_status(error: Exception, method: str) -> tuple[grpc.StatusCode, str]:
    """How an error of a method crosses the wire."""
    if isinstance(error, MeshError):
        return error.status, str(error)
    if isinstance(error, NotImplementedError):
        return grpc.StatusCode.UNIMPLEMENTED, f"{method} is not served here"
    return grpc.StatusCode.INTERNAL, described(error, f"{method} failed")


class _Method(NamedTuple):
    """A unary method of this server's own: what it is counted as, and how its bytes become an answer's."""

    name: str
    read: Callable[[bytes], Any]
    answer: Callable[[Any, Any], Any]
    write: Callable[[Any], bytes]


Methods = dict[str, _Method]  # by name on the wire


def methods_of(service: str, handlers: dict[str, Any]) -> Methods:
    """Those of a service's handlers (of gRPC, by name) that may come several in one call."""
    methods = {}
    for name, handler in handlers.items():
        method = f"/{service}/{name}"
        if handler.unary_unary is not None and not method.startswith(OWN):
            read = _reader(handler, method)
            methods[method] = _Method(name, read, handler.unary_unary, handler.response_serializer)
    return methods


class _Adding:
    """A server to the generated add_…_to_server: keeps what it adds, so that methods can be called by name."""

    def __init__(self, server: Any, methods: Methods) -> None:
        self._server, self._methods = server, methods

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """As the server's."""
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """As the server's."""
        self._methods |= methods_of(service, handlers)
        self._server.add_registered_method_handlers(service, handlers)


def _refuse(method: str, into: pb.Answer) -> None:
    into.status = grpc.StatusCode.UNIMPLEMENTED.value[0]
    into.message = f"{method[:100]} is not served here together with other calls"


def _several_handler(answer: Callable[[Any, Any], Any], reading: Callable[[Any], Any] = lambda read: read) -> Any:
    handler = grpc.unary_unary_rpc_method_handler(answer, pb.CallsRequest.FromString, pb.CallsReply.SerializeToString)
    return grpc.unary_unary_rpc_method_handler(answer, reading(_reader(handler, MANY)), handler.response_serializer)


class Gate(grpc.ServerInterceptor):
    """The call policy for a threaded server. methods: its own, of which several may also come in one call."""

    def __init__(self, metrics: Metrics, wait: WaitForToken | None, noticed: Noticed = ignored) -> None:
        self.methods: Methods = {}
        self._metrics, self._wait, self._noticed = metrics, wait, noticed
        self._wrapped: dict[str, Any] = {MANY: self._several()}

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Wrap unary answers, once a method; streams and the standard services pass."""
        method = details.method
        if method not in self._wrapped:
            handler = continuation(details)
            if handler is None or handler.unary_unary is None or method.startswith(OWN):
                return handler
            self._wrapped[method] = self._alone(method, handler)
        return self._wrapped[method]

    def _alone(self, name: str, handler: Any) -> Any:
        method = name.rsplit("/", 1)[-1]

        def answer(request: Any, context: Any) -> Any:
            with _Measured(self._metrics, method) as call:
                try:
                    token = _token(context)
                    with request_context.serving(_timeout(context), token) as serving:
                        if self._wait is not None:
                            self._wait(tokens.decode(token), serving.remaining())
                        return handler.unary_unary(_read(request), context)
                except Exception as error:
                    self._noticed(error)
                    call.status, message = as_status(error, name)
                context.abort(call.status, message)

        return grpc.unary_unary_rpc_method_handler(answer, _reader(handler, method), handler.response_serializer)

    def _several(self) -> Any:
        def answer(request: Any, context: Any) -> Any:
            try:
                return self.answers(_read(request).calls, _timeout(context), _token(context), context)
            except Exception as error:
                status, message = as_status(error, MANY)
            context.abort(status, message)

        return _several_handler(answer)

    def answers(self, calls: Sequence[pb.Call], timeout: float, token: bytes, context: Any = None) -> pb.CallsReply:
        """Of calls that came together: one after the other, under one deadline (seconds from now) and one token.

        Raises what waiting for the token raises; an error of one call is that call's answer.
        """
        with request_context.serving(timeout, token) as serving:
            if self._wait is not None:
                self._wait(tokens.decode(token), serving.remaining())
            reply = pb.CallsReply()
            for call in calls:
                self._one(call, context, reply.answers.add())  # in its place: a message put into another is copied
            return reply

    def _one(self, call: pb.Call, context: Any, into: pb.Answer) -> None:
        method = self.methods.get(call.method)
        if method is None:
            return _refuse(call.method, into)
        with _Measured(self._metrics, method.name) as measured:
            try:
                into.reply = method.write(method.answer(_read(method.read(call.request)), context))
            except Exception as error:
                self._noticed(error)
                measured.status, into.message = as_status(error, call.method)
                into.status = measured.status.value[0]


class AsyncGate(grpc.aio.ServerInterceptor):
    """The call policy for a server on asyncio. Such a process holds no view, so there is no token to wait for: it passes on."""

    def __init__(self, metrics: Metrics, max_under_way: int = MAX_UNDER_WAY, noticed: Noticed = ignored) -> None:
        self.methods: Methods = {}
        self._metrics, self._under_way, self._noticed = metrics, UnderWay(max_under_way), noticed
        self._wrapped: dict[str, Any] = {MANY: self._several()}

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """Wrap unary answers, once a method; streams and the standard services pass."""
        method = details.method
        if method not in self._wrapped:
            handler = await continuation(details)
            if handler is None or handler.unary_unary is None or method.startswith(OWN):
                return handler
            self._wrapped[method] = self._alone(method, handler)
        return self._wrapped[method]

    def _alone(self, name: str, handler: Any) -> Any:
        method = name.rsplit("/", 1)[-1]

        async def answer(sized: tuple[Any, int], context: Any) -> Any:
            request, size = sized
            with _Measured(self._metrics, method) as call:
                try:
                    with self._under_way.holding(size), request_context.serving(_timeout(context), _token(context)):
                        return await handler.unary_unary(_read(request), context)
                except Exception as error:
                    self._noticed(error)
                    call.status, message = as_status(error, name)
                await context.abort(call.status, message)

        read = _sized(_reader(handler, method))
        return grpc.unary_unary_rpc_method_handler(answer, read, handler.response_serializer)

    def _several(self) -> Any:
        async def answer(sized: tuple[Any, int], context: Any) -> Any:
            request, size = sized
            try:
                with self._under_way.holding(size):
                    return await self.answers(_read(request).calls, _timeout(context), _token(context), context)
            except Exception as error:
                status, message = as_status(error, MANY)
            await context.abort(status, message)

        return _several_handler(answer, _sized)

    async def answers(
        self, calls: Sequence[pb.Call], timeout: float, token: bytes, context: Any = None
    ) -> pb.CallsReply:
        """Of calls that came together: at once, under one deadline (seconds from now) and one token."""
        reply = pb.CallsReply()
        with request_context.serving(timeout, token):
            work = [self._one(call, context, reply.answers.add()) for call in calls]
            if len(work) == 1:
                await work[0]
            else:
                await asyncio.gather(*work)
            return reply

    async def _one(self, call: pb.Call, context: Any, into: pb.Answer) -> None:
        method = self.methods.get(call.method)
        if method is None:
            return _refuse(call.method, into)
        with _Measured(self._metrics, method.name) as measured:
            try:
                into.reply = method.write(await method.answer(_read(method.read(call.request)), context))
            except Exception as error:
                self._noticed(error)
                measured.status, into.message = as_status(error, call.method)
                into.status = measured.status.value[0]


AddServicer = Callable[[Any], None]  # adds one servicer to a server, as the generated add_…_to_server do


def threaded(
    gate: Gate, servicers: list[AddServicer], threads: int, max_requests: int, held: bool = False
) -> grpc.Server:
    """A server from a pool of threads, not started; `held`: for a port that is held for it (services/ops/ports.py)."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="rpc")
    server = grpc.server(pool, interceptors=[gate], options=_options(held), maximum_concurrent_rpcs=max_requests)
    _add(server, servicers, gate.methods)
    return server


def on_asyncio(gate: AsyncGate, servicers: list[AddServicer], max_requests: int, held: bool = False) -> grpc.aio.Server:
    """A server on the running event loop, not started; `held`: for a port that is held for it."""
    server = grpc.aio.server(interceptors=[gate], options=_options(held), maximum_concurrent_rpcs=max_requests)
    _add(server, servicers, gate.methods)
    return server


def _options(held: bool) -> list[tuple[str, Any]]:
    # A port in use is an error, not a lottery, unless it is this process's own.
    return [*OPTIONS, ("grpc.so_reuseport", int(held))]


def _add(server: Any, servicers: list[AddServicer], methods: Methods) -> None:
    for add in servicers:
        add(_Adding(server, methods))
    channelz.add_channelz_servicer(server)


class LoopHealth:
    """The standard health service of a server on asyncio, told from any thread.

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


def set_health(servicer: Health, ready: bool) -> None:
    """Tell the standard health service's probes."""
    states = health_pb2.HealthCheckResponse
    servicer.set("", states.SERVING if ready else states.NOT_SERVING)


def add_health(server: Any, names: list[str]) -> Health:
    """The standard health and reflection services for the services named."""
    made: Health = LoopHealth() if isinstance(server, grpc.aio.Server) else health.HealthServicer()
    set_health(made, False)
    servicer = made.servicer if isinstance(made, LoopHealth) else made
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    return made


def bind(server: Any, address: str) -> int:
    """Listen on host:port or unix:path; the port. Raises Unavailable when it is in use."""
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if not port:
        raise Unavailable(f"cannot listen on {address}: the port is in use, or the address is not this machine's")
    return int(port)
