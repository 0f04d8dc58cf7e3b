"""Selects the best postings for a request. Arrays in, arrays out; how lists come to be is in `polaris/postings.py`.

Posting lists of several sources lie back to back in columns; `ends` (int64[s]) holds the row after each one's last.

The light score of a posting is `ln(weight) + quality coefficient * quality - age / scale`: freshness decays
exponentially, and in log space the order of two pins does not change as time passes. It is rounded to float32, as the
wire has it, *before* anything is compared, so that merging the answers of several shards gives one shard's order.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.core.checks import check_ends, check_lengths
from services.core.clock import DAY_MS
from services.core.columns import F32, I64, U8, U32, U64
from services.kernels.bloom import contains, mix, read_only
from services.kernels.jit import kernel
from services.kernels.radix import ascending

T = TypeVar("T", bound=np.generic)

#: Why a posting was dropped: DropReason of protos/polaris.proto, 0 = kept.
KEPT, SEEN, TAKEN_DOWN, TOO_OLD, SOURCE_FULL, DUPLICATE, NOT_BEST = range(7)

_HIGH, _LOW, _SIGN, _ONES = np.uint64(32), np.uint64(0xFFFF_FFFF), np.uint32(0x8000_0000), np.uint32(0xFFFF_FFFF)
_LOWEST, _ONE = _LOW, np.uint64(1)  # the upper half of the worst key there can be
_ANY_AGE = (1 << 63) - 1
_SAMPLE, _FEW = 128, 16  # keys


@dataclass(frozen=True, slots=True)
class Light:
    """The coefficients of the light score."""

    quality: float = 2.0  # the worth of a quality of 1 over one of 0, in nats
    scale_ms: float = 90.0 * DAY_MS  # an age that costs one nat; > 0
    default_quality: float = 0.5  # of a posting whose quality was never stated (NaN)


class Selection(NamedTuple):
    """The rows that `select` kept, best first, and the fate of the other postings."""

    rows: I64  # of the postings
    pins: U64
    at_ms: I64
    quality: F32
    scores: F32
    sources: U32  # index into the request's sources
    considered: int
    seen: int
    taken_down: int
    too_old: int
    reasons: U8  # [m] with explain, else [0]


def select(
    pins: U64,
    at_ms: I64,
    quality: F32,
    ends: I64,
    weights: F32,
    *,
    seen: U32,
    taken_down: U64,
    now_ms: int,
    max_age_ms: int,
    per_source: int,
    k: int,
    light: Light,
    explain: bool = False,
) -> Selection:
    """The best k of m postings (columns of length m) of s sources, by light score, each pin once.

    weights: float32[s] > 0. seen: words of a bloom filter, may be empty. taken_down: uint64[t], sorted. max_age_ms and
    per_source: 0 is no limit. First go pins that were seen, are taken down or too old (in this order; an age below 0, from
    clock skew, counts as 0), then all but each pin's best posting, then all but the best per_source of each source,
    then all but the best k. Best is the higher score, then the smaller pin, then the earlier source.
    O(m), and O(t log t) for t postings of one score, whatever the input. Raises ValueError for columns of unequal lengths.
    """
    m = len(pins)
    check_lengths(m, at_ms=at_ms, quality=quality)
    check_lengths(len(weights), ends=ends)
    check_ends(ends, m)
    reasons = np.empty(m if explain else 0, np.uint8)
    rows, of_pins, dates, qualities, scores, sources, was_seen, was_taken_down, was_old = _select(
        pins,
        at_ms,
        quality,
        ends,
        np.log(weights.astype(np.float64)),
        input_of(seen),
        input_of(taken_down),
        now_ms,
        max_age_ms or _ANY_AGE,
        per_source or m,
        k,
        float(light.quality),
        float(light.scale_ms),
        float(light.default_quality),
        reasons,
    )
    columns = rows, of_pins, dates, qualities, scores, sources
    return Selection(*columns, m, was_seen, was_taken_down, was_old, reasons)


def input_of(values: NDArray[T]) -> NDArray[T]:
    """`values` as a kernel's input, as `read_only` has it; an array off the wire or from a kernel's input is one already."""
    flags = values.flags
    if flags.writeable or not flags.c_contiguous or not flags.aligned:
        return read_only(values, values.dtype.type)
    return values


@kernel
def _select(
    pins: Any,
    at_ms: Any,
    quality: Any,
    ends: Any,
    log_weights: Any,
    seen: Any,
    taken_down: Any,
    now_ms: Any,
    max_age_ms: Any,
    per_source: Any,
    k: Any,
    coefficient: Any,
    scale_ms: Any,
    default: Any,
    reasons: Any,
) -> Any:
    owners, scores, keys = (
        np.empty(len(pins), np.uint32),
        np.empty(len(pins), np.float32),
        np.empty(len(pins), np.uint64),
    )
    _score(at_ms, quality, ends, log_weights, now_ms, coefficient, scale_ms, default, owners, scores)
    counts = _wanted(pins, at_ms, scores, seen, taken_down, now_ms, max_age_ms, keys, reasons)
    order = _best(keys[: counts[KEPT]], pins, owners, len(ends), per_source, k, reasons)
    return *_columns(order, pins, at_ms, quality, scores, owners), counts[SEEN], counts[TAKEN_DOWN], counts[TOO_OLD]


@kernel
def _score(
    at_ms: Any,
    quality: Any,
    ends: Any,
    log_weights: Any,
    now_ms: Any,
    coefficient: Any,
    scale_ms: Any,
    default: Any,
    owners: Any,
    scores: Any,
) -> None:
    """Write of each posting its source and its score."""
    start = 0
    for source in range(len(ends)):
        owners[start : ends[source]] = source
        start = ends[source]
    for row in range(len(owners)):  # of all sources, without a branch, so that several rows are computed at once
        stated = np.float64(quality[row])
        value = stated if stated == stated else default  # noqa: PLR0124 - NaN is not itself
        age = np.float64(max(np.int64(0), now_ms - at_ms[row]))
        scores[row] = np.float32(log_weights[owners[row]] + coefficient * value - age / scale_ms)


@kernel
def _wanted(
    pins: Any,
    at_ms: Any,
    scores: Any,
    seen: Any,
    taken_down: Any,
    now_ms: Any,
    max_age_ms: Any,
    keys: Any,
    reasons: Any,
) -> Any:
    """Write the keys of the pins that are not seen, taken down or too old; how many are left, and how many were each of those."""
    left = was_seen = was_taken_down = was_old = 0
    for row in range(len(pins)):
        reason = KEPT
        if contains(seen, pins[row]):
            reason = SEEN
            was_seen += 1
        elif len(taken_down) and _in_sorted(taken_down, pins[row]):
            reason = TAKEN_DOWN
            was_taken_down += 1
        elif now_ms - at_ms[row] > max_age_ms:
            reason = TOO_OLD
            was_old += 1
        else:
            keys[left] = _key(scores[row], row)
            left += 1
        if len(reasons):
            reasons[row] = reason
    return left, was_seen, was_taken_down, was_old


@kernel
def _in_sorted(values: Any, value: Any) -> Any:
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        if values[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low < len(values) and values[low] == value


@kernel
def _best(keys: Any, pins: Any, owners: Any, sources: Any, per_source: Any, k: Any, reasons: Any) -> Any:
    """The keys of the best k, best first, each pin once and at most per_source of each of so many sources.

    All keys are visited best first: the first posting of a pin is its best, and the others are duplicates, of whatever
    source. Only those are put in order that are visited: the best of all, then, while k are not found, the next best.
    With `reasons` every row's is noted, so all are visited.
    """
    size, taken = 16, 0
    while size < len(keys) + len(keys) // 4:
        size *= 2
    met, some, spare = np.full(size, -1, np.int32), np.empty_like(keys), np.empty_like(keys)  # met: rows by their pin
    chosen, of_source = np.empty(min(k, len(keys)), np.uint64), np.zeros(sources, np.int64)
    rank, above = len(keys) if len(reasons) else 3 * k, np.uint64(0)
    while above <= _LOWEST and (taken < k or len(reasons)):
        limit = _limit(keys, rank)  # scores from `above` to `limit` are next
        n = 0
        for key in keys:
            some[n] = key
            n += above <= key >> _HIGH <= limit
        for key in _sort(some[:n], spare[:n], pins):
            row = np.int64(key & _LOW)
            if _met(met, pins, row):
                reason = DUPLICATE
            else:
                source = owners[row]
                reason = SOURCE_FULL if of_source[source] >= per_source else KEPT if taken < k else NOT_BEST
                of_source[source] += 1
            if reason == KEPT:
                chosen[taken] = key
                taken += 1
            if len(reasons):
                reasons[row] = reason
            elif taken == k:
                break
        above, rank = limit + _ONE, 4 * rank
    return chosen[:taken]


@kernel
def _limit(keys: Any, rank: Any) -> Any:
    """A score, as the upper half of a key has it, that about `rank` keys are not below; of a few, the lowest there can be."""
    if 2 * rank + _SAMPLE > len(keys):
        return _LOWEST
    sample = np.empty(_SAMPLE, np.uint64)
    for i in range(_SAMPLE):
        sample[i] = keys[i * len(keys) // _SAMPLE]
    sample.sort()
    return sample[rank * _SAMPLE // len(keys)] >> _HIGH


@kernel
def _met(met: Any, pins: Any, row: Any) -> Any:
    """Whether the pin of this row was met before; from now on it was."""
    pin = pins[row]
    slot = np.int64(mix(pin) & np.uint64(len(met) - 1))
    while met[slot] >= 0:
        if pins[met[slot]] == pin:
            return True
        slot = (slot + 1) & (len(met) - 1)
    met[slot] = row
    return False


@kernel
def _columns(order: Any, pins: Any, at_ms: Any, quality: Any, scores: Any, owners: Any) -> Any:
    """(rows, pins, at_ms, quality, scores, sources) of these keys."""
    n = len(order)
    rows, best, sources = np.empty(n, np.int64), np.empty(n, np.float32), np.empty(n, np.uint32)
    of = np.empty(n, np.uint64), np.empty(n, np.int64), np.empty(n, np.float32)
    for i in range(n):
        row = np.int64(order[i] & _LOW)
        rows[i], best[i], sources[i] = row, scores[row], owners[row]
        of[0][i], of[1][i], of[2][i] = pins[row], at_ms[row], quality[row]
    return rows, of[0], of[1], of[2], best, sources


@kernel
def _key(score: Any, row: Any) -> Any:
    """Score and row in one uint64 that sorts by the score, highest first."""
    bits = np.float32(score + np.float32(0.0)).view(np.uint32)  # adding zero makes -0.0 the 0.0 that it equals
    ascending = np.uint32(bits ^ _ONES) if bits & _SIGN else np.uint32(bits | _SIGN)
    return (np.uint64(np.uint32(ascending ^ _ONES)) << _HIGH) | np.uint64(row)


@kernel
def _sort(keys: Any, spare: Any, pins: Any) -> Any:
    """Best first: by score, then equal scores by pin and row.

    Keys come in the order of rows, and stay so among equal scores. In whichever of keys and spare (uint64[n]) they end in.
    """
    n, keys, start = len(keys), ascending(keys, spare, 32), 0
    for i in range(1, n + 1):
        if i == n or keys[i] >> _HIGH != keys[start] >> _HIGH:
            if i - start > 1:
                _sort_ties(keys[start:i], pins)
            start = i
    return keys


@kernel
def _later(a: Any, b: Any, pins: Any) -> Any:
    """Whether key a of the same score goes after key b: larger pin, later row."""
    pin_a, pin_b = pins[np.int64(a & _LOW)], pins[np.int64(b & _LOW)]
    return a > b if pin_a == pin_b else pin_a > pin_b


@kernel
def _sort_ties(keys: Any, pins: Any) -> None:
    """Keys of one score by pin and row: insertion sort of a few, heapsort of many."""
    if len(keys) <= _FEW:
        for i in range(1, len(keys)):
            key, hole = keys[i], i
            while hole and _later(keys[hole - 1], key, pins):
                keys[hole] = keys[hole - 1]
                hole -= 1
            keys[hole] = key
        return
    for hole in range(len(keys) // 2 - 1, -1, -1):
        _sift(keys, hole, len(keys), pins)
    for last in range(len(keys) - 1, 0, -1):
        keys[0], keys[last] = keys[last], keys[0]
        _sift(keys, 0, last, pins)


@kernel
def _sift(heap: Any, hole: Any, size: Any, pins: Any) -> None:
    """Move the key at `hole` down to its place in a heap with the last key on top."""
    key = heap[hole]
    while 2 * hole + 1 < size:
        child = 2 * hole + 1
        if child + 1 < size and _later(heap[child + 1], heap[child], pins):
            child += 1
        if not _later(heap[child], key, pins):
            break
        heap[hole] = heap[child]
        hole = child
    heap[hole] = key
