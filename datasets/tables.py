"""Reads the Parquet files that people bring: what a column may hold, and what to say when it holds something else.

A file whose rows are in order of date is read a row group at a time; any other is sorted in memory.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datasets.dataset import texts
from services.columns import Array, Ragged
from services.errors import InvalidArgument
from services.events import EARLIEST_MS, MAX_INTERESTS, MAX_TEXT

Decoded = dict[str, Any]  # column -> array of n, or Ragged of n
Rule = Callable[[Path, Decoded, int], None]  # (file, columns of a row group, position of its first row)
NO_DATE = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value is, for the message: the column of a file, and the row that its array begins with."""

    path: Path
    column: str
    row: int = 0

    def refuse(self, bad: Array, values: Any, allowed: str) -> None:
        """Raise for the first row of the mask `bad`, if there is one."""
        if bad.any():
            row = int(bad.argmax())
            value = values[row]
            value = value.as_py() if isinstance(value, pa.Scalar) else value
            self.fail(f"row {self.row + row} (from 0): {'null' if value is None else value} is not allowed: {allowed}")

    def fail(self, what: str) -> NoReturn:
        """Raise with the file and the column named."""
        raise InvalidArgument(f"{self.path}: column {self.column}, {what}")

    def expect(self, right: bool, array: Any, allowed: str) -> None:
        """Raise unless the array's type is `right`."""
        if not right:
            self.fail(f"type {array.type} is not allowed: {allowed}")


Decoder = Callable[[Any, Place], Any]


@dataclass(frozen=True, slots=True)
class Column:
    """How a column is read, and whether a file must have it."""

    decode: Decoder
    required: bool = True


def _ids(array: Any, place: Place, null: bool) -> Array:
    allowed = f"ids are integers from 1 to 2**64 - 1{', or null' if null else ''}"
    place.expect(pa.types.is_integer(array.type), array, allowed)
    if not null:
        place.refuse(_mask(array.is_null()), array, allowed)
    values = array.fill_null(0).to_numpy(zero_copy_only=False)
    place.refuse((values < 0) | ((values == 0) & _mask(array.is_valid())), values, allowed)
    return np.asarray(values, np.uint64)


def _dates(array: Any, place: Place, null: bool, latest: int) -> Array:
    kind = array.type
    allowed = (
        f"Unix milliseconds from {EARLIEST_MS} (2000-01-01) to {latest} (now), or a timestamp or date between them"
    )
    dated = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
    place.expect(pa.types.is_integer(kind) or dated, array, allowed)
    if not null:
        place.refuse(_mask(array.is_null()), array, allowed)
    if dated:
        array = array.cast(pa.timestamp("ms", getattr(kind, "tz", None)), safe=False).cast(pa.int64())
    values = array.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    present = _mask(array.is_valid())
    place.refuse(present & ((values < EARLIEST_MS) | (values > latest)), values, allowed)
    return np.where(present, values, NO_DATE)


def _words(array: Any, place: Place, known: dict[str, int], null: int | None) -> Array:
    allowed = f"one of {', '.join(known)}{'' if null is None else ', or null'}"
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    place.expect(pa.types.is_string(kind) or pa.types.is_large_string(kind), array, allowed)
    coded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    table = np.array([*(known.get(word, -1) for word in coded.dictionary.to_pylist()), -1 if null is None else null])
    codes = table[coded.indices.fill_null(len(table) - 1).to_numpy(zero_copy_only=False)]
    place.refuse(codes < 0, array, allowed)
    return np.asarray(codes, np.uint8)


def _shares(array: Any, place: Place) -> Array:
    allowed = "numbers from 0 to 1, or null"
    place.expect(pa.types.is_floating(array.type) or pa.types.is_integer(array.type), array, allowed)
    values = array.cast(pa.float32(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False)
    place.refuse((values < 0) | (values > 1), values, allowed)
    return np.asarray(values, np.float32)


def _strings(array: Any, place: Place) -> Ragged:
    place.expect(pa.types.is_string(array.type) or pa.types.is_large_string(array.type), array, "strings, or null")
    array = array.cast(pa.large_string()).fill_null("")
    if len(array) and pc.max(pc.binary_length(array)).as_py() > MAX_TEXT:
        return texts(array.to_pylist())
    _, offsets, data = array.buffers()
    ends = (
        np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
        if len(array)
        else np.zeros(1, np.int64)
    )
    values = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]] if data else np.empty(0, np.uint8)
    return Ragged((ends[1:] - ends[0]).astype(np.uint32), values)


