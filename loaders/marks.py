"""The column `id` of events: the name of a row in the system that it comes from, so that it is the same event in every file."""

from typing import Any

import numpy as np
import pyarrow as pa

from loaders.convert import plain, text, types, whole
from loaders.identity import own_ids
from loaders.place import Place
from loaders.tables import Column, runs_of_bytes
from loaders.text_ids import uuids
from services.core.columns import U64

ALLOWED = "ids of events are whole numbers, text, or bytes, or null"


def read_own_ids(column: Any, place: Place) -> U64:
    """uint64[n]: a hash of each value; 0 where it is null or empty. A number is the text of its digits.

    Raises InvalidArgument naming the file, column, row and value that is none.
    """
    array = uuids(column)
    array = plain(column) if array is None else array
    if types.is_null(array.type):
        return np.zeros(len(array), np.uint64)
    if types.is_large_binary(array.type):
        return own_ids(runs_of_bytes(array.fill_null(b"")))
    if not types.is_large_string(array.type):
        kind = pa.uint64() if types.is_unsigned_integer(array.type) else pa.int64()
        array, _ = whole(array, kind, place, ALLOWED)
        array = array.cast(pa.large_string())
    return own_ids(runs_of_bytes(text(array, place, ALLOWED).fill_null("")))


OWN_ID = Column(read_own_ids, required=False)
