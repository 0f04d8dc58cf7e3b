"""What travels with a request through every call it causes: what is left of its time, and the token it must see."""

import time
from contextvars import ContextVar, Token
from dataclasses import dataclass

TOKEN_KEY = "feedmesh-token-bin"


@dataclass(frozen=True, slots=True)
class Request:
    """deadline: on time.monotonic()'s clock, in seconds. token: services/core/tokens.py; empty: none."""

    deadline: float
    token: bytes = b""

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.deadline - time.monotonic())


_current: ContextVar[Request | None] = ContextVar("request", default=None)


def current() -> Request | None:
    """The request being served here, if any."""
    return _current.get()


class serving:  # noqa: N801 - a context manager; one made of a generator takes three times as long
    """Serve within `timeout` seconds, and never past the deadline of a request that is already being served here.

    `token`: what reads must see; None: what the request that is being served must see, b"": nothing in particular.
    """

    __slots__ = ("_reset", "_timeout", "_token")

    def __init__(self, timeout: float, token: bytes | None = None) -> None:
        self._timeout, self._token = timeout, token

    def __enter__(self) -> Request:
        outer, deadline, token = _current.get(), time.monotonic() + self._timeout, self._token
        if outer is not None:
            deadline, token = min(deadline, outer.deadline), outer.token if token is None else token
        request = Request(deadline, token or b"")
        self._reset: Token[Request | None] = _current.set(request)
        return request

    def __exit__(self, *raised: object) -> None:
        _current.reset(self._reset)
