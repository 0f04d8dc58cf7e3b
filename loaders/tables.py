"""Reads the Parquet files that people bring: the values that a column may hold, and messages about others.

A table whose rows are in order of date is read a row group at a time; any other is sorted in memory.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loaders.convert import checked, lists, mask, numbers, plain, text, types
from loaders.dataset import texts
from loaders.dates import NO_DATE, read_dates
from loaders.folder import close_to
from loaders.ids import read_ids
from loaders.parts import TableFile, parts_of, readable
from loaders.place import Place, shown
from services.core.columns import Array, Ragged
from services.core.errors import InvalidArgument
from services.core.events import MAX_INTERESTS, MAX_TEXT
from services.core.texts import CONTROL, LINK, LINK_RULE, TEXT_RULE

Decoded = dict[str, Any]  # column -> array of n, or Ragged of n
Rule = Callable[[Path, Decoded, int], None]  # (file, columns of a row group, position of its first row)
LINKS = f"{LINK_RULE}, or null"
Decoder = Callable[[Any, Place], Any]


@dataclass(frozen=True, slots=True)
class Column:
    """How a column is read, and whether a file must have it."""

    decode: Decoder
    required: bool = True


def _words(column: Any, place: Place, known: dict[str, int], null: int | None) -> Array:
    """uint8[n]: the code of each word. A dictionary's words are looked up once each."""
    allowed = f"one of {', '.join(known)}{'' if null is None else ', or null'}"
    array = _whole(column)
    if not types.is_dictionary(array.type):
        array = text(plain(array), place, allowed).dictionary_encode()
    words = text(plain(array.dictionary), place, allowed).to_pylist()
    table = np.array([*(known.get(word, -1) for word in words), -1 if null is None else null])
    codes = table[array.indices.fill_null(len(table) - 1).to_numpy(zero_copy_only=False)]
    place.refuse(codes < 0, array, allowed)
    return np.asarray(codes, np.uint8)


def _shares(column: Any, place: Place) -> Array:
    allowed = "numbers from 0 to 1, or null"
    array = numbers(plain(column), place, allowed)
    values = checked(array, pa.float64(), place, allowed).fill_null(np.nan).to_numpy(zero_copy_only=False)
    place.refuse((values < 0) | (values > 1), values, allowed)  # before float32 rounds values just above 1
    return np.asarray(values, np.float32)


def _strings(column: Any, place: Place) -> Ragged:
    array = text(plain(column), place, "text, or null").fill_null("")
    bad = mask(pc.match_substring_regex(array, CONTROL))
    place.refuse(bad, array, TEXT_RULE)
    if len(array) and pc.max(pc.binary_length(array)).as_py() > MAX_TEXT:
        return texts(array.to_pylist())
    return runs_of_bytes(array)


def _links(column: Any, place: Place) -> Ragged:
    array = text(plain(column), place, LINKS).fill_null("")
    place.refuse(~mask(pc.match_substring_regex(array, LINK)), array, LINKS)
    place.refuse(mask(pc.greater(pc.binary_length(array), MAX_TEXT)), array, f"links of at most {MAX_TEXT} bytes")
    return runs_of_bytes(array)


def runs_of_bytes(array: Any) -> Ragged:
    """The bytes of a large_string or large_binary array without nulls, as they lie."""
    _, offsets, data = array.buffers()
    if not len(array):
        return Ragged.empty(0)
    ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    values = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]] if data else np.empty(0, np.uint8)
    return Ragged((ends[1:] - ends[0]).astype(np.uint32), values)


def _lists(column: Any, place: Place) -> Ragged:
    allowed = f"lists of at most {MAX_INTERESTS} ids, or null"
    lengths, inner = lists(column, place, allowed)
    place.refuse(lengths > MAX_INTERESTS, lengths, f"a list's length; {allowed}")
    ends = np.cumsum(lengths)
    return Ragged(
        ends.astype(np.uint32), read_ids(inner, Inner(place.path, place.column, place.row, ends=ends), null=False)
    )


@dataclass(frozen=True, slots=True)
class Inner(Place):
    """Of a value within a list: its row is that of the list. ends: int64[n], where each row's list ends."""

    ends: Array = field(kw_only=True)

    def refuse_row(self, row: int, value: Any, allowed: str) -> NoReturn:
        """Raise for the list that has the value."""
        outer = Place(self.path, self.column, self.row)
        outer.refuse_row(int(np.searchsorted(self.ends, row, side="right")), value, allowed)


