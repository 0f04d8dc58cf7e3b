"""Dates of delimited text: seconds to nanoseconds since 1970, or ISO 8601. Text that is no date is marked, not refused."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.core.columns import I64, Array
from services.core.events import EARLIEST_MS

#: Numbers below are seconds (until the year 5138), milliseconds, microseconds; greater ones are nanoseconds.
_UNITS = ((1e11, 1000.0), (1e14, 1.0), (1e17, 1e-3), (np.inf, 1e-6))
_NUMBER = r"^[0-9]{1,20}(\.[0-9]{1,9})?$"
_ISO = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?)? ?(Z|UTC|[+-][0-9]{2}(?::?[0-9]{2})?)?$"
)


def read_moments(words: Any, latest_ms: int) -> tuple[I64, Array]:
    """(int64[n] Unix ms, bool[n]: is none) of texts. A column has one unit: the one that its median is in."""
    is_number = pc.match_substring_regex(words, _NUMBER).fill_null(False)
    none = pa.scalar(None, words.type)
    values = pc.if_else(is_number, words, none).cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    at_ms = np.full(len(values), np.nan)
    numbers = ~np.isnan(values)
    if numbers.any():
        middle = float(np.median(values[numbers]))
        at_ms[numbers] = values[numbers] * next(factor for below, factor in _UNITS if middle < below)
    if not numbers.all():
        at_ms = np.where(numbers, at_ms, _of_iso(pc.if_else(is_number, none, words)))
    bad = np.isnan(at_ms) | (at_ms < 0) | (at_ms > latest_ms)
    return np.where(bad, EARLIEST_MS, np.maximum(np.where(bad, 0, at_ms), EARLIEST_MS)).astype(np.int64), bad


def _of_iso(words: Any) -> Array:
    """float64[n] Unix ms of ISO 8601 texts, UTC unless they name a zone; NaN for anything else."""
    none = pa.scalar(None, words.type)
    words = pc.replace_substring_regex(words, "^([0-9]{4})/([0-9]{2})/([0-9]{2})", r"\1-\2-\3")  # R and spreadsheets
    words = pc.if_else(pc.match_substring_regex(words, _ISO).fill_null(False), words, none)
    zone = pc.replace_substring_regex(
        words, r"^.*[0-9]{2}:[0-9]{2}(:[0-9.]+)? ?(Z|UTC|[+-][0-9]{2}(?::?[0-9]{2})?)$", r"\2"
    )
    has_zone = pc.not_equal(zone, words)
    bare = pc.replace_substring_regex(words, r"(:[0-9]{2})(\.[0-9]+)", r"\1")
    bare = pc.if_else(has_zone, pc.replace_substring_regex(bare, r" ?(Z|UTC|[+-][0-9]{2}(?::?[0-9]{2})?)$", ""), bare)
    moments = _stamps(bare)
    shift = np.array(
        [_minutes(word) for word in pc.if_else(has_zone, zone, none).dictionary_encode().dictionary.to_pylist()] or [0]
    )
    which = pc.if_else(has_zone, zone, none).dictionary_encode().indices.fill_null(0).to_numpy(zero_copy_only=False)
    minutes = np.where(has_zone.fill_null(False).to_numpy(zero_copy_only=False), shift[which], 0)
    return np.asarray(moments - 60_000.0 * minutes)


def _stamps(words: Any) -> Array:
    """float64[n] Unix ms of texts without a zone; NaN for dates that the calendar does not have."""
    try:
        return np.asarray(words.cast(pa.timestamp("ms")).cast(pa.int64()).cast(pa.float64()).fill_null(np.nan))
    except pa.ArrowInvalid:  # a 30th of February: one value at a time says which
        if len(words) == 1:
            return np.array([np.nan])
        half = len(words) // 2
        return np.concatenate([_stamps(words[:half]), _stamps(words[half:])])


def _minutes(zone: str) -> int:
    if zone in ("Z", "UTC"):
        return 0
    digits = zone[1:].replace(":", "")
    return (-1 if zone[0] == "-" else 1) * (int(digits[:2]) * 60 + int(digits[2:] or 0))
