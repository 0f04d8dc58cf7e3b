"""A cache bounded in bytes: entries that are read again stay, the others are evicted.

The entry to leave is chosen by second chance (Corbató's clock, 1968): the oldest entry leaves, unless it was read since it
last came up; then it becomes the newest. It is a dictionary, so looking up hundreds of keys is one pass in C.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K", int, bytes)
V = TypeVar("V")


class SecondChanceCache(Generic[K, V]):
    """Values by key. Any thread may read at any time; those that change it hold a lock of their own."""

    def __init__(self, max_bytes: int, size: Callable[[V], int]) -> None:
        """size: the bytes that a value takes with its key and its place in the cache."""
        self._max, self._size = max_bytes, size
        self._values: OrderedDict[K, V] = OrderedDict()
        self._read: set[K] = set()
        self._bytes, self._full = 0, False

    def get(self, keys: Sequence[K]) -> list[V | None]:
        """The value of each key; None where none is cached."""
        if self._full:  # before, no entry has to leave, so reads need not be remembered
            if len(self._read) > 2 * len(self._values):  # most were asked for and are not cached
                self._read.clear()
            self._read.update(keys)
        return list(map(self._values.get, keys))

    def put(self, keys: Iterable[K], values: Iterable[V]) -> None:
        """Cache the value of each key; others are evicted."""
        cached, size, more = self._values, self._size, 0
        for key, value in zip(keys, values, strict=True):
            before = cached.get(key)
            cached[key] = value
            more += size(value) if before is None else size(value) - size(before)
        self._bytes += more
        while self._bytes > self._max:
            self._evict()

    def _evict(self) -> None:
        self._full = True
        first = next(iter(self._values))
        if first in self._read:
            self._values.move_to_end(first)
            self._read.discard(first)
        else:
            self.drop((first,))

    def drop(self, keys: Iterable[K]) -> None:
        """Forget these keys."""
        values = self._values
        for key in keys:
            value = values.pop(key, None)
            if value is not None:
                self._bytes -= self._size(value)

    def clear(self) -> None:
        """Forget every key."""
        self._values.clear()
        self._read.clear()
        self._bytes, self._full = 0, False

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def bytes(self) -> int:
        """The bytes that the values take."""
        return self._bytes
