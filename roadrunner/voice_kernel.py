"""Arithmetic of voices: under which shelf each row may be a voice, and which rows are the first of theirs."""

import numpy as np

from roadrunner.kernel import numbered
from services.core.columns import I64, U8, U64, Array
from services.kernels.jit import kernel

DAY_MS = 86_400_000
DAY_AT = 16  # bit of a shelf where its day begins; below are the partitions of the shelves for good


@kernel
def shelves_of(does: U8, kept: int, partition: I64, action: U8, at_ms: I64, newest: I64, shelf: I64) -> None:
    """The shelf of each row: its day << DAY_AT; its partition if it is a voice for good; -1 if it engages in nothing.

    does: uint8[256] by action: 0 nothing, 1 engages within a day, 2 for good. newest: int64[partitions], of each the
    newest date of an engagement, counted up in the order of the rows; one that is `kept` days older counts for good.
    """
    for i in range(len(action)):
        what, p = does[action[i]], partition[i]
        if what == 0:
            shelf[i] = -1
            continue
        newest[p] = max(newest[p], at_ms[i])
        day = at_ms[i] // DAY_MS
        shelf[i] = day << DAY_AT if what == 1 and day > max(newest[p] // DAY_MS - kept, 0) else p


@kernel
def raise_voices(stored: int, shelf_of: U64, list_: U64, pin: U64, most: I64, heard: Array) -> None:
    """Which rows are the first of their list for their pin, in order, while the list has fewer than its most.

    shelf_of, list_, pin: uint64[stored + n]: the voices that are stored, then the rows. A list is a pair of the first
    two. most: int64[shelves], of each list of a shelf. heard: bool[n], written.
    """
    lists, list_of = numbered(shelf_of, list_)
    first, _ = numbered(list_of, pin)
    lengths = np.zeros(len(lists), np.int64)
    heard[:] = False
    for i in first:
        of = list_of[i]
        if i >= stored:
            heard[i - stored] = lengths[of] < most[shelf_of[i]]
        if i < stored or heard[i - stored]:
            lengths[of] += 1
