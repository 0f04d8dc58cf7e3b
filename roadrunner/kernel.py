"""An exact set of recent event ids as an open-addressing table: linear probing, keys and minutes in parallel arrays.

Id 0 marks an empty slot; it is not an id. An id that is older than the window counts as absent, and its slot is reused
when the table is next rebuilt.
"""

import numpy as np

from services.columns import U32, U64, Array
from services.jit import kernel


@kernel
def _slot(key: np.uint64, mask: np.uint64) -> np.uint64:
    key = (key ^ (key >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)  # murmur3's finaliser: ids may be sequential
    return (key ^ (key >> np.uint64(29))) & mask


@kernel
def add_new(keys: U64, minutes: U32, ids: U64, minute: int, oldest: int, fresh: Array) -> int:
    """Add `ids`; fresh[i] tells whether ids[i] was absent or older than minute `oldest`. The slots newly used.

    keys: uint64[2^b], minutes: uint32[2^b], with room for all ids. ids: uint64[n]. fresh: bool[n], written.
    """
    mask, used = np.uint64(len(keys) - 1), 0
    for i in range(len(ids)):
        at = _slot(ids[i], mask)
        while keys[at] != 0 and keys[at] != ids[i]:
            at = (at + np.uint64(1)) & mask
        fresh[i] = keys[at] == 0 or minutes[at] < oldest
        if fresh[i]:
            used += keys[at] == 0
            keys[at], minutes[at] = ids[i], minute
    return used


@kernel
def forget(keys: U64, minutes: U32, ids: U64) -> None:
    """Make `ids`, all of them in the table, older than any window."""
    mask = np.uint64(len(keys) - 1)
    for i in range(len(ids)):
        at = _slot(ids[i], mask)
        while keys[at] != ids[i]:
            at = (at + np.uint64(1)) & mask
        minutes[at] = 0


@kernel
def rebuild(keys: U64, minutes: U32, into: U64, into_minutes: U32, oldest: int) -> int:
    """Copy the ids that are not older than minute `oldest` into another, empty table. How many they are."""
    mask, used = np.uint64(len(into) - 1), 0
    for i in range(len(keys)):
        if keys[i] != 0 and minutes[i] >= oldest:
            at = _slot(keys[i], mask)
            while into[at] != 0:
                at = (at + np.uint64(1)) & mask
            into[at], into_minutes[at] = keys[i], minutes[i]
            used += 1
    return used