def _lists(array: Any, place: Place) -> Ragged:
    allowed = f"lists of at most {MAX_INTERESTS} ids, or null"
    place.expect(pa.types.is_list(array.type) or pa.types.is_large_list(array.type), array, allowed)
    lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    place.refuse(lengths > MAX_INTERESTS, lengths, f"a list's length; {allowed}")
    inner = array.flatten()
    place.expect(pa.types.is_integer(inner.type), array, allowed)
    values = inner.fill_null(0).to_numpy(zero_copy_only=False)
    bad = np.zeros(len(array), bool)
    bad[np.repeat(np.arange(len(array)), lengths)[values <= 0]] = True
    place.refuse(bad, array, f"{allowed}; ids are 1 and more")
    return Ragged(np.cumsum(lengths).astype(np.uint32), values.astype(np.uint64))


def _whole(column: Any) -> Any:
    """A column's chunks as one array."""
    return pa.concat_arrays(column.unify_dictionaries().chunks) if column.num_chunks else pa.array([], column.type)


def _mask(array: Any) -> Array:
    return np.asarray(array.to_numpy(zero_copy_only=False), bool)


def ident(required: bool = True) -> Column:
    """Ids: any integer type, 1 and more. Not required: the column or a value may be missing, read as 0."""
    return Column(partial(_ids, null=not required), required)


def date(latest: int, required: bool = False) -> Column:
    """Dates, read as int64 Unix ms; a missing one is NO_DATE."""
    return Column(partial(_dates, null=not required, latest=latest), required)


def word(known: dict[str, int], missing: int | None = None) -> Column:
    """One of some words, read as its uint8 code; null is `missing`, or refused without one."""
    return Column(partial(_words, known=known, null=missing), missing is None)


TEXT = Column(_strings, required=False)
NAME = Column(_strings, required=True)
SHARE = Column(_shares, required=False)
LIST = Column(_lists, required=False)


class Table:
    """One file, checked when it is opened, and then read in order of date.

    `dates` is (earliest, latest) in Unix ms or None when the file has no dates. Raises InvalidArgument naming the
    file, column and row of what is missing or not allowed.
    """

    def __init__(self, path: Path, spec: dict[str, Column], rule: Rule | None = None):
        """`rule` refuses what no column alone can tell."""
        self.path, self.spec, self._rule = path, spec, rule
        self._file = self._open()
        self.has = [name for name in spec if self._present(name)]
        for name, column in spec.items():
            if column.required and name not in self.has:
                needed = ", ".join(key for key, each in spec.items() if each.required)
                raise InvalidArgument(f"{path}: no column {name}; required are {needed}")
        self.size = self._file.metadata.num_rows
        self.groups = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self.sorted, self.dates = self._check()
        if not self.sorted:
            self.groups = [self.size]

    def _open(self) -> Any:
        try:
            words = [name for name, column in self.spec.items() if getattr(column.decode, "func", None) is _words]
            return pq.ParquetFile(self.path, read_dictionary=words)
        except (OSError, pa.lib.ArrowInvalid) as error:
            raise InvalidArgument(f"{self.path}: not a readable Parquet file: {error}") from None

    def _present(self, name: str) -> bool:
        """Whether the file has the column; one that may be missing and has no value at all counts as missing."""
        schema = self._file.schema_arrow
        return name in schema.names and (self.spec[name].required or not pa.types.is_null(schema.field(name).type))

    def _check(self) -> tuple[bool, tuple[int, int] | None]:
        """Decode everything once; whether the rows are in order of date, and the dates' range."""
        in_order, last, low, high = True, NO_DATE, np.iinfo(np.int64).max, NO_DATE
        for row, decoded in self._stored():
            if self._rule:
                self._rule(self.path, decoded, row)
            at_ms = decoded.get("at", np.empty(0, np.int64))
            if len(at_ms):
                in_order = in_order and int(at_ms[0]) >= last and bool((at_ms[1:] >= at_ms[:-1]).all())
                dated = at_ms[at_ms != NO_DATE]
                last, low, high = int(at_ms[-1]), min(low, int(dated.min(initial=low))), max(high, int(at_ms.max()))
        return in_order, (low, high) if high != NO_DATE else None

    def _stored(self) -> Iterator[tuple[int, Decoded]]:
        """(position of its first row, columns) of each row group, as stored."""
        row = 0
        for i in range(self._file.num_row_groups):
            arrays = self._file.read_row_group(i, columns=self.has)
            yield row, self._decode(arrays, row)
            row += arrays.num_rows

    def _decode(self, table: Any, row: int) -> Decoded:
        return {name: self.spec[name].decode(_whole(table[name]), Place(self.path, name, row)) for name in self.has}

    def group(self, i: int) -> Decoded:
        """The i-th run of rows in order of date, as decoded columns; `groups` has their lengths."""
        if self.sorted:
            first = sum(self.groups[:i])
            return self._decode(self._file.read_row_group(i, columns=self.has), first)
        table = self._file.read(columns=self.has)
        at_ms = self.spec["at"].decode(_whole(table["at"]), Place(self.path, "at"))
        return self._decode(table.take(np.argsort(at_ms, kind="stable")), 0)
