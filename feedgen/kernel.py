"""Arithmetic over candidates between sources and page: joining the rows of one pin, leaving out pins met before, and
choosing the rows of the page. `rows`: feedgen.rows.ROW[n].
"""

from typing import Any

import numpy as np

from feedgen.rows import ROW
from services.core.columns import F32, F64, I64, U32, U64, Array
from services.kernels.bloom import mix
from services.kernels.jit import kernel
from services.kernels.radix import in_order

WITHIN, GAVE_WAY, FILLER = range(3)  # why a candidate fills a slot
_MAGNITUDE = np.uint64((1 << 63) - 1)


@kernel
def count(rows: Array, walked: int, found_by: U32, nearness: F32, first: Array) -> None:
    """Joins the rows of each pin; the result is written to all of them.

    walked: the origin of pins that walks passed. found_by: uint32[n], bit s for source s; nearness: float32[n], the greatest
    weight of a walked row, NaN without one; first: bool[n], whether no row before is of the same pin.
    """
    size = 16
    while size < 2 * len(rows):
        size *= 2
    last, slots, same = np.uint64(size - 1), np.zeros(size, np.int32), np.empty(len(rows), np.int32)
    for i in range(len(rows)):
        slot = mix(rows[i].pin) & last
        while slots[slot] and rows[slots[slot] - 1].pin != rows[i].pin:
            slot = (slot + np.uint64(1)) & last
        first[i] = slots[slot] == 0
        if first[i]:
            slots[slot], found_by[i], nearness[i] = i + 1, 0, np.nan
        same[i] = of = slots[slot] - 1
        found_by[of] |= np.uint32(1) << np.uint32(rows[i].source)
        if rows[i].origin == walked and not nearness[of] >= rows[i].weight:
            nearness[of] = rows[i].weight
    for i in range(len(rows)):
        found_by[i], nearness[i] = found_by[same[i]], nearness[same[i]]


@kernel
def _among(ascending: U64, pin: int) -> Any:
    """Whether it is in a sorted array (uint64[m])."""
    low, size = 0, len(ascending)
    while size > 1:
        half = size >> 1
        low += half if ascending[low + half - 1] < pin else 0
        size -= half
    return len(ascending) > 0 and ascending[low] == pin


@kernel
def absent(rows: Array, ascending: U64, keep: Array) -> None:
    """keep: bool[n], whether the pin of each row is not in a sorted array (uint64[m])."""
    for i in range(len(rows)):
        keep[i] = not _among(ascending, rows[i].pin)


@kernel
def unshown(rows: Array, marks: U64, shift: np.uint64, keep: Array) -> None:
    """keep: bool[n], whether the pin of each row has none of the marks of feedgen/shown.py."""
    for i in range(len(rows)):
        keep[i] = not _among(marks, mix(rows[i].pin) >> shift)


@kernel
def unmet(pins: U64, seen: U64, marks: U64, shift: np.uint64, keep: Array) -> None:
    """keep: bool[n], whether each of the pins (uint64[n]) is not in a sorted array, and has none of the marks."""
    for i in range(len(pins)):
        keep[i] = not (_among(seen, pins[i]) or _among(marks, mix(pins[i]) >> shift))


@kernel
def _ranks(score: F64) -> U64:
    """uint64[n] that rise as scores fall: their bits in order, turned round; NaN last."""
    ranks = np.empty(len(score), np.uint64)
    bits = (score + 0.0).view(np.uint64)  # one zero, not two
    for i in range(len(score)):
        if np.isnan(score[i]):
            ranks[i] = ~np.uint64(0)
        else:
            ranks[i] = bits[i] if bits[i] >> np.uint64(63) else ~bits[i] & _MAGNITUDE
    return ranks


@kernel
def _best_first(rows: Array, score: F64) -> Any:
    """uint32[n]: the rows by score, NaN last; then by pin; then as they came."""
    pins = np.empty(len(rows), np.uint64)
    for i in range(len(rows)):
        pins[i] = rows[i].pin
    _, order = in_order(pins, np.arange(len(rows)).astype(np.uint32), 0)
    _, order = in_order(_ranks(score[order]), order, 0)
    return order


