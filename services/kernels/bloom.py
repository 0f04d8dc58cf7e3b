"""Split-block bloom filters over 64-bit ids: the pins a user has seen, small enough to travel with a request.

Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom Filters" (2007), with the block layout and the salts
that Apache Parquet documents: a block is 8 uint32 words (256 bits, half a cache line), a key sets one bit in each word
of one block, so adding or asking costs one cache miss. Sizes are solved from the split-block rate itself.

A filter is nothing but its words, uint32[8 * blocks], on the wire as `<u4` with no header. No words hold nothing.
Ids are hashed here, unlike in Parquet (xxHash64 of bytes). Ids can't be removed, filters don't grow: build a new one.
"""

from functools import lru_cache
from math import ceil, comb, exp, fsum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.core.columns import U32, U64, pack, unpack
from services.core.errors import InvalidArgument
from services.kernels.bloom_block import WORDS, block_add, block_holds
from services.kernels.jit import kernel
from services.kernels.prefetch import prefetch

T = TypeVar("T", bound=np.generic)

MAX_BYTES = 64 << 20
_SHIFT_33, _SHIFT_32, _LOW = np.uint64(33), np.uint64(32), np.uint64(0xFFFF_FFFF)
_MIX_1, _MIX_2 = np.uint64(0xFF51_AFD7_ED55_8CCD), np.uint64(0xC4CE_B9FE_1A85_EC53)
_LARGE = 1 << 20  # words: beyond it a filter is not in the processor's own cache, and is worth asking ahead for
_AHEAD = 16  # keys; more are more lines than a core fetches at a time
_MARGIN = 0.97  # solve for a little under the asked rate, so that one filter's luck stays below it


@kernel
def mix(key: Any) -> Any:
    """A well-mixed uint64 of a uint64: MurmurHash3's 64-bit finaliser (Appleby, fmix64).

    Ids are often small and sequential, and a block is chosen by the high bits, so every input bit must reach them.
    Two multiplications do; it is a bijection, so two ids never collide before the filter itself makes them.
    """
    key ^= key >> _SHIFT_33
    key *= _MIX_1
    key ^= key >> _SHIFT_33
    key *= _MIX_2
    return key ^ (key >> _SHIFT_33)


@kernel
def contains(words: Any, key: Any) -> Any:
    """Whether the filter `words` (uint32[8 * blocks]) may hold `key` (uint64). For use inside other kernels."""
    if len(words) < WORDS:
        return False
    hashed = mix(key)
    return block_holds(words, _first(hashed, len(words)), np.uint32(hashed & _LOW))


@kernel
def _first(hashed: Any, words: Any) -> Any:
    """The first word of a key's block. Multiply-shift (Lemire, "Fast Random Integer Generation in an Interval", 2019):
    even over any number of blocks.
    """
    blocks = np.uint64(words) // np.uint64(WORDS)
    return np.int64(((hashed >> _SHIFT_32) * blocks) >> _SHIFT_32) * WORDS


@kernel
def _ask(words: Any, hashed: Any) -> None:
    """The block of a key is on its way to the processor."""
    prefetch(words, _first(hashed, len(words)))


@kernel
def _hash(keys: Any, hashes: Any) -> Any:
    """The hashes of some keys; how many."""
    for i in range(len(keys)):
        hashes[i] = mix(keys[i])
    return len(keys)


@kernel
def _add(words: Any, keys: Any) -> None:
    """In a large filter, blocks of some keys are asked for while those of the keys before are written."""
    if len(words) <= _LARGE:
        for key in keys:
            hashed = mix(key)
            block_add(words, _first(hashed, len(words)), np.uint32(hashed & _LOW))
        return
    now, soon = np.empty(_AHEAD, np.uint64), np.empty(_AHEAD, np.uint64)
    n = _hash(keys[:_AHEAD], now)
    for start in range(_AHEAD, len(keys) + _AHEAD, _AHEAD):
        coming = _hash(keys[start : start + _AHEAD], soon)
        for i in range(n):
            if i < coming:
                _ask(words, soon[i])
            block_add(words, _first(now[i], len(words)), np.uint32(now[i] & _LOW))
        now, soon, n = soon, now, coming


