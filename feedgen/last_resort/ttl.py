"""A value that is the same for all users, so that it is asked for once in a while and not for every page."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True)
class TtlValue(Generic[T]):
    """An answer that is good for `ttl_ms` of the clock of the requests, and until one request has asked for it again; 0:
    it is asked for each time.
    """

    ttl_ms: int
    _since: int = -1
    _value: T | None = field(default=None)
    _asking: bool = False

    def at_hand(self, now_ms: int) -> T | None:
        """The answer as of now, or of `ttl_ms` before; while a request asks, the one before. None: it has to be asked for."""
        if not self.ttl_ms or (now_ms // self.ttl_ms != self._since and not self._asking):
            return None
        return self._value

    @property
    def latest(self) -> T | None:
        """The latest answer, whatever its age; None before the first one."""
        return self._value

    def is_due(self, now_ms: int) -> bool:
        """Whether it is old, and no request asks again."""
        return not self._asking and (self._value is None or now_ms // max(self.ttl_ms, 1) != self._since)

    async def get(self, now_ms: int, ask: Callable[[], Awaitable[T]]) -> T:
        """The cached answer, or else the answer as of now."""
        if (value := self.at_hand(now_ms)) is not None:
            return value
        if not self.ttl_ms:
            self._value = await ask()
            return self._value
        self._asking = True
        try:
            value = await ask()
        finally:
            self._asking = False
        self._value, self._since = value, now_ms // self.ttl_ms
        return value

    def used(self, now_ms: int, ask: Callable[[], Awaitable[T]], use: Callable[[T], R]) -> R | Awaitable[R]:
        """The result of `use` on the answer: now when that is cached, and else later."""
        value = self.at_hand(now_ms)
        return self._used_later(now_ms, ask, use) if value is None else use(value)

    async def _used_later(self, now_ms: int, ask: Callable[[], Awaitable[T]], use: Callable[[T], R]) -> R:
        return use(await self.get(now_ms, ask))
