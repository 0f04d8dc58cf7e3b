"""One partition on disk and in memory: pages of the table as they were at some offset, and the increments since.

A record of the log becomes one value of `increments`, in the write batch that holds its offset: so a count costs 16
bytes of disk when it comes, wherever its object lies. When the increments have grown as long as the pages, the pages
are written anew one after the other, a few with every batch, each with the offset up to which it holds everything; then
the increments from before the first of them are deleted. A process that opens the folder reads the pages, and adds to
each the increments after its offset.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from counters import layout
from counters.kernel import PAGES
from counters.layout import Increments
from counters.table import CountTable
from services.core.columns import I64
from services.state.shard import Shard

LEAST_BEHIND = 1 << 20  # bytes of increments for which no page is written
PACE = 2  # bytes of pages written for one of increments, while pages are written


class Sweep(NamedTuple):
    """How far the writing of pages has come, in bytes of increments; PAGES: none is under way."""

    page: int = PAGES  # the next to be written
    since: int = 0  # offset of the first record that was not in the table when it began
    behind: int = 0  # all that are on disk
    newer: int = 0  # those that came since it began


class Partition:
    """The counts of the objects of one partition."""

    def __init__(self, shard: Shard, number: int) -> None:
        self.table = CountTable()
        self.newest_ms = (
            0  # the hour of the latest increment: buckets expire by it, so that all who apply the log agree
        )
        self._shard, self._number = shard, number
        self._sweep, self._staged = Sweep(), Sweep()

    def open(self) -> None:
        """Read the disk."""
        watermarks, behind = np.zeros(PAGES, np.int64), 0
        for key, value in self._shard.family("pages").items(from_key=layout.page_key(self._number, 0)):
            partition, page = layout.page_of(key)
            if partition != self._number:
                break
            watermarks[page], objects = layout.unpack_page(key, value)
            self.newest_ms = max(self.newest_ms, layout.newest_ms(objects))
            try:
                self.table.load(page, objects)
            except ValueError as error:
                layout.refuse_page(key, str(error))
        for key, value in self._shard.family("increments").items(from_key=layout.increments_key(self._number, 0)):
            partition, offset = layout.increments_of(key)
            if partition != self._number:
                break
            self._add(layout.unpack_increments(key, value), offset=offset, watermarks=watermarks)
            behind += len(value)
        self._sweep = self._staged = Sweep(behind=behind)

    def stage(self, write: Any, records: Sequence[tuple[int, Increments]]) -> None:
        """Add to a write batch: records by offset, the next ones of this partition, and the pages that are due."""
        size, handle = 0, self._shard.handle("increments")
        for offset, increments in records:
            if len(increments.objects):
                value = layout.pack_increments(increments)
                write.put(layout.increments_key(self._number, offset), value, handle)
                size += len(value)
        page, since, behind, newer = self._sweep
        if page == PAGES and behind > max(LEAST_BEHIND, self.table.stored_bytes()):
            page, since, newer = 0, records[0][0], 0
        if page < PAGES:
            page = self._write_pages(write, page, PACE * size, records[0][0])
            if page == PAGES:
                write.delete_range(
                    layout.increments_key(self._number, 0), layout.increments_key(self._number, since), handle
                )
                behind = newer
        self._staged = Sweep(page, since, behind + size, newer + size)

    def _write_pages(self, write: Any, page: int, budget: int, offset: int) -> int:
        """Write pages as they are, before the record of this offset; the next to be written."""
        handle = self._shard.handle("pages")
        while page < PAGES and budget >= 0:
            objects = self.table.page(page)
            if len(objects.objects):
                value = layout.pack_page(offset, objects)
                write.put(layout.page_key(self._number, page), value, handle)
                budget -= len(value)
            page += 1
        return page

    def add(self, records: Sequence[tuple[int, Increments]], thresholds: I64, note: Callable[..., None]) -> None:
        """Add the staged increments, which have been written, to the table. `note` gets the notable ones."""
        self._sweep = self._staged
        for _, increments in records:
            rows = self._add(increments, thresholds)
            if len(rows):
                note(increments.objects[rows], increments.what[rows] >> layout.WHAT_ACTION)

    def _add(self, increments: Increments, *more: Any, **named: Any) -> I64:
        self.newest_ms = max(self.newest_ms, layout.latest_ms(increments))
        return self.table.add(increments, self.newest_ms, *more, **named)
