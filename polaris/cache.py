"""Posting lists as questions read them: merged, in memory, as many as fit. Those that are asked for again stay, the others
are evicted (`blocks.py` says how). RocksDB has the truth: a list is read from there when it isn't here, and dropped here
when an event changes it, after the write and before a read that waits for it goes on. Of the lists that were read, only
those are kept that are sure (`services/state/change_feed.py`).
"""

import threading
from typing import NamedTuple

from polaris import blocks
from polaris.blocks import BLOCK_BYTES, LISTS, PLACE_BYTES, ROOM
from polaris.kernel import input_of
from polaris.layout import Sources
from polaris.postings import Postings
from services.core.checks import check_ends, check_lengths
from services.core.columns import I64, U8, U64, Array
from services.kernels.sieve import fitting


class HeldLists(NamedTuple):
    """The lists that are here; those that are missing (rows, int64[m]) have no postings."""

    lists: Postings
    missing: I64


class ListCache:
    """Lists by kind and source. Thread-safe: its lock is held for microseconds."""

    def __init__(self, max_bytes: int) -> None:
        """Raises InvalidArgument when not one block fits."""
        n, places = fitting(max_bytes, PLACE_BYTES, BLOCK_BYTES, "block")
        self._fixed_bytes = PLACE_BYTES * places
        self._blocks, self.capacity = blocks.make(n, places), n
        self._lock = threading.Lock()
        self.asked = self.missed = 0  # lists so far

    def get(self, sources: Sources, most: int) -> HeldLists:
        """The cached ones of these lists. Of over `most` postings none are answered, only how many (`ends`)."""
        kinds, ids = _named(sources)
        with self._lock:
            pins, at_ms, quality, ends, missing = blocks.get(self._blocks, kinds, ids, most)
            self.asked += len(ids)
            self.missed += len(missing)
        return HeldLists(Postings(pins, at_ms, quality, ends), missing)

    def put(self, sources: Sources, lists: Postings, sure: Array) -> None:
        """Keep the lists that are sure (bool[n]). Raises ValueError for columns of unequal lengths."""
        kinds, ids = _named(sources)
        check_lengths(len(ids), ends=lists.ends, sure=sure)
        check_lengths(len(lists.pins), at_ms=lists.at_ms, quality=lists.quality)
        check_ends(lists.ends, len(lists.pins))
        columns = input_of(lists.pins), input_of(lists.at_ms), input_of(lists.quality), input_of(lists.ends)
        with self._lock:
            blocks.put(self._blocks, kinds, ids, *columns, input_of(sure))

    def drop(self, sources: Sources) -> None:
        """These lists have changed."""
        kinds, ids = _named(sources)
        with self._lock:
            blocks.drop(self._blocks, kinds, ids)

    def __len__(self) -> int:
        return int(self._blocks.state[LISTS])

    def bytes(self) -> int:
        """Bytes that its blocks and its table take."""
        return self._fixed_bytes + (self.capacity - int(self._blocks.state[ROOM])) * BLOCK_BYTES


def _named(sources: Sources) -> tuple[U8, U64]:
    """Kinds and ids as a kernel's input. Raises ValueError for unequal lengths."""
    check_lengths(len(sources.ids), kinds=sources.kinds)
    return input_of(sources.kinds), input_of(sources.ids)
