"""Selects the best postings for a request. Arrays in, arrays out; how lists come to be is in `polaris/postings.py`.

Posting lists of several sources lie back to back in columns; `ends` (int64[s]) holds the row after each one's last.

The light score of a posting is `ln(weight) + quality coefficient * quality - age / scale`: freshness decays
exponentially, and in log space the order of two pins does not change as time passes. It is rounded to float32, as the
wire has it, *before* anything is compared, so that merging the answers of several shards gives one shard's order.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from services.bloom import contains, mix, read_only
from services.clock import DAY_MS
from services.columns import F32, I64, U8, U32, U64
from services.jit import kernel

#: Why a posting was dropped: DropReason of protos/polaris.proto, 0 = kept.
KEPT, SEEN, TAKEN_DOWN, TOO_OLD, SOURCE_FULL, DUPLICATE, NOT_BEST = range(7)

_HIGH, _LOW, _SIGN, _ONES = np.uint64(32), np.uint64(0xFFFF_FFFF), np.uint32(0x8000_0000), np.uint32(0xFFFF_FFFF)


@dataclass(frozen=True, slots=True)
class Light:
    """The coefficients of the light score."""

    quality: float = 2.0  # what a quality of 1 is worth over one of 0, in nats
    scale_ms: float = 90.0 * DAY_MS  # an age that costs one nat; > 0
    default_quality: float = 0.5  # of a posting whose quality was never stated (NaN)


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """What `select` kept: rows of the postings, best first, and what became of the others."""

    rows: I64
    sources: U32  # index into the request's sources
    scores: F32
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
    per_source: 0 is no limit. First goes what was seen, is taken down or too old (in this order; an age below 0, from
    clock skew, counts as 0), then all but each pin's best posting, then all but the best per_source of each source,
    then all but the best k. Best is the higher score, then the smaller pin, then the earlier source.
    O(m + m log k), whatever the input.
    """
    m = len(pins)
    if not len(at_ms) == len(quality) == m or len(ends) != len(weights) or (ends[-1] if len(ends) else 0) != m:
        raise ValueError(
            f"{m} pins, {len(at_ms)} at_ms, {len(quality)} quality, {len(ends)} ends, {len(weights)} weights"
        )
    ends = read_only(ends, np.int64)
    reasons, counts = np.zeros(m, np.uint8), np.zeros(4, np.int64)
    rows, scores = _select(
        read_only(pins, np.uint64),
        read_only(at_ms, np.int64),
        read_only(quality, np.float32),
        ends,
        np.log(weights, dtype=np.float64),
        read_only(seen, np.uint32),
        read_only(taken_down, np.uint64),
        np.int64(now_ms),
        np.int64(max_age_ms) or np.iinfo(np.int64).max,
        np.int64(per_source) or np.int64(m),
        np.int64(k),
        (float(light.quality), float(light.scale_ms), float(light.default_quality)),
        reasons,
        counts,
    )
    sources = np.searchsorted(ends, rows, side="right").astype(np.uint32)
    told = reasons if explain else reasons[:0]
    return Selection(rows, sources, scores, m, int(counts[SEEN]), int(counts[TAKEN_DOWN]), int(counts[TOO_OLD]), told)


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
    light: Any,
    reasons: Any,
    counts: Any,
) -> Any:
    left = _drop_unwanted(pins, at_ms, seen, taken_down, now_ms, max_age_ms, reasons, counts)
    scores = np.empty(len(pins), np.float32)
    _score(at_ms, quality, ends, log_weights, now_ms, light, reasons, scores)
    left -= _drop_duplicates(pins, scores, left, reasons)
    order = np.empty(left, np.uint64)  # (score, row) of what is left, as _key packs them
    kept = start = 0
    for source in range(len(ends)):
        first = kept
        for row in range(ends[source] - 1, start - 1, -1):  # newest first: better ones sooner, less to swap below
            if reasons[row] == KEPT:
                order[kept] = _key(scores[row], row)
                kept += 1
        start = ends[source]
        if kept - first > per_source:
            _best_first(order[first:kept], per_source, pins, reasons, SOURCE_FULL)
            kept = first + per_source
    if kept > k:
        _best_first(order[:kept], k, pins, reasons, NOT_BEST)
        kept = k
    _sort(order[:kept], pins)
    rows, best = np.empty(kept, np.int64), np.empty(kept, np.float32)
    for i in range(kept):
        rows[i] = np.int64(order[i] & _LOW)
        best[i] = scores[rows[i]]
    return rows, best


