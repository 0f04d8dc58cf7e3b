"""The objects to which something was done most often: bounded tables of candidates in memory, by kind and action.

Of counts that only grow, a bounded table is exact: whoever is not in it was offered when it last grew, and was below all
that were in it. Of counts that also fall, as those of the last days do, it is an approximation.
"""

from typing import NamedTuple

import numpy as np

from services.columns import I64, U64, Array, among


class Table(NamedTuple):
    """At most `size` objects with their counts, in no order."""

    objects: U64
    counts: I64


EMPTY = Table(np.empty(0, np.uint64), np.empty(0, np.int64))


def offered(table: Table, objects: U64, counts: I64, size: int) -> Table:
    """The table after these objects (no two alike) have these counts: the `size` best of all, lower ids first."""
    good = counts > 0
    if len(table.counts) >= size:
        good &= counts >= table.counts.min()
    if not good.any():
        return table
    objects, counts = objects[good], counts[good]
    stays = ~among(table.objects, np.sort(objects))
    both = Table(np.concatenate([table.objects[stays], objects]), np.concatenate([table.counts[stays], counts]))
    return first(both, size)


def first(table: Table, size: int) -> Table:
    """The `size` with the highest counts, most first, then by id."""
    if len(table.objects) > 4 * size:  # a cheap cut before the sort; ties at the edge all stay
        edge = np.partition(table.counts, -size)[-size]
        above = table.counts >= edge
        table = Table(table.objects[above], table.counts[above])
    order = best(table.objects, table.counts)[:size]
    return Table(table.objects[order], table.counts[order])


def best(objects: U64, counts: Array) -> I64:
    """Rows by count, most first, then by id, lowest first."""
    return np.lexsort((objects, -counts.astype(np.float64)))