@kernel
def _probe(words: Any, keys: Any, held: Any) -> None:
    """In a large filter, blocks of some keys are asked for while those of the keys before are looked at."""
    if len(words) <= _LARGE:
        for i in range(len(keys)):
            held[i] = contains(words, keys[i])
        return
    now, soon = np.empty(_AHEAD, np.uint64), np.empty(_AHEAD, np.uint64)
    n = _hash(keys[:_AHEAD], now)
    for start in range(_AHEAD, len(keys) + _AHEAD, _AHEAD):
        coming = _hash(keys[start : start + _AHEAD], soon)
        for i in range(n):
            if i < coming:
                _ask(words, soon[i])
            held[start - _AHEAD + i] = block_holds(words, _first(now[i], len(words)), np.uint32(now[i] & _LOW))
        now, soon, n = soon, now, coming


def build(ids: U64, false_positive_rate: float = 0.01) -> U32:
    """A filter, uint32[8 * blocks], sized for `ids` (uint64[n]) at the rate (1e-6 to 0.5) and holding them.

    Raises InvalidArgument for another rate, or when the filter would be over 64 MiB.
    """
    words = np.zeros(WORDS * blocks_for(len(ids), false_positive_rate), np.uint32)
    if len(ids):
        add(words, ids)
    return words


def add(words: U32, ids: U64) -> None:
    """Add `ids` (uint64[n]) in place. A filter keeps its rate only for the number of ids it was built for.

    Raises ValueError for a filter of no blocks: there is nowhere to remember an id.
    """
    if len(words) < WORDS and len(ids):
        raise ValueError("a filter without blocks can't hold ids: build one of them")
    _add(words, read_only(ids, np.uint64))


def probe(words: U32, ids: U64) -> NDArray[np.bool_]:
    """bool[n]: whether each of `ids` (uint64[n]) may be in the filter. False is certain, True is not."""
    held = np.empty(len(ids), np.bool_)
    _probe(read_only(words, np.uint32), read_only(ids, np.uint64), held)
    return held


def to_bytes(words: U32) -> bytes:
    """The filter as it travels: its words, `<u4`."""
    return pack(words, "<u4")


def of_bytes(data: bytes, field: str) -> U32:
    """The filter over `data`, read in place. Raises InvalidArgument naming `field` when it can't be one."""
    if len(data) > MAX_BYTES:
        raise InvalidArgument(f"{field}: {len(data)} bytes, at most {MAX_BYTES} are allowed")
    if len(data) % (4 * WORDS):
        raise InvalidArgument(f"{field}: {len(data)} bytes are not a whole number of 32-byte bloom filter blocks")
    return unpack(data, "<u4", field)


def blocks_for(n: int, false_positive_rate: float = 0.01) -> int:
    """How many 32-byte blocks hold `n` ids at the rate. Raises InvalidArgument as `build` does."""
    if not 1e-6 <= false_positive_rate <= 0.5:
        raise InvalidArgument(f"false_positive_rate: {false_positive_rate} is not from 0.000001 to 0.5")
    blocks = ceil(n / _load(false_positive_rate))
    if blocks * 4 * WORDS > MAX_BYTES:
        raise InvalidArgument(
            f"ids: {n} need {blocks * 4 * WORDS} bytes of bloom filter, at most {MAX_BYTES} are allowed"
        )
    return blocks


def expected_rate(load: float) -> float:
    """The share of absent ids that a filter with `load` ids a block on average takes for present.

    A block with j ids has any one bit of a word set with probability 1 - q^j, q = 31/32, and is asked for 8; j is
    Poisson (Putze et al., section 3). Expanding the eighth power gives the mixture in closed form.
    """
    return fsum((1, -1)[k % 2] * comb(WORDS, k) * exp(-load * (1 - (31 / 32) ** k)) for k in range(WORDS + 1))


@lru_cache
def _load(rate: float) -> float:
    """The most ids a block may have on average for the rate, by bisection."""
    low, high = 0.0, 256.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if expected_rate(middle) <= rate * _MARGIN else (low, middle)
    return low


def read_only(values: NDArray[Any], dtype: type[T]) -> NDArray[T]:
    """`values` as a kernel's input: contiguous, aligned, read-only, so that a kernel is compiled for one kind of array."""
    view = np.require(values, dtype, ["C", "A"]).view()
    view.flags.writeable = False
    return view
