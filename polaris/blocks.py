"""The arrays of the cache of lists and the arithmetic on them: lists of any length in blocks of a few postings, a table by
open addressing, and the order in which lists came, linked through arrays. The caller holds the cache's lock.

A list is known by its kind and source. Its first block stands for it in the table and in the order; every list has one,
so that an empty list is known to be empty. Blocks are all alike: any free ones will do for any list.
Which list is evicted is chosen as services/kernels/sieve.py says.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.columns import F32, I64, U8, U64
from services.kernels.bloom import mix
from services.kernels.jit import kernel
from services.kernels.prefetch import prefetch
from services.kernels.sieve import EMPTY, link_newest, next_to_leave, unlink

I32 = NDArray[np.int32]

BLOCK = 8  # postings
TOGETHER = 32  # lists whose lines of memory are on their way at the same time
#: Of Blocks.state, after the words of services/kernels/sieve.py: first free block, blocks never taken, free blocks, lists.
FREE, FRESH, ROOM, LISTS = range(len(EMPTY), len(EMPTY) + 4)
PLACE_BYTES, BLOCK_BYTES = 16, BLOCK * 20 + 8 + 1 + 1 + 3 * 4

_NOWHERE = np.uint64(0)  # the second word of an empty place; else: length << 40 | (first block + 1) << 8 | kind
_BYTE, _KIND, _LENGTH, _MASK = np.uint64(8), np.uint64(0xFF), np.uint64(40), np.uint64(0xFFFF_FFFF)


class Blocks(NamedTuple):
    """Of n blocks; `table` has a power of two of places. The fields of a list stand at its first block."""

    table: U64  # [places, 2]
    sources: U64  # [n] of a list
    kinds: U8  # [n] of a list
    marked: U8  # [n] 1: the list was read since the hand last came by
    newer: I32  # [n] the list that came next; -1: none
    older: I32  # [n] the list that came before; -1: none
    following: I32  # [n] the block after this one, of a list or of the free; -1: none
    pins: U64  # [BLOCK * n]
    at_ms: I64  # [BLOCK * n]
    quality: F32  # [BLOCK * n]
    state: I64  # [7]


def make(blocks: int, places: int) -> Blocks:
    """Empty. Memory is taken as lists come."""
    return Blocks(
        np.zeros((places, 2), np.uint64),
        np.zeros(blocks, np.uint64),
        np.zeros(blocks, np.uint8),
        np.zeros(blocks, np.uint8),
        np.zeros(blocks, np.int32),
        np.zeros(blocks, np.int32),
        np.zeros(blocks, np.int32),
        np.zeros(BLOCK * blocks, np.uint64),
        np.zeros(BLOCK * blocks, np.int64),
        np.zeros(BLOCK * blocks, np.float32),
        np.array([*EMPTY, -1, 0, blocks, 0], np.int64),
    )


@kernel
def _hashed(kind: Any, source: Any) -> Any:
    return mix(source ^ (np.uint64(kind) << np.uint64(56)))


@kernel
def _home(blocks: Any, kind: Any, source: Any) -> Any:
    """int64: where the table has the list if no other was there before it."""
    return np.int64(_hashed(kind, source) & np.uint64(len(blocks.table) - 1))


@kernel
def _place(blocks: Any, kind: Any, source: Any) -> Any:
    """int64: where the table has the list, or the empty place where it would be."""
    table, mask, place = blocks.table, len(blocks.table) - 1, _home(blocks, kind, source)
    while table[place, 1] != _NOWHERE:
        if table[place, 0] == source and table[place, 1] & _KIND == np.uint64(kind):
            break
        place = (place + 1) & mask
    return place


@kernel
def _first_block(word: Any) -> Any:
    """int64: the first block of a place's list; -1 if the place is empty."""
    return np.int64((word >> _BYTE) & _MASK) - 1


@kernel
def _length(word: Any) -> Any:
    """int64: how many postings a place's list has."""
    return np.int64(word >> _LENGTH)


@kernel
def _remove(blocks: Any, place: Any) -> None:
    """Forget the list at a place and free its blocks. Lists behind it move up, so that no probe ends early."""
    table, mask, hole, at = blocks.table, len(blocks.table) - 1, place, place
    block = _first_block(table[place, 1])
    unlink(blocks.newer, blocks.older, blocks.state, block)
    blocks.state[LISTS] -= 1
    while block >= 0:
        after = blocks.following[block]
        blocks.following[block] = blocks.state[FREE]
        blocks.state[FREE] = block
        blocks.state[ROOM] += 1
        block = after
    while True:
        at = (at + 1) & mask
        if table[at, 1] == _NOWHERE:
            break
        home = _home(blocks, table[at, 1] & _KIND, table[at, 0])
        if ((at - home) & mask) >= ((at - hole) & mask):
            table[hole, 0], table[hole, 1] = table[at, 0], table[at, 1]
            hole = at
    table[hole, 1] = _NOWHERE


@kernel
def _free_block(blocks: Any) -> Any:
    """A block off the free ones, of which there must be one."""
    blocks.state[ROOM] -= 1
    block = blocks.state[FREE]
    if block >= 0:
        blocks.state[FREE] = blocks.following[block]
        return block
    blocks.state[FRESH] += 1
    return blocks.state[FRESH] - 1


