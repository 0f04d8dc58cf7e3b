"""A column family as it is read: every read is checked, and damage is an error and never an end.

rocksdict's `items`, `keys` and `values` end without a word where a block is damaged, as if there were no more keys. Its
iterator knows, when it is asked. So this is the only place that iterates, and it asks at each end.

`items` takes half of the time of an iterator that is moved from Python. So a scan forwards takes `items`, and then an iterator
as of the same write seeks what would follow: it must find nothing, and no damage.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, overload

from rocksdict import ReadOptions

T = TypeVar("T")
ATTEMPTS = 3  # at two iterators as of one write


class Family:
    """The keys and values of one column family."""

    def __init__(self, raw: Any, refused: Callable[[Exception], Exception], looks: bool = False) -> None:
        """raw: rocksdict's own, for calls other than get and scan: flush, compact, ingest; refused: the error to raise
        instead of an error of RocksDB; looks: another process may write the database.
        """
        self.raw, self._refused, self._looks = raw, refused, looks

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
        if not (backwards or self._looks):
            return self._forwards(from_key, to_key)
        at, bounds = self._opened(from_key, to_key, backwards)
        return self._each(at, bounds, from_key, backwards, lambda: (at.key(), at.value()))

    def keys(self, from_key: bytes = b"", to_key: bytes = b"", backwards: bool = False) -> Iterator[bytes]:
        """The keys, as `items` has them."""
        at, bounds = self._opened(from_key, to_key, backwards)
        return self._each(at, bounds, from_key, backwards, at.key)

    def values(self, from_key: bytes = b"", to_key: bytes = b"", backwards: bool = False) -> Iterator[bytes]:
        """The values, as `items` has them."""
        return (value for _, value in self.items(from_key, to_key, backwards))

    def _forwards(self, from_key: bytes, to_key: bytes) -> Iterator[tuple[bytes, bytes]]:
        raw, bounds, own = self.raw, _bounds(to_key), _bounds(to_key)
        for _ in range(ATTEMPTS):
            try:
                before = raw.latest_sequence_number()
                found, at = raw.items(from_key=from_key, read_opt=bounds), raw.iter(own)
                alike = raw.latest_sequence_number() == before
            except Exception as error:
                raise self._refused(error) from None
            if alike:  # else something was written in between, which one of the two may show
                return self._to_end(found, bounds, from_key, at, own)
        at, own = self._opened(from_key, to_key, False)
        return self._each(at, own, from_key, False, lambda: (at.key(), at.value()))

    def _to_end(
        self, found: Iterator[tuple[bytes, bytes]], bounds: ReadOptions, from_key: bytes, at: Any, own: ReadOptions
    ) -> Iterator[tuple[bytes, bytes]]:
        """Both bounds are held by this frame, as by that of `_each`."""
        entry = None
        for entry in found:
            yield entry
        try:
            at.seek(from_key if entry is None else entry[0] + b"\0")
            more = at.valid()
            at.status()
        except Exception as error:
            raise self._refused(error) from None
        if more:
            raise self._refused(RuntimeError(f"a scan ended before its last key, at {at.key().hex()}"))

    def _opened(self, from_key: bytes, to_key: bytes, backwards: bool) -> tuple[Any, ReadOptions]:
        """rocksdict's iterator at its first key, and its bounds."""
        bounds = _bounds(to_key)
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


def _bounds(to_key: bytes) -> ReadOptions:
    bounds = ReadOptions()
    if to_key:
        bounds.set_iterate_upper_bound(to_key)
    return bounds