def _whole(column: Any) -> Any:
    """A column's chunks as one array, which may be a dictionary."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return pa.concat_arrays(column.unify_dictionaries().chunks) if column.num_chunks else pa.array([], column.type)


def ident(required: bool = True) -> Column:
    """Ids of any type (ids.py). Not required: the column or a value may be missing, read as 0."""
    return Column(partial(read_ids, null=not required), required)


def date(latest: int, required: bool = False) -> Column:
    """Dates, read as int64 Unix ms; a missing one is NO_DATE."""
    return Column(partial(read_dates, null=not required, latest=latest), required)


def word(known: dict[str, int], missing: int | None = None) -> Column:
    """One of some words, read as its uint8 code; null is `missing`, or refused without one."""
    return Column(partial(_words, known=known, null=missing), missing is None)


TEXT = Column(_strings, required=False)
NAME = Column(_strings, required=True)
LINK_TEXT = Column(_links, required=False)
SHARE = Column(_shares, required=False)
LIST = Column(_lists, required=False)


class InputTable:
    """One table, checked when it is opened, and then read in order of date.

    `path` is its file or folder of parts. `dates` is (earliest, latest) in Unix ms or None when it has no dates; `notes`
    name the columns that are not read. Raises InvalidArgument naming the file, column and row of what is missing or not
    allowed.
    """

    def __init__(self, path: Path, spec: dict[str, Column], rule: Rule | None = None):
        """`rule` refuses rows for a reason that no column has alone."""
        self.path, self.spec, self._rule = path, spec, rule
        self.parts = parts_of(path)
        for part in self.parts:
            _check_names(part, spec)
        self.has = [name for name in spec if any(_present(part, name, spec[name]) for part in self.parts)]
        self.notes = [f"{path.name}: {line}" for line in _unread(self.parts, spec)]
        self._words = [name for name in self.has if getattr(spec[name].decode, "func", None) is _words]
        self._stored = [(part, i) for part in self.parts for i in range(len(part.groups))]
        self.groups = [part.groups[i] for part, i in self._stored]
        self.size = sum(self.groups)
        self.sorted, self.dates = self._check()
        if not self.sorted:
            self.groups = [self.size]

    def _check(self) -> tuple[bool, tuple[int, int] | None]:
        """Decode everything once; whether the rows are in order of date, and the dates' range."""
        in_order, last, low, high = True, NO_DATE, np.iinfo(np.int64).max, NO_DATE
        for i in range(len(self._stored)):
            decoded = self._decoded(i)
            if self._rule:
                part, group = self._stored[i]
                self._rule(part.path, decoded, sum(part.groups[:group]))
            at_ms = decoded.get("at", np.empty(0, np.int64))
            if len(at_ms):
                in_order = in_order and int(at_ms[0]) >= last and bool((at_ms[1:] >= at_ms[:-1]).all())
                dated = at_ms[at_ms != NO_DATE]
                last, low, high = int(at_ms[-1]), min(low, int(dated.min(initial=low))), max(high, int(at_ms.max()))
        return in_order, (low, high) if high != NO_DATE else None

    def _decoded(self, i: int) -> Decoded:
        """The i-th row group as stored; a column that this part lacks is null."""
        part, group = self._stored[i]
        arrays = part.columns(group, self.has, self._words)
        row, blank = sum(part.groups[:group]), pa.nulls(part.groups[group])
        decoded: Decoded = {}
        for name in self.has:
            with readable(part.path):
                decoded[name] = self.spec[name].decode(arrays.get(name, blank), Place(part.path, name, row))
        return decoded

    def group(self, i: int) -> Decoded:
        """The i-th run of rows in order of date, as decoded columns; `groups` has their lengths."""
        if self.sorted:
            return self._decoded(i)
        every = [self._decoded(i) for i in range(len(self._stored))]
        joined = {name: _join([decoded[name] for decoded in every]) for name in self.has}
        order = np.argsort(joined["at"], kind="stable")
        return {name: c.take(order) if isinstance(c, Ragged) else c[order] for name, c in joined.items()}


def _join(columns: list[Any]) -> Any:
    return Ragged.concat(columns) if isinstance(columns[0], Ragged) else np.concatenate(columns)


def _present(part: TableFile, name: str, column: Column) -> bool:
    """Whether the part has the column; one that may be missing and has no value at all counts as missing."""
    if name in part.types:
        return column.required or not types.is_null(part.types[name])
    return name in part.constants


def _check_names(part: TableFile, spec: dict[str, Column]) -> None:
    """Refuse a part that lacks a required column, has one twice, or has one that is probably misspelt."""
    twice = [name for name in spec if part.names.count(name) > 1]
    if twice:
        raise InvalidArgument(
            f"{part.path}: column {twice[0]} is there {part.names.count(twice[0])} times, and which is meant is not said"
        )
    names = [*part.types, *part.constants]
    lacking = [name for name in spec if name not in names]
    meant = {close: name for name in names if name not in spec and (close := close_to(name, lacking))}
    needed = [name for name in lacking if spec[name].required]
    for name in [*needed, *meant][:1]:
        hint = f"; column {meant[name]!r} may be meant: rename it to {name}, or drop it" if name in meant else ""
        required = ", ".join(key for key, column in spec.items() if column.required)
        rest = ", ".join(key for key, column in spec.items() if not column.required)
        raise InvalidArgument(
            f"{part.path}: no column {name}; required are {required}; others known are {rest or 'none'}; "
            f"the file has {', '.join(shown(each) for each in names) or 'no columns'}{hint}"
        )


def _unread(parts: list[TableFile], spec: dict[str, Column]) -> list[str]:
    """A line on the columns that are not known, for people."""
    others = sorted({shown(name) for part in parts for name in [*part.types, *part.constants] if name not in spec})
    return [f"columns {', '.join(others)} are not read; known are {', '.join(spec)}"] if others else []
