"""The objects to which something was done most often: bounded tables of candidates in memory, by kind and action.

Of counts that only grow, a bounded table is exact: an object that is not in it was offered when it last grew, and was below all
that were in it. Of counts that also fall, as those of the last days do, it is an approximation.

Objects that may belong into a table are noted as they are counted, and looked at together: at a question, or when
many wait. The thresholds say which can't belong into any, so that most are never noted.
"""

import threading
from collections.abc import Callable, Iterable
from itertools import product
from typing import NamedTuple

import numpy as np

from counters.layout import ACTIONS
from services.core.columns import I64, U8, U64, Array, among
from services.core.events import RESERVED_FROM

MANY = 65_536  # noted, after which they are looked at


class LeaderTable(NamedTuple):
    """At most `size` objects with their counts, in no order."""

    objects: U64
    counts: I64


EMPTY = LeaderTable(np.empty(0, np.uint64), np.empty(0, np.int64))


class Leaders:
    """Two tables for each kind and action: by the counts of all time, and by those of the last 7 days."""

    def __init__(
        self, kinds: Iterable[int], most: int, recent: int, sums: Callable[[int, int, U64], I64], never: int
    ) -> None:
        """`most`, `recent`: sizes of the two. `sums`: int64[n, 2] of a kind, an action and objects: ever, and lately.

        `never`: a number that no count reaches, the threshold of other kinds.
        """
        self._sizes, self._sums = (most, recent), sums
        pairs = [(int(kind), action) for kind, action in product(kinds, range(ACTIONS))]
        self._tables = dict.fromkeys(pairs, (EMPTY, EMPTY))
        self._waiting: list[tuple[U64, U8]] = []
        self._many, self._noting = 0, threading.Lock()
        self.thresholds: I64 = np.full((8, 8), never)
        for kind, action in pairs:
            self.thresholds[kind, action] = 1

    def note(self, objects: U64, pairs: Array) -> None:
        """These were counted and reached a threshold. pairs: kind << 3 | action of each. Not those of the mesh itself."""
        theirs = objects < np.uint64(RESERVED_FROM)
        with self._noting:
            self._waiting.append((objects[theirs], pairs[theirs].astype(np.uint8)))
            self._many += len(objects)
            if self._many > MANY:
                self._settle()

    def of(self, kind: int, action: int) -> tuple[LeaderTable, LeaderTable]:
        """The two tables as they are now."""
        with self._noting:
            self._settle()
            return self._tables[kind, action]

    def look_again(self) -> None:
        """Count the recent leaders again, as buckets expire: else they would keep others out."""
        with self._noting:
            self._settle()
            for (kind, action), (ever, lately) in self._tables.items():
                counts = self._sums(kind, action, lately.objects)[:, 1]
                self._keep(kind, action, ever, LeaderTable(lately.objects[counts > 0], counts[counts > 0]))

    def _settle(self) -> None:
        if not self._waiting:
            return
        objects, pairs = (np.concatenate(columns) for columns in zip(*self._waiting, strict=True))
        self._waiting, self._many = [], 0
        for pair in np.flatnonzero(np.bincount(pairs)).tolist():
            kind, action = pair >> 3, pair & 7
            found = np.unique(objects[pairs == pair])
            sums, (ever, lately) = self._sums(kind, action, found), self._tables[kind, action]
            ever = offered(ever, found, sums[:, 0], self._sizes[0])
            self._keep(kind, action, ever, offered(lately, found, sums[:, 1], self._sizes[1]))

    def _keep(self, kind: int, action: int, *tables: LeaderTable) -> None:
        least = [
            int(table.counts.min()) if len(table.counts) >= size else 1
            for table, size in zip(tables, self._sizes, strict=True)
        ]
        self._tables[kind, action] = (tables[0], tables[1])
        self.thresholds[kind, action] = min(least)


def offered(table: LeaderTable, objects: U64, counts: I64, size: int) -> LeaderTable:
    """The table after these objects (no two alike) have these counts: the `size` best of all, lower ids first."""
    good = counts > 0
    if len(table.counts) >= size:
        good &= counts >= table.counts.min()
    if not good.any():
        return table
    objects, counts = objects[good], counts[good]
    stays = ~among(table.objects, np.sort(objects))
    both = LeaderTable(np.concatenate([table.objects[stays], objects]), np.concatenate([table.counts[stays], counts]))
    return first(both, size)


def first(table: LeaderTable, size: int) -> LeaderTable:
    """The `size` with the highest counts, most first, then by id."""
    if len(table.objects) > 4 * size:  # a cheap cut before the sort; ties at the edge all stay
        edge = np.partition(table.counts, -size)[-size]
        above = table.counts >= edge
        table = LeaderTable(table.objects[above], table.counts[above])
    order = best(table.objects, table.counts)[:size]
    return LeaderTable(table.objects[order], table.counts[order])


def best(objects: U64, counts: Array) -> I64:
    """Rows by count, most first, then by id, lowest first."""
    return np.lexsort((objects, -counts.astype(np.float64)))
