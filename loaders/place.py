"""The place of a value in a user's file, for messages."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa

from services.core.columns import Array
from services.core.errors import InvalidArgument

SHOWN = 80  # characters of a refused value


@dataclass(frozen=True, slots=True)
class Place:
    """The column of a file, and the row (from 0) that its array begins with."""

    path: Path
    column: str
    row: int = 0

    def refuse(self, bad: Array, values: Any, allowed: str) -> None:
        """Raise for the first row of the mask `bad`, if there is one."""
        if bad.any():
            row = int(bad.argmax())
            self.refuse_row(row, values[row], allowed)

    def refuse_row(self, row: int, value: Any, allowed: str) -> NoReturn:
        """Raise for one row of the array."""
        self.fail(f"row {self.row + row} (from 0): {shown(value)} is not allowed: {allowed}")

    def fail(self, what: str) -> NoReturn:
        """Raise with the file and the column named."""
        raise InvalidArgument(f"{self.path}: column {self.column}, {what}")

    def fail_type(self, kind: Any, allowed: str) -> NoReturn:
        """Raise for an array's type."""
        self.fail(f"type {kind} is not allowed: {allowed}")

    def at(self, row: int) -> "Place":
        """The same column from a later row on."""
        return replace(self, row=self.row + row)


def shown(value: Any) -> str:
    """A value as a message has it: null for none, one line, cut short."""
    if isinstance(value, pa.Scalar):
        value = _plain(value)
    if value is None:
        return "null"
    text = str(value) or '""'
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _plain(value: Any) -> Any:
    try:
        return value.as_py()
    except (UnicodeDecodeError, ValueError, OverflowError):  # bytes that are no text, dates that Python does not know
        return value.cast(pa.binary()).as_py() if pa.types.is_large_string(value.type) else str(value)
