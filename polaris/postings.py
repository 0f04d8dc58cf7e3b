"""Posting lists: changes merged into them, rows filtered out, the best of a long one kept. Arrays in, arrays out.

Lists of several sources lie back to back in columns; `ends` (int64[s]) holds the row after each one's last. Within a
list the pin put last is last, and every pin is there once.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from polaris.kernel import Light
from polaris.layout import PUT, Rows
from services.bloom import mix, read_only
from services.columns import F32, I64, U64, Array
from services.jit import kernel


@dataclass(frozen=True, slots=True, eq=False)
class Postings:
    """The posting lists of s sources back to back."""

    pins: U64
    at_ms: I64
    quality: F32
    ends: I64

    def counts(self) -> I64:
        """int64[s]: how many postings each source has."""
        return np.diff(self.ends, prepend=0)

    def keep(self, kept: Array) -> "Postings":
        """The postings where `kept` (bool[m]) is true."""
        before = np.concatenate([[0], np.cumsum(kept)])
        return Postings(self.pins[kept], self.at_ms[kept], self.quality[kept], before[self.ends])


def merge(postings: Postings, changes: Rows) -> Postings:
    """The lists after changes to them, those of each list in the order of arrival. Linear in postings and changes.

    A pin that is PUT goes to the list's end, whether or not it was there (a NaN quality keeps the one it had); any
    other change removes it. To merge changes again that are in a list already leaves its pins and qualities.
    """
    if len(changes.ends) != len(postings.ends):
        raise ValueError(f"changes to {len(changes.ends)} lists, postings of {len(postings.ends)}")
    room = len(postings.pins) + len(changes.pins)
    out = np.empty(room, np.uint64), np.empty(room, np.int64), np.empty(room, np.float32)
    ends = np.empty(len(postings.ends), np.int64)
    total = _merge(
        read_only(postings.pins, np.uint64),
        read_only(postings.at_ms, np.int64),
        read_only(postings.quality, np.float32),
        read_only(postings.ends, np.int64),
        read_only(changes.pins, np.uint64),
        read_only(changes.at_ms, np.int64),
        read_only(changes.quality, np.float32),
        read_only(changes.changes, np.uint8),
        read_only(changes.ends, np.int64),
        *out,
        ends,
    )
    return Postings(out[0][:total], out[1][:total], out[2][:total], ends)


@kernel
def _merge(
    pins: Any,
    at_ms: Any,
    quality: Any,
    ends: Any,
    new_pins: Any,
    new_at_ms: Any,
    new_quality: Any,
    changes: Any,
    new_ends: Any,
    out_pins: Any,
    out_at_ms: Any,
    out_quality: Any,
    out_ends: Any,
) -> Any:
    slots = np.empty(4 * len(new_pins) + 16, np.int32)  # a hash table of one list's changes; first change of each pin
    first = np.empty(len(new_pins), np.int32)  # per change: the first change of its pin
    last_put = np.empty(len(new_pins), np.int64)  # per first change: the put that stands, or -1
    value = np.empty(len(new_pins), np.float32)  # per first change: the quality that stands
    n = row = start = 0
    for source in range(len(ends)):
        stop = new_ends[source]
        size = _index_changes(new_pins, start, stop, slots, first)
        for i in range(start, stop):
            last_put[i], value[i] = -1, np.nan
        for old in range(row, ends[source]):
            found = _find(slots, size, new_pins, pins[old])
            if found >= 0:  # every change of a pin takes its posting from where it was
                value[found] = quality[old]
                continue
            out_pins[n], out_at_ms[n], out_quality[n] = pins[old], at_ms[old], quality[old]
            n += 1
        for i in range(start, stop):
            if changes[i] != PUT:
                last_put[first[i]], value[first[i]] = -1, np.nan
                continue
            last_put[first[i]] = i
            if not np.isnan(new_quality[i]):
                value[first[i]] = new_quality[i]
        for i in range(start, stop):
            if last_put[first[i]] == i:
                out_pins[n], out_at_ms[n], out_quality[n] = new_pins[i], new_at_ms[i], value[first[i]]
                n += 1
        out_ends[source], row, start = n, ends[source], stop
    return n


@kernel
def _index_changes(pins: Any, start: Any, stop: Any, slots: Any, first: Any) -> Any:
    """Fill the hash table with the pins of changes start..stop; its size, a power of two, 0 for no changes."""
    if start == stop:
        return 0
    size = 4
    while size < 2 * (stop - start):
        size *= 2
    slots[:size] = -1
    for i in range(start, stop):
        slot = np.int64(mix(pins[i]) & np.uint64(size - 1))
        while slots[slot] >= 0 and pins[slots[slot]] != pins[i]:
            slot = (slot + 1) & (size - 1)
        if slots[slot] < 0:
            slots[slot] = i
        first[i] = slots[slot]
    return size


@kernel
def _find(slots: Any, size: Any, pins: Any, pin: Any) -> Any:
    """The first change of `pin`, or -1."""
    if size == 0:
        return -1
    slot = np.int64(mix(pin) & np.uint64(size - 1))
    while slots[slot] >= 0 and pins[slots[slot]] != pin:
        slot = (slot + 1) & (size - 1)
    return np.int64(slots[slot])


def capped(postings: Postings, cap: int, light: Light) -> Postings:
    """The lists with at most `cap` postings each: of a longer one its best, as `keep_best` has it."""
    long = np.flatnonzero(postings.counts() > cap)
    if not len(long):
        return postings
    kept = np.ones(len(postings.pins), bool)
    for source in long.tolist():
        here = slice(int(postings.ends[source - 1]) if source else 0, int(postings.ends[source]))
        best = keep_best(postings.pins[here], postings.at_ms[here], postings.quality[here], cap, light)
        kept[here] = False
        kept[here.start + best] = True
    return postings.keep(kept)


def keep_best(pins: U64, at_ms: I64, quality: F32, cap: int, light: Light) -> I64:
    """Rows (int64, ascending) of the best `cap` postings of one list by light score; on a tie the newer, then the
    higher pin. Linear, apart from sorting the ties at the limit; plain numpy, since only freezing a list calls it.
    """
    n = len(pins)
    if n <= cap:
        return np.arange(n)
    if cap <= 0:
        return np.empty(0, np.int64)
    score = light.quality * np.where(np.isnan(quality), light.default_quality, quality.astype(np.float64))
    score -= (at_ms.max() - at_ms) / light.scale_ms
    limit = np.partition(score, n - cap)[n - cap]
    above, ties = np.flatnonzero(score > limit), np.flatnonzero(score == limit)
    order: Array = np.lexsort((pins[ties], at_ms[ties]))
    return np.sort(np.concatenate([above, ties[order[len(above) - cap :]]]))


def woven(lists: Postings, others: Postings, rows: I64) -> Postings:
    """The lists with `others` in place of the empty ones at `rows` (int64[m], ascending)."""
    columns = _woven(
        lists.pins, lists.at_ms, lists.quality, lists.ends, others.pins, others.at_ms, others.quality, others.ends, rows
    )
    return Postings(*columns)


@kernel
def _woven(
    pins: Any, at_ms: Any, quality: Any, ends: Any, o_pins: Any, o_at_ms: Any, o_quality: Any, o_ends: Any, rows: Any
) -> Any:
    n = len(pins) + len(o_pins)
    columns = np.empty(n, np.uint64), np.empty(n, np.int64), np.empty(n, np.float32)
    out_ends = np.empty(len(ends), np.int64)
    to = at = o_at = other = 0
    for i in range(len(ends)):
        for row in range(at, ends[i]):
            columns[0][to], columns[1][to], columns[2][to] = pins[row], at_ms[row], quality[row]
            to += 1
        at = ends[i]
        if other < len(rows) and rows[other] == i:
            for row in range(o_at, o_ends[other]):
                columns[0][to], columns[1][to], columns[2][to] = o_pins[row], o_at_ms[row], o_quality[row]
                to += 1
            o_at = o_ends[other]
            other += 1
        out_ends[i] = to
    return columns[0], columns[1], columns[2], out_ends


def in_sorted(values: U64, sought: U64) -> Array:
    """bool[m]: which of `sought` are among `values`, uint64[n] ascending."""
    if not len(values):
        return np.zeros(len(sought), bool)
    at = np.minimum(np.searchsorted(values, sought), len(values) - 1)
    return np.asarray(values[at] == sought)
