"""Reads delimited text (CSV and its relatives) into columns of text, whatever wrote it.

Compression, encoding, separator and header are found out from the bytes; each can be stated instead. Rows with more or
fewer values than the others are skipped and counted.
"""

import csv
import io
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from loaders.parts import readable
from loaders.unpack import read_unpacked
from services.core.errors import InvalidArgument

SEPARATORS = ("::", "\t", ";", ",", "|", " ")  # the first of them that every line has; | stands within values of others
UNIT = "\x1f"  # stands for "::", as Arrow's reader takes one character
LINES = 25  # looked at to find the separator and the header
LONGEST = 65_536  # bytes of one value: more is a quote that was never closed
#: Texts that tools write for a missing value: SQL, Hive, pandas, R, Python, spreadsheets. In quotes it is text.
NULLS = ["", "NULL", "null", "\\N", "NaN", "nan", "NA", "<NA>", "None", "N/A", "#N/A"]
BLOCK = 1 << 24  # bytes of text that are parsed together; no row may be longer
_STATED = re.compile(rb'"?sep=([\t;,|])"?\r?\n')
_BLANK = re.compile(rb"\A(?:[ \t]*(?:\r\n|\r|\n))*")
_LINE = re.compile(rb"\r\n|\r|\n")
_NUMBERED = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9]+")
_MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


@dataclass(frozen=True, slots=True)
class Form:
    """How a file is written, where that is stated; None: find out. columns: the names of its columns, in order."""

    columns: tuple[str, ...] | None = None
    separator: str | None = None
    encoding: str | None = None
    quotes: bool = True


def form_of(columns: str, separator: str, encoding: str, quotes: bool) -> Form:
    """The options of a command line; empty: find out. Raises InvalidArgument naming the option."""
    separator = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}.get(separator, separator)
    if separator and separator != "::" and (len(separator) != 1 or not separator.isascii() or separator in '\r\n"\0'):
        raise InvalidArgument(f"--separator {separator!r}: allowed is one character of ASCII, :: or tab")
    try:
        "".encode(encoding or "utf-8")
    except (LookupError, ValueError):
        raise InvalidArgument(
            f"--encoding {encoding!r}: not known; allowed are those of Python, such as latin-1"
        ) from None
    names = tuple(name.strip() for name in columns.split(",")) if columns else None
    return Form(names, separator or None, encoding or None, quotes)


@dataclass(slots=True)
class Text:
    """A file as text in UTF-8. names: its columns, made distinct; header: whether its first line is their names; twice:
    the names that stand there more than once; files: which are read as one, where it is in several.
    """

    path: Path
    data: bytes
    separator: str
    names: list[str]
    header: bool
    quotes: bool
    notes: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    def columns(self, wanted: list[str]) -> dict[str, Any]:
        """The wanted columns, each a large_string array of all rows; null where a value is empty or NULL."""
        for name in wanted:
            if name in self.twice:
                raise InvalidArgument(f"{self.path}: column {name} is there more than once; leave one of them")
        wrong: list[Any] = []

        def skip(row: Any) -> str:
            wrong.append(row)
            return "skip"

        with readable(self.path):
            table = pcsv.read_csv(
                pa.BufferReader(self.data),
                pcsv.ReadOptions(column_names=self.names, skip_rows=int(self.header), block_size=BLOCK),
                pcsv.ParseOptions(
                    delimiter=UNIT if self.separator == "::" else self.separator,
                    quote_char='"' if self.quotes else False,
                    newlines_in_values=self.quotes,
                    invalid_row_handler=skip,
                ),
                pcsv.ConvertOptions(
                    include_columns=wanted,
                    column_types=dict.fromkeys(wanted, pa.large_string()),
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                    null_values=NULLS,
                ),
            )
        found = {name: table[name].combine_chunks() for name in wanted}
        self._judge(found, wrong, table.num_rows)
        return {name: pc.utf8_trim_whitespace(column) for name, column in found.items()}

    def _judge(self, found: dict[str, Any], wrong: list[Any], rows: int) -> None:
        """Refuse a file that was misread; note rows that were skipped."""
        for name, column in found.items():
            if len(column) and (pc.max(pc.binary_length(column)).as_py() or 0) > LONGEST:
                raise InvalidArgument(
                    f"{self.path}: a value of column {name} is longer than {LONGEST} bytes: a quote is probably not "
                    "closed; --no-quotes reads quotes as they stand"
                )
        if wrong:
            first = f"{wrong[0].actual_columns} instead of {wrong[0].expected_columns}: {wrong[0].text[:60]!r}"
            if len(wrong) > rows // 20 + 3:
                raise InvalidArgument(
                    f"{self.path}: {len(wrong):,} rows have another number of values than {self.names}, first {first}"
                )
            self.notes.append(
                f"{self.path.name}: {len(wrong):,} rows skipped that have another number of values, first {first}"
            )


