"""A call context travels with a request through every call that it causes.

Its deadline travels as each transport has it: as gRPC's timeout, or as an instant in the frame of a Unix socket. All other
fields are one message, `CallContext` of protos/calls.proto, in one key of gRPC's metadata or in one field of the frame. The
message is written once, where a field is set, and its bytes are passed on as they are. So a new field is added to that
message and to this module, and to nothing else; a call costs no more for it.
"""

import math
import time
import uuid
from collections.abc import Iterable
from contextvars import ContextVar, Token
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from protos import calls_pb2 as pb
from services.core.errors import InvalidArgument

CONTEXT_KEY = "feedmesh-context-bin"  # of gRPC's metadata
TOKEN_KEY = (
    "feedmesh-token-bin"  # a token alone, from callers outside the mesh; the context's is used where there is one
)


class CallContext(NamedTuple):
    """deadline: on time.monotonic()'s clock, in seconds. token: services/core/tokens.py; empty: none.

    zone: of the process where the request began. trace_id: that of the page, its request_id. principal: for whom the call is
    made; nothing proves it yet, so nothing may be allowed by it. Each is empty where it is not known.
    """

    deadline: float
    token: bytes = b""
    zone: str = ""
    trace_id: str = ""
    principal: str = ""
    wire: bytes = b""  # all but the deadline, as it travels

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.deadline - time.monotonic())


def written(context: CallContext) -> CallContext:
    """The same, with the bytes of its fields."""
    message = pb.CallContext(
        token=context.token, zone=context.zone, trace_id=context.trace_id, principal=context.principal
    )
    return context._replace(wire=message.SerializeToString())


def received(deadline: float, wire: bytes) -> CallContext:
    """The context of a call that arrived. Raises InvalidArgument for bytes that are none."""
    if not wire:
        return CallContext(deadline)
    try:
        found = pb.CallContext.FromString(wire)
    except DecodeError:
        raise InvalidArgument(f"{CONTEXT_KEY}: the {len(wire)} bytes are no CallContext") from None
    return CallContext(deadline, found.token, found.zone, found.trace_id, found.principal, wire)


def wire_of(metadata: Iterable[Any] | None) -> bytes:
    """The bytes of the context in gRPC's metadata; a token alone is made one."""
    token = b""
    for key, value in metadata or ():
        if key == CONTEXT_KEY:
            return bytes(value)
        if key == TOKEN_KEY:
            token = value
    return written(CallContext(0.0, token)).wire if token else b""


_current: ContextVar[CallContext | None] = ContextVar("call_context", default=None)
_origin = CallContext(math.inf)  # of requests that begin in this process


def originate(zone: str) -> None:
    """Requests that begin in this process from now on have this zone."""
    global _origin  # noqa: PLW0603 - as the process' logging is
    _origin = written(CallContext(math.inf, zone=zone))


def current() -> CallContext | None:
    """The context of the request that is being served here, if any."""
    return _current.get()


def metadata() -> tuple[tuple[str, bytes], ...] | None:
    """gRPC's metadata of a call that is made here."""
    wire = (_current.get() or _origin).wire
    return ((CONTEXT_KEY, wire),) if wire else None


def page_id() -> str:
    """The request_id of a page that is made here: the trace id of its call, which has one page; else a new one."""
    context = _current.get()
    return (context.trace_id if context else "") or uuid.uuid4().hex


class entered:  # noqa: N801 - a context manager; one made of a generator takes three times as long
    """Serve within this context."""

    __slots__ = ("_context", "_reset")

    def __init__(self, context: CallContext) -> None:
        self._context = context

    def __enter__(self) -> CallContext:
        self._reset: Token[CallContext | None] = _current.set(self._context)
        return self._context

    def __exit__(self, *raised: object) -> None:
        _current.reset(self._reset)


def serving(
    timeout: float,
    token: bytes | None = None,
    *,
    zone: str | None = None,
    trace_id: str | None = None,
    principal: str | None = None,
) -> entered:
    """Serve within `timeout` seconds, and never past the deadline of a request that is already being served here.

    A field that is None is that of the request that is being served. token: reads must see it; b"": nothing in particular.
    """
    outer = _current.get() or _origin
    deadline = min(time.monotonic() + timeout, outer.deadline)
    if token is None and zone is None and trace_id is None and principal is None:
        return entered(CallContext(deadline, *outer[1:]))
    found = CallContext(
        deadline,
        outer.token if token is None else token,
        outer.zone if zone is None else zone,
        outer.trace_id if trace_id is None else trace_id,
        outer.principal if principal is None else principal,
    )
    return entered(written(found))
