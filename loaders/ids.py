"""Ids of users' files, to the mesh's uint64: the one place where a column of ids is read."""

from typing import Any

import numpy as np
import pyarrow as pa

from loaders.convert import plain, whole
from loaders.place import Place
from loaders.text_ids import being_read, read_texts
from services.core.columns import U64
from services.core.events import RESERVED_FROM

ALLOWED = f"ids are whole numbers from 1 to {RESERVED_FROM - 1} (2**64 - 2**20 and above are the mesh's own)"
HINT = '; text, such as UUIDs, loads where the mesh was begun with [mesh] ids = "text"'


def read_ids(column: Any, place: Place, null: bool) -> U64:
    """uint64[n] of a column (array or chunks of any type that holds whole numbers); where `null` is allowed it is 0.

    Raises InvalidArgument naming the file, column, row and value that is no id.
    """
    ids = being_read()
    if ids is not None:
        return read_texts(ids, column, place, null)
    allowed = f"{ALLOWED}, or null{HINT}" if null else f"{ALLOWED}{HINT}"
    array, present = whole(plain(column), pa.uint64(), place, allowed)
    if not null:
        place.refuse(~present, array, allowed)
    values = np.asarray(array.fill_null(0).to_numpy(zero_copy_only=False), np.uint64)
    place.refuse(present & ((values == 0) | (values >= np.uint64(RESERVED_FROM))), values, allowed)
    return values
