"""Packed values in memory, as they were last read: a multi-get of RocksDB costs some microseconds a key, this a tenth.

While a write is under way, what it changes is not in memory, and nothing that is read meanwhile or was read before is
kept: so whoever has seen that a write was committed sees what it wrote.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice


class Cache:
    """At most `size` values; the first that came go first. Thread-safe."""

    def __init__(self, read: Callable[[list[bytes]], Sequence[bytes | None]], size: int) -> None:
        """`read`: the stored value of each key. Not the database's own method: that would keep its folder held."""
        self._read, self._size = read, size
        self._values: dict[bytes, bytes] = {}
        self._changing = threading.Lock()
        self._writes = 0  # odd while one is under way

    def get(self, keys: list[bytes]) -> list[bytes]:
        """The value of each key; empty where there is none."""
        found = list(map(self._values.get, keys))
        missing = [row for row, value in enumerate(found) if value is None]
        if missing:
            writes = self._writes
            wanted = [keys[row] for row in missing]
            read = [value or b"" for value in self._read(wanted)]
            for row, value in zip(missing, read, strict=True):
                found[row] = value
            self._keep(wanted, read, writes)
        return found  # type: ignore[return-value]

    def _keep(self, keys: list[bytes], values: list[bytes], writes: int) -> None:
        with self._changing:
            if writes != self._writes or writes % 2 or len(keys) > self._size:
                return
            self._values.update(zip(keys, values, strict=True))
            for key in list(islice(self._values, max(0, len(self._values) - self._size))):
                del self._values[key]

    @contextmanager
    def writing(self, items: Iterable[tuple[bytes, bytes]]) -> Iterator[None]:
        """Within the block these values are committed; by one thread at a time."""
        with self._changing:
            kept = [item for item in items if self._values.pop(item[0], None) is not None]
            self._writes += 1
        try:
            yield
        except BaseException:
            kept = []  # then it is not known here what is there
            raise
        finally:
            with self._changing:
                self._values.update(kept)
                self._writes += 1
