"""The entry that leaves a full cache, as SIEVE chooses (Zhang et al., NSDI 2024): one that is read is marked, no
more; a hand goes from the oldest entry to the newest, takes marks away and stops at the first that has none. So what was
asked for once leaves soon, and what is asked for again stays wherever it stands.

Entries stand in the order in which they came, linked through arrays: newer and older (int32[n], -1: none), marked
(uint8[n]), and of `state` (int64[3 or more]) the words NEWEST, OLDEST and HAND, -1 while there is none. For use inside
kernels, by the thread that holds the cache's lock.
"""

from typing import Any

from services.core.errors import InvalidArgument
from services.kernels.jit import kernel

NEWEST, OLDEST, HAND = range(3)
EMPTY = (-1, -1, -1)  # these words of a cache without entries


@kernel
def link_newest(newer: Any, older: Any, state: Any, entry: Any) -> None:
    """An entry has come."""
    newest = state[NEWEST]
    newer[entry], older[entry] = -1, newest
    if newest >= 0:
        newer[newest] = entry
    else:
        state[OLDEST] = entry
    state[NEWEST] = entry


@kernel
def unlink(newer: Any, older: Any, state: Any, entry: Any) -> None:
    """An entry leaves; a hand that points at it moves on."""
    after, before = newer[entry], older[entry]
    if state[HAND] == entry:
        state[HAND] = after
    if after >= 0:
        older[after] = before
    else:
        state[NEWEST] = before
    if before >= 0:
        newer[before] = after
    else:
        state[OLDEST] = after


@kernel
def next_to_leave(newer: Any, marked: Any, state: Any) -> Any:
    """int64: the entry to evict, of one or more. The hand points at it, and moves on as it is unlinked."""
    entry = state[HAND] if state[HAND] >= 0 else state[OLDEST]
    while marked[entry] > 0:
        marked[entry] = 0
        entry = newer[entry] if newer[entry] >= 0 else state[OLDEST]
    state[HAND] = entry
    return entry


def fitting(size: int, place: int, entry: int, what: str) -> tuple[int, int]:
    """(entries, places of the table): the most entries of so many bytes that fit into `size`, with a table that has a power
    of two of places and is at most two thirds full. Raises InvalidArgument when not one does; what: an entry's name there.
    """
    best, places = (0, 0), 4
    while place * places < size:
        best = max(best, (min(places * 2 // 3, (size - place * places) // entry), -places))
        places *= 2
    if best[0] < 1:
        raise InvalidArgument(f"a cache of {size} bytes is too small for a {what} of {entry}")
    return best[0], -best[1]
