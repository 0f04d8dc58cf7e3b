"""A column family as it is read: every read is checked, and damage is an error and never an end.

rocksdict's `items`, `keys` and `values` end without a word where a block is damaged, as if there were no more keys. Its
iterator knows, when it is asked. So this is the only place that iterates, and it asks at each end.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, overload

from rocksdict import ReadOptions

T = TypeVar("T")


class Family:
    """The keys and values of one column family."""

    def __init__(self, raw: Any, refused: Callable[[Exception], Exception]) -> None:
        """raw: rocksdict's own, for calls other than get and scan: flush, compact, ingest; refused: the error to raise
        instead of an error of RocksDB.
        """
        self.raw, self._refused = raw, refused

    @overload
    def get(self, key: bytes) -> bytes | None: ...
    @overload
    def get(self, key: list[bytes]) -> list[bytes | None]: ...
    def get(self, key: bytes | list[bytes]) -> bytes | list[bytes | None] | None:
        """The value of a key, or those of a list of keys; None where there is none. Raises Damaged."""
        try:
            return self.raw.get(key)  # type: ignore[no-any-return]
        except Exception as error:
            raise self._refused(error) from None

    def items(
        self, from_key: bytes = b"", to_key: bytes = b"", backwards: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values from `from_key` to before `to_key` (empty: to the last), in order or from the last to the first.

        All are as of this call, whatever is written meanwhile. Raises Damaged as soon as the next one can't be read.
        """
        at, bounds = self._opened(from_key, to_key, backwards)
        key, value = at.key, at.value
        return self._each(at, bounds, from_key, backwards, lambda: (key(), value()))

    def keys(self, from_key: bytes = b"", to_key: bytes = b"", backwards: bool = False) -> Iterator[bytes]:
        """The keys, as `items` has them."""
        at, bounds = self._opened(from_key, to_key, backwards)
        return self._each(at, bounds, from_key, backwards, at.key)

    def values(self, from_key: bytes = b"", to_key: bytes = b"", backwards: bool = False) -> Iterator[bytes]:
        """The values, as `items` has them."""
        at, bounds = self._opened(from_key, to_key, backwards)
        return self._each(at, bounds, from_key, backwards, at.value)

    def _opened(self, from_key: bytes, to_key: bytes, backwards: bool) -> tuple[Any, ReadOptions]:
        """rocksdict's iterator at its first key, and its bounds."""
        bounds = ReadOptions()
        if to_key:
            bounds.set_iterate_upper_bound(to_key)
        try:
            at = self.raw.iter(bounds)
            if backwards:
                at.seek_to_last()
            else:
                at.seek(from_key)
        except Exception as error:
            raise self._refused(error) from None
        return at, bounds

    def _each(
        self, at: Any, bounds: ReadOptions, from_key: bytes, backwards: bool, read: Callable[[], T]
    ) -> Iterator[T]:
        """`bounds` is held by this frame: the iterator reads its bound from there, and would end anywhere without it."""
        valid, key = at.valid, at.key
        try:
            if backwards:
                while valid() and key() >= from_key:
                    yield read()
                    at.prev()
            else:
                step = at.next
                while valid():
                    yield read()
                    step()
            at.status()
        except Exception as error:
            raise self._refused(error) from None
