"""Sorts numbers by their digits, in time in proportion to how many there are: no comparison, so no branch to guess.

Least significant digit first (Knuth, "The Art of Computer Programming", volume 3, section 5.2.5): each pass is stable,
so equals keep their order. Bits that all keys share are not looked at.
"""

from typing import Any

import numpy as np

from services.jit import kernel

FEW, NARROW, WIDE = 4_096, 8, 11  # bits of a digit: for so few keys counting many digits would be most of a pass


@kernel
def in_order(keys: Any, tags: Any, low: Any) -> Any:
    """keys (uint64[n]) ascending by their bits from `low` up, equals as they stand, and the tag of each.

    What is given is written over.
    """
    n, differing = len(keys), np.uint64(0)
    for i in range(n):
        differing |= keys[i] ^ keys[0]
    differing >>= np.uint64(low)
    bits = 0
    while differing:
        differing >>= np.uint64(1)
        bits += 1
    passes = -(-bits // (NARROW if n < FEW else WIDE))
    width = -(-bits // max(passes, 1))
    mask, places = np.uint64((1 << width) - 1), np.empty(1 << width, np.uint32)
    to_keys, to_tags = np.empty_like(keys), np.empty_like(tags)
    for digit in range(passes):
        shift = np.uint64(low + digit * width)
        places[:] = 0
        for i in range(n):
            places[keys[i] >> shift & mask] += np.uint32(1)
        at = np.uint32(0)
        for value in range(len(places)):
            places[value], at = at, at + places[value]
        for i in range(n):
            value = keys[i] >> shift & mask
            place = places[value]
            to_keys[place], to_tags[place] = keys[i], tags[i]
            places[value] = place + np.uint32(1)
        keys, to_keys, tags, to_tags = to_keys, keys, to_tags, tags
    return keys, tags
