"""How every layout refuses stored bytes that it can't have written, before a kernel indexes by them.

RocksDB's checksums catch bytes that changed on the disk. These checks catch values that were written wrongly, by another
version or a stray tool, and those that a checksum let pass. They look at lengths and counts, once for a whole read.
"""

from collections.abc import Callable, Sequence
from typing import NoReturn

import numpy as np

from services.core.columns import I64
from services.core.errors import Damaged

CheckValue = Callable[[str, bytes, bytes], None]  # family, key, value; raises Damaged
_LOG = "roadrunner"


def remedy(store: str) -> str:
    """The remedy of damage in a store's folder, for an operator."""
    if store == _LOG:
        return "the log can't be rebuilt: stop the mesh and restore its folder from a backup (docs/operations.md)"
    return f"stop the mesh, remove the folder of this shard of {store}, and start again: it is rebuilt from the log"


def refuse(store: str, family: str, key: bytes, why: str) -> NoReturn:
    """Raise Damaged: `store` never writes such a value, or its key."""
    raise Damaged(f"{store}: {family}, key {key.hex() or '(none)'}: {why}; {remedy(store)}")


def check_key(store: str, family: str, key: bytes, size: int) -> None:
    """Raise Damaged for a key that has not `size` bytes."""
    if len(key) != size:
        refuse(store, family, key, f"the key has {len(key)} bytes, expected {size}")


def check_size(store: str, family: str, key: bytes, value: bytes, size: int) -> None:
    """Raise Damaged for a value that has not `size` bytes."""
    if len(value) != size:
        refuse(store, family, key, f"{len(value)} bytes, expected {size}")


def check_rows(store: str, family: str, key: bytes, value: bytes, width: int, head: int = 0) -> None:
    """Raise Damaged for a value that is not `head` bytes and a whole number of rows of `width` bytes."""
    if len(value) < head or (len(value) - head) % width:
        after = f"{head} bytes and " if head else ""
        refuse(store, family, key, f"{len(value)} bytes, expected {after}a whole number of rows of {width}")


def ends_of(
    store: str, family: str, keys: Sequence[bytes], values: Sequence[bytes | None], width: int
) -> tuple[list[bytes], I64]:
    """The values, and after which row of `width` bytes each ends: int64[values]. One that is not there has no rows.

    Raises Damaged naming the first value that is not a whole number of rows.
    """
    present = [value or b"" for value in values]
    ends = np.cumsum(np.fromiter(map(len, present), np.int64, len(present)))
    if (ends % width).any():
        for key, value in zip(keys, present, strict=True):
            check_rows(store, family, key, value, width)
    return present, ends // width
