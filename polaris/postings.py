"""Posting lists: changes merged into them, rows filtered out, the best of a long one kept. Arrays in, arrays out.

Lists of several sources lie back to back in columns; `ends` (int64[s]) holds the row after each one's last. Within a
list the pin put last is last, and every pin is there once.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from polaris.kernel import Light
from polaris.layout import CREATED, DELETED, PUT, REMOVE, PostingRows
from services.core.checks import check_ascending, check_ends, check_lengths
from services.core.columns import F32, I64, U8, U64, Array
from services.kernels.bloom import mix, read_only
from services.kernels.jit import kernel


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


def merge(frozen: PostingRows, changes: PostingRows, dated: Array) -> PostingRows:
    """The lists after changes to them, as they are frozen. changes: of each list in the order of arrival. dated: bool[s],
    which are boards. Linear in rows and changes.

    A pin that is put goes to the list's end, whether or not it was there, and one without a quality (NaN) keeps what it
    had. Where the list is dated, of what is said of a pin the latest stands, of equal dates the one that came last; a
    board holds what was put there after it was deleted last, and shows it once it is created again. Elsewhere the order
    of arrival decides. To merge changes again that are in a list already leaves its pins and qualities.
    """
    return PostingRows(*_merged(frozen, changes, dated, True))


def standing(frozen: PostingRows, changes: PostingRows, dated: Array) -> Postings:
    """The pins that are on the lists after changes to them, as `merge` has it."""
    pins, at_ms, quality, _, ends = _merged(frozen, changes, dated, False)
    return Postings(pins, at_ms, quality, ends)


def _merged(frozen: PostingRows, changes: PostingRows, dated: Array, whole: bool) -> tuple[Any, ...]:
    check_lengths(len(frozen.ends), changes=changes.ends, dated=dated)
    for rows in (frozen, changes):
        check_lengths(len(rows.pins), at_ms=rows.at_ms, quality=rows.quality, changes=rows.changes)
        check_ends(rows.ends, len(rows.pins))
    ends = read_only(frozen.ends, np.int64), read_only(changes.ends, np.int64)
    capacity = len(frozen.pins) + len(changes.pins) + 2 * len(ends[0])
    kinds = np.empty(capacity if whole else 0, np.uint8)
    # Made here: numpy asks for large pages, of which a kernel's own arrays have none.
    out = np.empty(capacity, np.uint64), np.empty(capacity, np.int64), np.empty(capacity, np.float32), kinds
    out_ends = np.empty(len(ends[0]), np.int64)
    n = _merge(_columns(frozen), _columns(changes), *ends, read_only(dated, np.bool_), whole, out, out_ends)
    return *(column[:n] for column in out), out_ends


def _columns(rows: PostingRows) -> tuple[U64, I64, F32, U8]:
    return (
        read_only(rows.pins, np.uint64),
        read_only(rows.at_ms, np.int64),
        read_only(rows.quality, np.float32),
        read_only(rows.changes, np.uint8),
    )


_NEVER = -(2**63)
_CREATED_MS, _DELETED_MS, _GONE, _DELETED_BY = 0, 1, 2, 3  # of `life`; the last: the change by which, -1: a frozen row


@kernel
def _merge(old: Any, new: Any, ends: Any, new_ends: Any, dated: Any, whole: Any, out: Any, out_ends: Any) -> Any:
    """How many rows there are. old, new: pins, at_ms, quality and changes of the frozen parts and of the changes to them."""
    many = len(new[0])
    slots = np.empty(4 * many + 16, np.int32)  # a hash table of one list's changes; first change of each pin
    first = np.empty(many, np.int32)  # per change: the first change of its pin
    of_row = np.empty(_longest(ends), np.int32)  # per frozen row of one list: the first change of its pin, or -1
    # Per first change, of its pin: the change that stands, or -1 - the frozen row; the date of that, and the quality.
    state = np.empty(many, np.int64), np.empty(many, np.int64), np.empty(many, np.float32)
    life = np.empty(4, np.int64)
    n = row = start = 0
    for source in range(len(ends)):
        stop, end = new_ends[source], ends[source]
        life[:] = _NEVER
        life[_GONE], life[_DELETED_BY] = 0, -1
        while row < end and old[0][row] == 0:
            _live(life, old[3][row], old[1][row], -1)
            row += 1
        size = _index_changes(new[0], start, stop, slots, first)
        if size:
            _begin(old, new, (row, end, start, stop), slots, size, of_row, state)
            _settle(old, new, start, stop, dated[source], first, state, life)
        if whole:
            n = _put_life(life, out, n)
        if whole or not life[_GONE]:
            n = _put_old(old, row, end, size, of_row, state, life, whole, out, n)
            n = _put_new(new, start, stop, first, state, life, dated[source], whole, out, n)
        out_ends[source], row, start = n, end, stop
    return n


@kernel
def _longest(ends: Any) -> Any:
    most = start = 0
    for end in ends:
        most, start = max(most, end - start), end
    return most


@kernel
def _begin(old: Any, new: Any, rows: Any, slots: Any, size: Any, of_row: Any, state: Any) -> None:
    """Before the changes of a list there stand its frozen rows."""
    (row, end, start, stop), (stands, since, value) = rows, state
    for i in range(start, stop):
        stands[i], since[i], value[i] = i, _NEVER, np.nan
    for i in range(row, end):
        of = of_row[i - row] = _find(slots, size, new[0], old[0][i])
        if of >= 0:
            stands[of], since[of], value[of] = -1 - i, old[1][i], old[2][i]


@kernel
def _settle(old: Any, new: Any, start: Any, stop: Any, by_date: Any, first: Any, state: Any, life: Any) -> None:
    """The state of each pin that changes, and of the board itself, after the changes."""
    stands, since, value = state
    for i in range(start, stop):
        of, at_ms, quality, change = first[i], new[1][i], new[2][i], new[3][i]
        if new[0][i] == 0:
            _live(life, change, at_ms, i)
        elif by_date and at_ms < since[of]:
            before = stands[of]
            if change == PUT and np.isnan(value[of]) and (old[3][-1 - before] if before < 0 else new[3][before]) == PUT:
                value[of] = quality
        else:
            if change != PUT or _is_late(life, since[of], max(stands[of], -1)):
                value[of] = np.nan  # the postings before a deletion say nothing of those after it
            if change == PUT and not np.isnan(quality):
                value[of] = quality
            stands[of], since[of] = i, at_ms


@kernel
def _put_old(
    old: Any, row: Any, end: Any, size: Any, of_row: Any, state: Any, life: Any, whole: Any, out: Any, n: Any
) -> Any:
    """The frozen rows that stand, where they were."""
    pins, at_ms, quality, kinds = old
    late = life[_DELETED_MS] + np.int64(life[_DELETED_BY] >= 0)  # older postings were deleted since, by a change
    for i in range(row, end):
        if not (whole or kinds[i] == PUT):
            continue
        value = quality[i]
        if size:
            of = of_row[i - row]
            if at_ms[i] < late or (of >= 0 and state[0][of] != -1 - i):
                continue
            if of >= 0:
                value = state[2][of]
        out[0][n], out[1][n], out[2][n] = pins[i], at_ms[i], value
        if whole:
            out[3][n] = kinds[i]
        n += 1
    return n


@kernel
def _put_new(
    new: Any, start: Any, stop: Any, first: Any, state: Any, life: Any, by_date: Any, whole: Any, out: Any, n: Any
) -> Any:
    """The changes of pins that stand, in order."""
    for i in range(start, stop):
        stands = new[0][i] != 0 and state[0][first[i]] == i and ((whole and by_date) or new[3][i] == PUT)
        if stands and not _is_late(life, new[1][i], i):
            out[0][n], out[1][n], out[2][n] = new[0][i], new[1][i], state[2][first[i]]
            if whole:
                out[3][n] = new[3][i]
            n += 1
    return n


@kernel
def _is_late(life: Any, at_ms: Any, i: Any) -> Any:
    """Whether the board was deleted since: i: the change, below 0 a frozen row."""
    return at_ms < life[_DELETED_MS] or (at_ms == life[_DELETED_MS] and i < life[_DELETED_BY])


@kernel
def _live(life: Any, change: Any, at_ms: Any, i: Any) -> None:
    """A board was created or deleted: the latest stands, of equal dates the one that came last."""
    if change == CREATED:
        if at_ms >= life[_DELETED_MS]:
            life[_GONE] = 0
        life[_CREATED_MS] = max(life[_CREATED_MS], at_ms)
        return
    if at_ms >= life[_CREATED_MS]:
        life[_GONE] = 1
    if at_ms >= life[_DELETED_MS]:
        life[_DELETED_MS], life[_DELETED_BY] = at_ms, i


@kernel
def _put_life(life: Any, out: Any, n: Any) -> Any:
    """Rows of when a board was created and deleted, the one that stands last."""
    for change in (CREATED, DELETED) if life[_GONE] else (DELETED, CREATED):
        at_ms = life[_CREATED_MS] if change == CREATED else life[_DELETED_MS]
        if at_ms != _NEVER:
            out[0][n], out[1][n], out[2][n], out[3][n] = 0, at_ms, np.nan, change
            n += 1
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


def capped(rows: PostingRows, cap: int, light: Light) -> PostingRows:
    """The lists with at most `cap` pins each: of a longer one its best, as `keep_best` has it. Of the pins that are known
    to have been removed the latest `cap` too.
    """
    long = np.flatnonzero(np.diff(rows.ends, prepend=0) > cap)
    if not len(long):
        return rows
    kept = np.ones(len(rows.pins), bool)
    for source in long.tolist():
        first = int(rows.ends[source - 1]) if source else 0
        changes = rows.changes[first : int(rows.ends[source])]
        put, removed = first + np.flatnonzero(changes == PUT), first + np.flatnonzero(changes == REMOVE)
        kept[put] = kept[removed] = False
        kept[put[keep_best(rows.pins[put], rows.at_ms[put], rows.quality[put], cap, light)]] = True
        kept[removed[np.argsort(rows.at_ms[removed], kind="stable")[max(0, len(removed) - cap) :]]] = True
    return rows.keep(kept)


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
    """The lists with `others` in place of the empty ones at `rows` (int64[m], ascending).

    Raises ValueError for columns of unequal lengths, and rows that do not ascend or are beyond the lists.
    """
    for of in (lists, others):
        check_lengths(len(of.pins), at_ms=of.at_ms, quality=of.quality)
        check_ends(of.ends, len(of.pins))
    check_lengths(len(others.ends), rows=rows)
    check_ascending(rows=rows)
    if len(rows) and not 0 <= rows[0] <= rows[-1] < len(lists.ends):
        raise ValueError(f"rows: {rows[0]} to {rows[-1]}, expected 0 to {len(lists.ends) - 1}")
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
