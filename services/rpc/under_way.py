"""How much of its requests a server holds at once."""

from collections.abc import Iterator
from contextlib import contextmanager

from services.core.errors import Exhausted


class UnderWay:
    """Bytes of the requests that a server holds at once: beyond `most`, further ones are shed. For one event loop."""

    def __init__(self, most: int) -> None:
        self._most, self._held = most, 0

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """A request of so many bytes; one alone is always taken. Raises Exhausted."""
        if self._held and self._held + size > self._most:
            raise Exhausted(
                f"requests of {self._held} bytes are under way and this one has {size}: {self._most} are allowed together; "
                "try again in a moment"
            )
        self._held += size
        try:
            yield
        finally:
            self._held -= size