@kernel
def _fits(rows: Array, interest: U64, limits: I64, chosen: I64, row: int) -> Any:
    """Whether the limits allow one more of this row's board, owner and interest. 0: of none, no limit."""
    boards = owners = interests = 0
    for other in chosen:
        boards += rows[other].board == rows[row].board
        owners += rows[other].owner == rows[row].owner
        interests += interest[other] == interest[row]
    return (
        (limits[0] == 0 or rows[row].board == 0 or boards < limits[0])
        and (limits[1] == 0 or rows[row].owner == 0 or owners < limits[1])
        and (limits[2] == 0 or interest[row] == 0 or interests < limits[2])
    )


@kernel
def _weigh(rates: F64, rated: bool, weights: F64) -> None:
    """The weights of sources: their rates, or where those without a rate are asked for, 1 of each of them."""
    for source in range(len(weights)):
        weights[source] = 0.0
        has = source < len(rates) and rates[source] > 0
        if has == rated:
            weights[source] = rates[source] if rated else 1.0


@kernel
def _lagging(weights: F64, filled: I64, part: float) -> int:
    """The source whose share of the page lags most behind its weight; -1 when none has one."""
    lagging, most = -1, 0.0
    for source in range(len(weights)):
        deficit = weights[source] * part - filled[source]
        if weights[source] > 0 and (lagging < 0 or deficit > most):
            lagging, most = source, deficit
    return lagging


@kernel
def draft(rows: Array, score: F64, found_by: U32, interest: U64, limits: I64, rates: F64, page: Array) -> None:
    """Choose as feedgen/slate.py says. Best first: within limits, then those for which limits gave way, then fillers.

    limits: per board, owner, interest. rates: of each source. page: int64[3, size <= n], written: the rows, the source
    whose slot each fills, and WITHIN, GAVE_WAY or FILLER.
    """
    chosen, slots, why = page[0], page[1], page[2]
    n, size = len(rows), 0
    sources = 0
    for bits in found_by:
        while bits >> np.uint32(sources):
            sources += 1
    order, taken, places = _best_first(rows, score), np.zeros(n, np.bool_), np.empty(len(chosen), np.int64)
    filled, weights, cursors = np.zeros(sources, np.int64), np.zeros(sources), np.zeros(sources, np.int64)
    for round_ in range(4):
        _weigh(rates, round_ < 2, weights)
        total = weights.sum()
        cursors[:] = 0
        while size < len(chosen):
            source = _lagging(weights, filled, (size + 1) / total)
            if source < 0:
                break
            row = -1
            while row < 0 and cursors[source] < n:
                place = cursors[source]
                row = int(order[place])
                cursors[source] += 1
                if (
                    taken[row]
                    or not found_by[row] >> np.uint32(source) & np.uint32(1)
                    or (round_ % 2 == 0 and not _fits(rows, interest, limits, chosen[:size], row))
                ):
                    row = -1
            if row < 0:
                weights[source] = 0  # it has none left
                continue
            taken[row] = True
            filled[source] += 1
            chosen[size], slots[size], why[size], places[size] = row, source, min(round_, FILLER), place
            size += 1
    _order(chosen, slots, why, places)


@kernel
def _order(chosen: I64, slots: I64, why: I64, places: I64) -> None:
    """By why, then by place: sorted by insertion, a page is short."""
    for end in range(1, len(chosen)):
        row, slot, reason, place = chosen[end], slots[end], why[end], places[end]
        at = end
        while at and (why[at - 1] > reason or (why[at - 1] == reason and places[at - 1] > place)):
            chosen[at], slots[at], why[at], places[at] = chosen[at - 1], slots[at - 1], why[at - 1], places[at - 1]
            at -= 1
        chosen[at], slots[at], why[at], places[at] = row, slot, reason, place


def warm() -> None:
    """Compile the kernels of a page, or load them: the first request need not wait for it."""
    rows, floats, bits, mask = np.zeros(1, ROW), np.ones(1, np.float32), np.ones(1, np.uint32), np.ones(1, np.bool_)
    count(rows, 0, bits, floats, mask)
    as_read, as_made = np.frombuffer(b"", np.uint64), np.zeros(0, np.uint64)  # a kernel is compiled for either
    for seen in (as_read, as_made):
        absent(rows, seen, mask)
        for pins in (as_read, as_made):
            unmet(pins, seen, as_made, np.uint64(1), mask)
    unshown(rows, as_made, np.uint64(1), mask)
    draft(rows, np.ones(1), bits, np.ones(1, np.uint64), np.zeros(3, np.int64), np.ones(1), np.empty((3, 1), np.int64))
