"""Interests and takedowns of the pins that signals need, as one array of words.

Of each pin a word, the number of its interests times two, plus one if it was taken down, and then those interests.
"""

from typing import NamedTuple

import numpy as np

from rockstore.client import Attributes
from services.core.columns import U64

#: The words of a pin of which nothing is known.
UNKNOWN = bytes(8)


class PinWords(NamedTuple):
    """Of n pins, in their order: the words, uint64[...], and whether some of them could not be asked for."""

    words: U64
    lost: bool


NOTHING = PinWords(np.frombuffer(b"", "<u8"), False)


def words_of(found: Attributes) -> list[bytes]:
    """The words of each pin, as bytes."""
    ends, interests = (8 * found.interests.ends.astype(np.int64)).tolist(), found.interests.values.tobytes()
    heads = (found.interests.lengths().astype(np.uint64) << np.uint64(1) | found.taken_down).tobytes()
    starts = [0, *ends]
    return [heads[8 * i : 8 * i + 8] + interests[starts[i] : end] for i, end in enumerate(ends)]


def joined(words: list[bytes]) -> U64:
    """The words of several pins."""
    return np.frombuffer(b"".join(words), "<u8")
