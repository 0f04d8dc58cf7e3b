"""Converts the arrays of a user's file to the columns of events, by values and not by Arrow's encodings.

A dictionary, a run-end encoding, a view, a wide or an extension type says how values are laid out, and `plain` takes that
away. A float, a decimal or a text that is a whole number is that number. Everything is converted by pyarrow's casts
in their checked form; where one fails, `first_refused` finds the row, so that the message can name it.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loaders.place import Place
from services.core.columns import Array

types = pa.types
EXACT = 1 << 53  # every whole number up to here is a float64 of its own
_ENCODED = (
    (lambda kind: isinstance(kind, pa.BaseExtensionType), lambda array: array.storage),
    (types.is_dictionary, lambda array: array.dictionary_decode()),
    (types.is_run_end_encoded, pc.run_end_decode),
)
DIGITS = "^(0|[1-9][0-9]*)$"  # of one number only: no sign, no leading zero, no other script's digits
#: Whole numbers of a column with gaps as pandas writes them, `17.0`, and any as R does, `1e+05`: up to 15 digits, all there.
_OF_FLOAT = r"^((0|[1-9][0-9]*)\.0+|[1-9](\.[0-9]{1,14})?[eE]\+?[0-9]{1,2})$"
_DIGITS_OF_R = 10**15
INEXACT = "a float holds whole numbers only up to 2**53, so write it as an integer"


def plain(column: Any) -> Any:
    """A column (array or chunks) as one array without its encoding; text and bytes are large_string and large_binary."""
    if isinstance(column, pa.ChunkedArray):
        parts = [plain(chunk) for chunk in column.chunks]
        return pa.concat_arrays(parts) if parts else plain(pa.array([], column.type))
    kind = column.type
    for is_encoded, decoded in _ENCODED:
        if is_encoded(kind):
            return plain(decoded(column))
    if types.is_string(kind) or types.is_string_view(kind):
        return column.cast(pa.large_string())
    if is_bytes(kind):
        return column.cast(pa.large_binary())
    return column


def is_bytes(kind: Any) -> bool:
    """Whether it holds bytes that are not said to be text."""
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )


def text(array: Any, place: Place, allowed: str) -> Any:
    """A plain array of text or bytes as large_string, each value checked to be UTF-8."""
    if types.is_null(array.type):
        return array.cast(pa.large_string())
    if not (types.is_large_string(array.type) or types.is_large_binary(array.type)):
        place.fail_type(array.type, allowed)
    # Parquet readers take text as it comes; only the cast from bytes looks at it.
    return checked(array.cast(pa.large_binary()), pa.large_string(), place, f"{allowed}, in UTF-8")


def checked(array: Any, kind: Any, place: Place, allowed: str) -> Any:
    """The array as another type, without loss. Raises InvalidArgument naming the first row that can't be."""
    try:
        return array.cast(kind, safe=True)
    except pa.ArrowNotImplementedError:
        place.fail_type(array.type, allowed)
    except pa.ArrowInvalid:
        row = first_refused(array, kind)
        place.refuse_row(row, array[row], allowed)


def first_refused(array: Any, kind: Any) -> int:
    """The first row that the checked cast to `kind` refuses, by halving; there must be one."""
    low, high = 0, len(array)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            array.slice(low, middle - low).cast(kind, safe=True)
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low


def whole(array: Any, kind: Any, place: Place, allowed: str) -> tuple[Any, Array]:
    """Whole numbers of any plain numeric type or text of digits as (array of the integer type `kind`, bool[n]: is there).

    NaN counts as null: pandas and R write it for missing values. Raises InvalidArgument naming the row that holds no
    whole number, or too large for a float to hold it exactly.
    """
    array = numbers(array, place, allowed)
    if types.is_floating(array.type):
        array = array.cast(pa.float64())
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, pa.float64()), array)
        values = array.fill_null(0).to_numpy(zero_copy_only=False)
        inexact = np.abs(values) > EXACT
        place.refuse(inexact, array, f"{allowed}; {INEXACT}")
    elif types.is_decimal(array.type):
        array = array.cast(pa.decimal256(76, array.type.scale))  # narrow ones can't be cast to wide integers
    return checked(array, kind, place, allowed), mask(array.is_valid())


def numbers(array: Any, place: Place, allowed: str) -> Any:
    """A plain array of numbers, or text of digits as uint64; anything else is refused by its type or row."""
    kind = array.type
    if types.is_null(kind):
        return array.cast(pa.uint64())
    if types.is_large_string(kind) or types.is_large_binary(kind):
        return _of_words(text(array, place, allowed), place, allowed)
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)):
        place.fail_type(kind, allowed)
    return array


def _of_words(words: Any, place: Place, allowed: str) -> Any:
    """uint64 of texts of digits, also as floats that are whole are written, where that is exact."""
    of_float = mask(pc.match_substring_regex(words, _OF_FLOAT).fill_null(False))
    if not of_float.any():
        place.refuse(~mask(pc.match_substring_regex(words, DIGITS).fill_null(True)), words, allowed)
        return checked(words, pa.uint64(), place, allowed)
    floats = pc.if_else(pa.array(of_float), words, "0").cast(pa.float64()).to_numpy(zero_copy_only=False)
    short = mask(pc.match_substring(words, "e", ignore_case=True).fill_null(False))
    place.refuse(of_float & (floats > np.where(short, _DIGITS_OF_R, EXACT)), words, f"{allowed}; {INEXACT}")
    place.refuse(of_float & (floats % 1 != 0), words, allowed)
    rest = _of_words(pc.if_else(pa.array(of_float), pa.scalar(None, words.type), words), place, allowed)
    return pc.if_else(pa.array(of_float), pa.array(floats.astype(np.uint64)), rest)


def mask(array: Any) -> Array:
    """bool[n] of an Arrow array of booleans."""
    return np.asarray(array.to_numpy(zero_copy_only=False), bool)


def lists(column: Any, place: Place, allowed: str) -> tuple[Array, Any]:
    """(int64[n] lengths, the values of all lists back to back) of a list type of any kind; null is an empty list."""
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return lists(column.storage, place, allowed)
    if types.is_null(kind):
        return np.zeros(len(column), np.int64), pa.array([], pa.uint64())
    known = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view)
    if not any(is_list(kind) for is_list in known):
        place.fail_type(kind, allowed)
    lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths, plain(column.flatten())
