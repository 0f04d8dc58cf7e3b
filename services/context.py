"""What travels with a request through every call it causes: what is left of its time, and the token it must see."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

TOKEN_KEY = "feedmesh-token-bin"


@dataclass(frozen=True, slots=True)
class Request:
    """deadline: on time.monotonic()'s clock, in seconds. token: services/tokens.py; empty: none."""

    deadline: float
    token: bytes = b""

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.deadline - time.monotonic())


_current: ContextVar[Request | None] = ContextVar("request", default=None)


def current() -> Request | None:
    """The request being served here, if any."""
    return _current.get()


@contextmanager
def serving(timeout: float, token: bytes | None = None) -> Iterator[Request]:
    """Serve within `timeout` seconds, and never past the deadline of a request that is already being served here.

    `token`: what reads must see; None: what the request that is being served must see, b"": nothing in particular.
    """
    outer = _current.get()
    deadline = time.monotonic() + timeout
    if outer is not None:
        deadline, token = min(deadline, outer.deadline), outer.token if token is None else token
    request = Request(deadline, token or b"")
    reset = _current.set(request)
    try:
        yield request
    finally:
        _current.reset(reset)
