"""Sorts numbers by their digits, in time in proportion to how many there are: no comparison, so no branch to guess.

Least significant digit first (Knuth, "The Art of Computer Programming", volume 3, section 5.2.5): each pass is stable,
so equals keep their order. Every digit begins at a bit in which keys differ: bits that all share cost no pass.
For use inside other kernels; fewer than 2**32 keys.
"""

from typing import Any

import numpy as np

from services.kernels.jit import kernel

FEW, NARROW, WIDE = 2_048, 8, 12  # bits of a digit: for so few keys counting many digits would be most of a pass
_ONE = np.uint64(1)


@kernel
def ascending(keys: Any, spare: Any, low: Any) -> Any:
    """keys (uint64[n]) ascending by their bits from `low` (0..63) up, equals as they stand.

    In whichever of keys and spare (uint64[n]) they end in; both are written over.
    """
    n, differing = len(keys), _differing(keys, low)
    places = np.empty(1 << _width(differing, n), np.uint32)
    mask = np.uint64(len(places) - 1)
    while differing:
        shift = _lowest(differing)
        _count(keys, shift, places)
        for i in range(n):
            value = keys[i] >> shift & mask
            place = places[value]
            spare[place] = keys[i]
            places[value] = place + np.uint32(1)
        keys, spare = spare, keys
        differing &= ~(mask << shift)
    return keys


@kernel
def in_order(keys: Any, tags: Any, low: Any) -> Any:
    """`ascending`, and the tag of each key: uint64[n] and, as tags are, any[n].

    The given arrays are written over.
    """
    n, differing = len(keys), _differing(keys, low)
    places = np.empty(1 << _width(differing, n), np.uint32)
    mask = np.uint64(len(places) - 1)
    to_keys, to_tags = np.empty_like(keys), np.empty_like(tags)
    while differing:
        shift = _lowest(differing)
        _count(keys, shift, places)
        for i in range(n):
            value = keys[i] >> shift & mask
            place = places[value]
            to_keys[place], to_tags[place] = keys[i], tags[i]
            places[value] = place + np.uint32(1)
        keys, to_keys, tags, to_tags = to_keys, keys, to_tags, tags
        differing &= ~(mask << shift)
    return keys, tags


@kernel
def _differing(keys: Any, low: Any) -> Any:
    """uint64: the bits from `low` up in which not all keys are the same."""
    differing = np.uint64(0)
    for i in range(len(keys)):
        differing |= keys[i] ^ keys[0]
    return differing >> np.uint64(low) << np.uint64(low)


@kernel
def _length(number: Any) -> Any:
    """int64: how many bits a uint64 has, up to its highest. One instruction, as the compiler knows this loop."""
    bits = 0
    while number:
        number >>= _ONE
        bits += 1
    return bits


@kernel
def _lowest(differing: Any) -> Any:
    """uint64: the place of the lowest bit set; there is one."""
    return np.uint64(_length(differing & (~differing + _ONE)) - 1)


@kernel
def _width(differing: Any, n: Any) -> Any:
    """Bits of a digit, so that the passes over n keys are few and their digits alike; 0 if keys do not differ."""
    if not differing:
        return 0
    bits = _length(differing >> _lowest(differing))
    passes = -(-bits // (NARROW if n < FEW else WIDE))
    return -(-bits // passes)


@kernel
def _count(keys: Any, shift: Any, places: Any) -> None:
    """Write where the first key of each digit goes. places: uint32[2**width], the digit is the key's bits from shift up."""
    mask = np.uint64(len(places) - 1)
    places[:] = 0
    for i in range(len(keys)):
        places[keys[i] >> shift & mask] += np.uint32(1)
    at = np.uint32(0)
    for value in range(len(places)):
        places[value], at = at, at + places[value]