@kernel
def _drop_unwanted(
    pins: Any, at_ms: Any, seen: Any, taken_down: Any, now_ms: Any, max_age_ms: Any, reasons: Any, counts: Any
) -> Any:
    """How many rows are left after what was seen, is taken down or too old."""
    for row in range(len(pins)):
        reason = KEPT
        if contains(seen, pins[row]):
            reason = SEEN
        elif len(taken_down) and _in_sorted(taken_down, pins[row]):
            reason = TAKEN_DOWN
        elif now_ms - at_ms[row] > max_age_ms:
            reason = TOO_OLD
        reasons[row] = reason
        counts[reason] += 1
    return counts[KEPT]


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
def _score(
    at_ms: Any, quality: Any, ends: Any, log_weights: Any, now_ms: Any, light: Any, reasons: Any, scores: Any
) -> None:
    coefficient, scale_ms, default = light
    start = 0
    for source in range(len(ends)):
        for row in range(start, ends[source]):
            if reasons[row] == KEPT:
                stated = np.float64(quality[row])
                value = default if np.isnan(stated) else stated
                age = max(np.int64(0), now_ms - at_ms[row])
                scores[row] = np.float32(log_weights[source] + coefficient * value - age / scale_ms)
        start = ends[source]


@kernel
def _drop_duplicates(pins: Any, scores: Any, left: Any, reasons: Any) -> Any:
    """Keep each pin's best posting, the earlier row on a tie; how many were dropped."""
    size = 16
    while size < 2 * left:
        size *= 2
    slots, mask, dropped = np.full(size, -1, np.int32), np.uint64(size - 1), 0
    for row in range(len(pins)):
        if reasons[row] != KEPT:
            continue
        slot = np.int64(mix(pins[row]) & mask)
        while slots[slot] >= 0 and pins[slots[slot]] != pins[row]:
            slot = (slot + 1) & (size - 1)
        held = slots[slot]
        if held < 0:
            slots[slot] = row
            continue
        dropped += 1
        if scores[row] > scores[held]:
            slots[slot] = row
            reasons[held] = DUPLICATE
        else:
            reasons[row] = DUPLICATE
    return dropped


@kernel
def _key(score: Any, row: Any) -> Any:
    """Score and row in one uint64 that sorts by the score, highest first."""
    bits = np.float32(score + np.float32(0.0)).view(np.uint32)  # adding zero makes -0.0 the 0.0 that it equals
    ascending = np.uint32(bits ^ _ONES) if bits & _SIGN else np.uint32(bits | _SIGN)
    return (np.uint64(np.uint32(ascending ^ _ONES)) << _HIGH) | np.uint64(row)


@kernel
def _better(a: Any, b: Any, pins: Any) -> Any:
    """Whether key a goes before key b: higher score, smaller pin, earlier row."""
    if a >> _HIGH != b >> _HIGH:
        return a < b
    pin_a, pin_b = pins[np.int64(a & _LOW)], pins[np.int64(b & _LOW)]
    return a < b if pin_a == pin_b else pin_a < pin_b


@kernel
def _sift(heap: Any, hole: Any, size: Any, pins: Any) -> None:
    """Move the key at `hole` down to its place in a heap with the worst key on top."""
    key = heap[hole]
    while 2 * hole + 1 < size:
        child = 2 * hole + 1
        if child + 1 < size and _better(heap[child], heap[child + 1], pins):
            child += 1
        if not _better(key, heap[child], pins):
            break
        heap[hole] = heap[child]
        hole = child
    heap[hole] = key


@kernel
def _best_first(keys: Any, k: Any, pins: Any, reasons: Any, reason: Any) -> None:
    """Move the best k keys to the front, in no order, and note the reason of the others' rows. O(n log k)."""
    for hole in range(k // 2 - 1, -1, -1):
        _sift(keys, hole, k, pins)
    for i in range(k, len(keys)):
        if k and _better(keys[i], keys[0], pins):
            keys[i], keys[0] = keys[0], keys[i]
            _sift(keys, 0, k, pins)
        reasons[np.int64(keys[i] & _LOW)] = reason


@kernel
def _sort(keys: Any, pins: Any) -> None:
    """Heapsort, best first."""
    for hole in range(len(keys) // 2 - 1, -1, -1):
        _sift(keys, hole, len(keys), pins)
    for last in range(len(keys) - 1, 0, -1):
        keys[0], keys[last] = keys[last], keys[0]
        _sift(keys, 0, last, pins)
