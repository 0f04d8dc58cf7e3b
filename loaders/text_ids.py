"""Ids of text while a set is read: the number of each, and the texts that a load then names (services/core/external.py)."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loaders.convert import mask, plain, text, types, whole
from loaders.place import Place
from services.core import external
from services.core.columns import U64, Array, Ragged, among
from services.core.errors import InvalidArgument
from services.core.events import Batch
from services.core.external import MAX_EXTERNAL

ALLOWED = external.RULE
_CONTROL = r"[\x00-\x1f\x7f-\x9f\x{2028}\x{2029}\x{fffd}]"
_UUID_BYTES = 16
_AT_ONCE = 1 << 20  # texts that wait to be sorted in


class TextIds:
    """The texts of all ids that were read, each once, by number. Memory: 8 bytes and the text an id."""

    def __init__(self) -> None:
        self._numbers: U64 = np.empty(0, np.uint64)
        self._texts: Any = pa.array([], pa.large_string())
        self._waiting: list[tuple[U64, Any]] = []

    def numbers(self, array: Any) -> U64:
        """uint64[n] of a large_string array; null is 0."""
        coded = array.dictionary_encode()
        texts = coded.dictionary
        numbers = external.numbers_of(texts.to_pylist())
        self._waiting.append((numbers, texts))
        if sum(len(of) for of, _ in self._waiting) > max(_AT_ONCE, len(self._numbers)):
            self._settle()
        places = coded.indices.fill_null(len(numbers)).to_numpy(zero_copy_only=False)
        return np.asarray(np.append(numbers, np.uint64(0))[places], np.uint64)

    def texts(self, numbers: U64) -> list[str]:
        """The texts of numbers that were read."""
        self._settle()
        found: list[str] = self._texts.take(pa.array(np.searchsorted(self._numbers, numbers))).to_pylist()
        return found

    def translated(self, batch: Batch) -> Batch:
        """The batch with the ids that were no text, those that a set makes up or has as numbers, as the texts of their digits."""
        self._settle()
        columns = {name: self._of_digits(getattr(batch, name)) for name in ("user", "pin", "board", "target")}
        interests = batch.interests
        return batch.replace(**columns, interests=Ragged(interests.ends, self._of_digits(interests.values)))

    def _of_digits(self, numbers: U64) -> U64:
        strange = (numbers > 0) & ~among(numbers, self._numbers)
        if not strange.any():
            return numbers
        distinct, each = np.unique(numbers[strange], return_inverse=True)
        found = numbers.copy()
        found[strange] = self.numbers(pa.array(map(str, distinct.tolist()), pa.large_string()))[each]
        self._settle()
        return found

    def _settle(self) -> None:
        """Sort in what waits. Raises InvalidArgument for two texts with one number."""
        if not self._waiting:
            return
        numbers = np.concatenate([self._numbers, *(of for of, _ in self._waiting)])
        texts = pa.concat_arrays([self._texts, *(of for _, of in self._waiting)])
        self._waiting.clear()
        order = np.argsort(numbers, kind="stable")
        in_order = numbers[order]
        again = np.flatnonzero(in_order[1:] == in_order[:-1])
        differ = ~mask(pc.equal(texts.take(pa.array(order[again])), texts.take(pa.array(order[again + 1]))))
        if differ.any():
            first = int(again[int(differ.argmax())])
            one, other = (texts[int(order[at])].as_py() for at in (first, first + 1))
            raise InvalidArgument(f"ids {one!r} and {other!r} have one hash ({in_order[first]}): change one of them")
        once = order[np.append(True, in_order[1:] != in_order[:-1])[: len(order)]]
        self._numbers, self._texts = numbers[once], texts.take(pa.array(once))


_reading: ContextVar[TextIds | None] = ContextVar("text_ids", default=None)


def being_read() -> TextIds | None:
    """Where ids of text go; None where ids are numbers."""
    return _reading.get()


@contextmanager
def as_text(ids: TextIds | None) -> Iterator[None]:
    """Within it, ids are read as text; None: as numbers."""
    token = _reading.set(ids)
    try:
        yield
    finally:
        _reading.reset(token)


def settle() -> None:
    """Raise InvalidArgument for two texts with one hash among those that were read."""
    ids = being_read()
    if ids is not None:
        ids.texts(np.empty(0, np.uint64))


def as_stated(numbers: U64) -> list[str]:
    """The ids as their file states them, for the names that a set makes up: texts where ids are text, else digits."""
    ids = being_read()
    return list(map(str, numbers.tolist())) if ids is None else ids.texts(numbers)


def read_texts(ids: TextIds, column: Any, place: Place, null: bool) -> U64:
    """uint64[n] of a column of text, of UUIDs, or of whole numbers, which are the texts of their digits.

    Raises InvalidArgument naming the file, column, row and value that is no id.
    """
    allowed = f"{ALLOWED}, or null" if null else ALLOWED
    array = uuids(column)
    if array is None:
        array = plain(column)
        if types.is_large_string(array.type) or types.is_large_binary(array.type) or types.is_null(array.type):
            array = text(array, place, allowed)
        else:
            numbers, _ = whole(
                array, pa.int64() if types.is_signed_integer(array.type) else pa.uint64(), place, allowed
            )
            array = numbers.cast(pa.large_string())
    present = mask(array.is_valid())
    if not null:
        place.refuse(~present, array, allowed)
    place.refuse(present & _is_bad(array), array, allowed)
    return ids.numbers(array)


def uuids(column: Any) -> Any:
    """A column of UUIDs, which files have as 16 bytes, as their texts; None for any other."""
    if str(getattr(column.type, "extension_name", "")) != "arrow.uuid":
        return None
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return pa.array(
        [None if of is None else str(of) for chunk in chunks for of in chunk.to_pylist()], pa.large_string()
    )


def _is_bad(array: Any) -> Array:
    """bool[n]: which texts are no ids; the same rule as external.is_id."""
    texts = array.fill_null("x")
    lengths = pc.binary_length(texts)
    bad = pc.or_(pc.equal(lengths, 0), pc.greater(lengths, MAX_EXTERNAL))
    for other in (
        pc.match_substring_regex(texts, _CONTROL),
        pc.not_equal(pc.utf8_trim_whitespace(texts), texts),
        pc.is_in(texts, pa.array([".", ".."], pa.large_string())),
    ):
        bad = pc.or_(bad, other)
    return mask(bad)