def text_of(path: Path, form: Form) -> Text:
    """The file as text, with its form found out where `form` does not state it. Raises InvalidArgument naming it."""
    data, notes = _utf8(path, read_unpacked(path), form.encoding)
    if stated := _STATED.match(data):  # as spreadsheets write and read it
        form = replace(form, separator=form.separator or stated[1].decode())
        data = data[stated.end() :]
    data = _BLANK.sub(b"", data, count=1)
    head = data[: 1 << 20].decode(errors="replace")
    lines = [line for line in head.splitlines()[:LINES] if line.strip()]
    if not lines:
        raise InvalidArgument(f"{path}: the file is empty")
    separator = form.separator or _separator(path, head)
    quotes = form.quotes and separator != "::"
    if separator == "::":
        data, lines = data.replace(b"::", UNIT.encode()), [line.replace("::", UNIT) for line in lines]
    first, second = (_cells(line, separator, quotes) for line in (lines[0], lines[min(1, len(lines) - 1)]))
    header = _is_header(first, second) if form.columns else True
    if header and not form.columns and len(second) == len(first) + 1:
        first = ["", *first]  # R names rows in a column without a name
    names = list(form.columns) if form.columns else [name.strip() for name in first]
    if len(names) > len(first):
        raise InvalidArgument(
            f"{path}: {len(names)} columns are stated ({', '.join(names)}), and the first line has {len(first)}: "
            f"{lines[0][:80]!r}"
        )
    names += [f"column {i + 1}" for i in range(len(names), len(first))]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    return Text(path, data, separator, _distinct(names), header, quotes, notes, twice, [path])


def joined(parts: list[Text]) -> list[Text]:
    """The parts of one table as one text: files that are called alike but for numbers and have the same columns, as Spark and
    DuckDB write them. Others are left as they are.
    """
    alike = {(_NUMBERED.sub("#", t.path.name), *t.names, t.separator, t.quotes) for t in parts}
    if len(parts) < 2 or len(alike) != 1:
        return parts
    first, last = parts[0], parts[-1]
    data = b"\n".join(_LINE.split(text.data, maxsplit=1)[-1] if text.header else text.data for text in parts)
    notes = [note for text in parts for note in text.notes]
    notes.append(f"{len(parts):,} files are read as one: {first.path.name} to {last.path.name}")
    path = first.path.with_name(f"{first.path.name} to {last.path.name}")
    files = [text.path for text in parts]
    return [Text(path, data, first.separator, first.names, False, first.quotes, notes, first.twice, files)]


def _utf8(path: Path, data: bytes, encoding: str | None) -> tuple[bytes, list[str]]:
    mark = next((mark for mark in _MARKS if data.startswith(mark)), b"")
    data, kind = data[len(mark) :], encoding or _MARKS.get(mark)
    notes = []
    if kind is None:
        kind = "utf-8"
        if not _is_text(data):
            kind = "windows-1252" if _is_text(data, "windows-1252") else "latin-1"
            notes.append(f"{path.name} is not UTF-8: read as {kind} (--encoding names another)")
    try:
        if kind.casefold().replace("_", "-") not in ("utf-8", "utf8") or encoding:
            data = data.decode(kind).encode()
        elif not _is_text(data):
            raise InvalidArgument(f"{path}: begins as UTF-8 and is not")
    except (LookupError, ValueError) as error:
        raise InvalidArgument(f"{path}: encoding {kind} is not allowed: {error}") from None
    if b"\0" in data:
        raise InvalidArgument(
            f"{path}: has NUL bytes, as UTF-16 without a mark has: --encoding utf-16-le, or it is no text"
        )
    return data, notes


def _is_text(data: bytes, encoding: str = "utf-8") -> bool:
    reader = io.TextIOWrapper(io.BytesIO(data), encoding)
    try:
        while reader.read(1 << 20):
            pass
    except ValueError:
        return False
    return True


def _separator(path: Path, head: str) -> str:
    """The first that all of the first lines have, outside of quotes: a quoted value may have any of them, and line ends."""
    bare = [line for line in re.sub(r'"(?:[^"]|"")*"', "", head).splitlines() if line.strip()][:LINES]
    for separator in SEPARATORS:
        if all(separator in line for line in bare):
            return separator
    most = max(SEPARATORS, key=lambda separator: sum(separator in line for line in bare))
    odd = next(line for line in bare if most not in line)
    raise InvalidArgument(
        f"{path}: no separator found that every line has, of :: tab ; , | and space: state it with --separator, or take out "
        f"the lines that are no rows, such as {odd[:80]!r}"
    )


def _cells(line: str, separator: str, quotes: bool) -> list[str]:
    separator = UNIT if separator == "::" else separator
    how = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    return next(csv.reader([line], delimiter=separator, quoting=how), [])  # type: ignore[arg-type]


def _is_header(first: list[str], second: list[str]) -> bool:
    """Whether the first line only names columns: it has no number where the second has one."""
    numbers = [(is_number(one), is_number(other)) for one, other in zip(first, second, strict=False)]
    return not any(one for one, _ in numbers) and any(other for _, other in numbers)


def is_number(cell: str) -> bool:
    """Whether a value is a plain decimal number."""
    return re.fullmatch(r"\s*[+-]?[0-9]+([.,][0-9]+)?([eE][+-]?[0-9]+)?\s*", cell) is not None


def _distinct(names: list[str]) -> list[str]:
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found