@kernel
def _evict(blocks: Any, needed: Any) -> None:
    """Forget lists until so many blocks are free, no more than there are."""
    while blocks.state[ROOM] < needed:
        block = next_to_leave(blocks.newer, blocks.marked, blocks.state)
        _remove(blocks, _place(blocks, blocks.kinds[block], blocks.sources[block]))


@kernel
def get(blocks: Any, kinds: Any, sources: Any, most: Any) -> Any:
    """(pins, at_ms, quality, ends, missing): the lists that are here, back to back, and marked as read.

    ends: int64[n], where a list that is not here adds nothing; missing: int64[m], the rows of those. Of lists that hold more
    than `most` postings together only `ends` is answered.
    """
    n, missing = len(sources), 0
    words, ends, rows = np.empty(n, np.uint64), np.empty(n, np.int64), np.empty(n, np.int64)
    table, total = blocks.table.reshape(blocks.table.size), 0
    for start in range(0, n, TOGETHER):
        stop = min(start + TOGETHER, n)
        for i in range(start, stop):
            prefetch(table, 2 * _home(blocks, kinds[i], sources[i]))
        for i in range(start, stop):
            word = blocks.table[_place(blocks, kinds[i], sources[i]), 1]
            words[i] = word
            if word == _NOWHERE:
                rows[missing] = i
                missing += 1
            total += _length(word)
            ends[i] = total
    capacity = total if total <= most else 0
    pins, at_ms, quality = np.empty(capacity, np.uint64), np.empty(capacity, np.int64), np.empty(capacity, np.float32)
    if total <= most:
        _copy_out(blocks, words, pins, at_ms, quality)
    return pins, at_ms, quality, ends, rows[:missing]


@kernel
def _copy_out(blocks: Any, words: Any, pins: Any, at_ms: Any, quality: Any) -> None:
    n, to = len(words), 0
    for start in range(0, n, TOGETHER):
        stop = min(start + TOGETHER, n)
        for i in range(start, stop):
            block = _first_block(words[i])
            if block >= 0:
                blocks.marked[block] = 1
                prefetch(blocks.pins, BLOCK * block)
                prefetch(blocks.at_ms, BLOCK * block)
                prefetch(blocks.quality, BLOCK * block)
                prefetch(blocks.following, block)
        for i in range(start, stop):
            block, left = _first_block(words[i]), _length(words[i])
            while left > 0:
                of, count = BLOCK * block, left if left < BLOCK else BLOCK
                for j in range(count):
                    pins[to + j] = blocks.pins[of + j]
                    at_ms[to + j] = blocks.at_ms[of + j]
                    quality[to + j] = blocks.quality[of + j]
                to, left, block = to + count, left - count, blocks.following[block]


@kernel
def put(blocks: Any, kinds: Any, sources: Any, pins: Any, at_ms: Any, quality: Any, ends: Any, sure: Any) -> None:
    """Keep the lists that are sure (bool[n]); older lists are evicted for them."""
    start = 0
    for i in range(len(sources)):
        first, start = start, ends[i]
        needed = max(1, (ends[i] - first + BLOCK - 1) // BLOCK)
        if not sure[i] or needed > len(blocks.sources):
            continue
        if blocks.table[_place(blocks, kinds[i], sources[i]), 1] != _NOWHERE:
            continue
        _evict(blocks, needed)
        block = _fill(blocks, needed, pins[first : ends[i]], at_ms[first : ends[i]], quality[first : ends[i]])
        blocks.kinds[block], blocks.sources[block], blocks.marked[block] = kinds[i], sources[i], 0
        place = _place(blocks, kinds[i], sources[i])  # an eviction may have moved the entry that stood here
        blocks.table[place, 0] = sources[i]
        blocks.table[place, 1] = (
            np.uint64(ends[i] - first) << _LENGTH | np.uint64(block + 1) << _BYTE | np.uint64(kinds[i])
        )
        blocks.state[LISTS] += 1
        link_newest(blocks.newer, blocks.older, blocks.state, block)


@kernel
def _fill(blocks: Any, needed: Any, pins: Any, at_ms: Any, quality: Any) -> Any:
    """Copy a list into so many free blocks; the first of them."""
    first = last = -1
    for i in range(needed):
        block = _free_block(blocks)
        if last >= 0:
            blocks.following[last] = block
        else:
            first = block
        last = block
        for j in range(i * BLOCK, min((i + 1) * BLOCK, len(pins))):
            to = block * BLOCK + j - i * BLOCK
            blocks.pins[to], blocks.at_ms[to], blocks.quality[to] = pins[j], at_ms[j], quality[j]
    blocks.following[last] = -1
    return first


@kernel
def drop(blocks: Any, kinds: Any, sources: Any) -> None:
    """Forget these lists."""
    for i in range(len(sources)):
        place = _place(blocks, kinds[i], sources[i])
        if blocks.table[place, 1] != _NOWHERE:
            _remove(blocks, place)
