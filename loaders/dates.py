"""Dates of users' files, to Unix milliseconds."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loaders.convert import DIGITS, checked, mask, plain, text, types, whole
from loaders.place import Place
from services.core.clock import DAY_MS, date_text
from services.core.columns import I64
from services.core.events import EARLIEST_MS, SECONDS

NO_DATE = np.iinfo(np.int64).min
_TO_MS = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 1_000_000)}  # times, divided by
#: Text that ends in a zone. It needs a time before it: the end of a bare date, 2024-02-29, looks like a zone.
_ZONED = r"[0-9]:[0-9.:]+ ?(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"


def read_dates(column: Any, place: Place, null: bool, latest: int) -> I64:
    """int64[n] Unix ms of a column of timestamps (any unit and zone), dates, whole milliseconds or ISO 8601 text.

    A missing one is NO_DATE, where `null` is allowed. `latest`: Unix ms. Raises InvalidArgument naming the file, column,
    row and value that is no date from 1970-01-01 to `latest`.
    """
    array = plain(column)
    if types.is_large_string(array.type) or types.is_large_binary(array.type):
        array = _of_text(text(array, place, "dates"), place)
    dated = types.is_timestamp(array.type) or types.is_date(array.type)
    allowed = f"{_span(latest)}, as a timestamp, a date, ISO 8601 text or Unix milliseconds"
    if not null:
        place.refuse(mask(array.is_null()), array, allowed)
    if dated:
        values, factor = _counts(array)
    else:
        whole_ms, _ = whole(array, pa.int64(), place, allowed)
        array, values, factor = whole_ms, whole_ms.fill_null(0).to_numpy(zero_copy_only=False), (1, 1)
    present = mask(array.is_valid())
    times, divided = factor
    at_ms = values // divided
    place.refuse(present & ((at_ms < 0) | (at_ms > latest // times)), _Shown(array, values, factor), allowed)
    if not dated:
        meant = (values >= SECONDS[0]) & (values < SECONDS[1])
        place.refuse(
            present & meant, values, "as milliseconds it is in early 1970, and seconds look like this: multiply "
            "seconds by 1000, or write timestamps if the date is right",
        )  # fmt: skip
    return np.where(present, np.maximum(at_ms * times, EARLIEST_MS), NO_DATE)


def _span(latest: int) -> str:
    return f"dates are from 1970-01-01 to {date_text(latest)} (now)"


def _counts(array: Any) -> tuple[I64, tuple[int, int]]:
    """int64[n] of a column of timestamps or dates in its own unit, and the (factor, divisor) to milliseconds."""
    kind = array.type
    if types.is_date32(kind):
        counts, factor = array.cast(pa.int32()), (DAY_MS, 1)
    else:
        counts, factor = array.cast(pa.int64()), _TO_MS[getattr(kind, "unit", "ms")]
    return counts.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64), factor


class _Shown:
    """The value of a row as a date beside what stands in the file; made for the one row that a message names."""

    def __init__(self, array: Any, values: I64, factor: tuple[int, int]) -> None:
        self._array, self._values, self._factor = array, values, factor

    def __getitem__(self, row: int) -> str | None:
        if not self._array[row].is_valid:
            return None
        stored = int(self._values[row])
        date = date_text(stored // self._factor[1] * self._factor[0])
        is_number = types.is_integer(self._array.type)
        return f"{stored} ({date})" if is_number else date


def _of_text(words: Any, place: Place) -> Any:
    """Text as timestamps, or as integers where all of it is digits. Text without a zone is UTC."""
    if not len(words.drop_null()):
        return words.cast(pa.timestamp("us"))
    if bool(pc.all(pc.match_substring_regex(words, DIGITS)).as_py()):
        return words
    words = pc.if_else(pc.equal(words, ""), pa.scalar(None, words.type), words)
    words = pc.replace_substring_regex(words, r"(\.[0-9]{6})[0-9]+", r"\1")
    zoned = pc.match_substring_regex(words, _ZONED)
    allowed = 'dates, such as "2024-02-29", "2024-02-29 13:05:00" or "2024-02-29T13:05:00Z"'
    naive = checked(pc.if_else(zoned, pa.scalar(None, words.type), words), pa.timestamp("us"), place, allowed)
    aware = checked(pc.if_else(zoned, words, pa.scalar(None, words.type)), pa.timestamp("us", "UTC"), place, allowed)
    return pc.coalesce(naive, aware.cast(pa.timestamp("us")))
