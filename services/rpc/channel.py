"""Calls to another process: within what is left of the request's time, with its token, errors as the mesh's own."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc

from services.core import context
from services.core.errors import BY_STATUS, Away, InvalidArgument, MeshError, Unavailable
from services.rpc.credentials import Credentials, is_loopback

_OPTIONS = [
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
]
_ON_THIS_MACHINE = [
    ("grpc.min_reconnect_backoff_ms", 5_000),  # also how long one attempt to connect may take
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
]
#: A machine that vanishes is noticed by the calls under way to it: by a ping that is not answered, or by data that is not
#: acknowledged within the timeout of the ping, which gRPC makes the TCP user timeout. The servers allow it (server.py).
_BETWEEN_MACHINES = [
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.keepalive_time_ms", 1_000),
    ("grpc.keepalive_timeout_ms", 500),
    ("grpc.http2.max_pings_without_data", 0),
]

#: How gRPC says that no process listens; its own words name sockets, which helps no reader of the answer.
_GONE = (
    "failed to connect",
    "Connection reset",
    "Connection refused",
    "Stream removed",
    "Socket closed",
    "GOAWAY",
    "timed out",  # of TCP
    "keepalive",
    "ping timeout",
    "No route to host",
    "Network is unreachable",
    "Broken pipe",
)

#: Why there was no TLS, in the words of BoringSSL and of gRPC's check of names.
_HANDSHAKE = re.compile(r"(?<=OPENSSL_internal:)[A-Z0-9_]+|Hostname Verification Check failed")


def options_of(address: str) -> list[tuple[str, Any]]:
    """The options of a channel to host:port."""
    return [*_OPTIONS, *(_ON_THIS_MACHINE if is_loopback(address) else _BETWEEN_MACHINES)]


def open_async(address: str, service: str = "", credentials: Credentials | None = None) -> grpc.aio.Channel:
    """A channel for asyncio to a process of this service. credentials: of the caller; None: there is no TLS."""
    if credentials is None or not credentials.applies(address):
        return grpc.aio.insecure_channel(address, options=options_of(address))
    own, options = credentials.channel(service)
    return grpc.aio.secure_channel(address, own, options=[*options_of(address), *options])


def open_sync(
    address: str,
    service: str = "",
    credentials: Credentials | None = None,
    more: Sequence[tuple[str, Any]] = (),
) -> grpc.Channel:
    """A channel for threads, with these options more; as of `open_async`."""
    if credentials is None or not credentials.applies(address):
        return grpc.insecure_channel(address, options=[*options_of(address), *more])
    own, options = credentials.channel(service)
    return grpc.secure_channel(address, own, options=[*options_of(address), *options, *more])


@contextmanager
def mesh_errors(what: str) -> Iterator[None]:
    """Turn a failed call into the MeshError of its status, its message led by `what` was called."""
    try:
        yield
    except grpc.RpcError as error:
        raise _mesh_error(error, what) from None


def _mesh_error(error: grpc.RpcError, what: str) -> MeshError:
    kind, message = BY_STATUS.get(error.code(), MeshError), error.details() or ""
    if kind is Unavailable and (found := _HANDSHAKE.search(message)):
        return Away(f"{what} is away: no TLS with it: {found[0].replace('_', ' ').lower()}")
    if kind is Unavailable and any(sign in message for sign in _GONE):
        return Away(f"{what} is away; try again in a moment")
    return kind(message if kind is InvalidArgument else f"{what}: {message}")


def terms(timeout: float) -> dict[str, Any]:
    """timeout and metadata of a call that may take `timeout` seconds, within the request being served."""
    request = context.current()
    left = timeout if request is None else min(timeout, request.remaining())
    return {"timeout": left, "metadata": context.metadata()}


async def call(method: Any, request: Any, timeout: float, what: str) -> Any:
    """Await one unary call of an asyncio stub. Raises the MeshError of its status."""
    try:
        return await method(request, **terms(timeout))
    except grpc.RpcError as error:
        raise _mesh_error(error, what) from None
