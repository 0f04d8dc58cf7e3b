"""Which pins the pages of a cursor have shown, in as few bytes as a cursor has.

Kept are the first bits of a hash of each pin: as many bits as fit. So a pin that was shown is never taken for one that
was not, and no page repeats one; while a pin that was not shown is taken for one that was with a chance of about
count / 2^bits, which is below a billionth for the first 200 pins (docs/decisions/0041-cursor-of-marks.md has the figures).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from services.core.columns import U64, Array, among

MOST_BITS, WORD = 40, 64
MAX_BITS = 8_656  # of all marks, as `Shown.packed` packs them
_SHIFT = np.uint64(33)
_MIX_1, _MIX_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)


def mixed(pins: U64) -> U64:
    """uint64[n]: `services.kernels.bloom.mix` of each, which is a bijection."""
    key = pins ^ (pins >> _SHIFT)
    key = key * _MIX_1
    key ^= key >> _SHIFT
    key = key * _MIX_2
    mixed_: U64 = key ^ (key >> _SHIFT)
    return mixed_


@dataclass(frozen=True)
class Shown:
    """count pins; marks: uint64[m <= count], ascending, each once: the first `bits` bits of the hash of each pin; digest:
    all hashes, one XOR the other, by which a list of the pins is recognised.
    """

    count: int
    bits: int
    marks: U64
    digest: int

    @staticmethod
    def of(pins: U64) -> "Shown":
        """That these pins were shown."""
        return NOTHING.adding(pins)

    @property
    def shift(self) -> np.uint64:
        """By how many bits a hash is shifted to be a mark."""
        return np.uint64(WORD - self.bits)

    def adding(self, pins: U64) -> "Shown":
        """These pins too (uint64[n], in any order): with fewer bits when they would not fit otherwise."""
        hashes = mixed(np.asarray(pins, np.uint64))
        digest = self.digest ^ int(np.bitwise_xor.reduce(hashes)) if len(hashes) else self.digest
        bits = min(self.bits, MOST_BITS)
        marks = np.concatenate([self.marks >> np.uint64(self.bits - bits), hashes >> np.uint64(WORD - bits)])
        more = Shown(self.count + len(pins), bits, np.unique(marks), digest)
        while more.steps.size_bits > MAX_BITS:
            more = Shown(more.count, more.bits - 1, np.unique(more.marks >> np.uint64(1)), digest)
        return more

    @property
    def is_rough(self) -> bool:
        """Whether pins that were not shown may be taken for shown ones."""
        return self.bits < MOST_BITS

    def exactly(self, pins: U64) -> "Shown | None":
        """The same with whole hashes, when the first `count` of these pins (uint64[n], in the order shown) are its pins."""
        hashes = mixed(pins[: self.count])
        if len(hashes) < self.count or int(np.bitwise_xor.reduce(hashes, initial=np.uint64(0))) != self.digest:
            return None
        return Shown(self.count, WORD, np.unique(hashes), self.digest)

    def among(self, pins: U64) -> Array:
        """bool[n]: which of the pins were shown."""
        return among(mixed(pins) >> self.shift, self.marks)

    @cached_property
    def steps(self) -> "Steps":
        """The marks as `packed` packs them."""
        return Steps.of(self.marks)


@dataclass(frozen=True)
class Steps:
    """The differences of ascending numbers in Golomb-Rice code: quotients by 2^low in unary, then `low` bits of each."""

    low: int
    quotients: U64
    rests: U64

    @staticmethod
    def of(marks: U64) -> "Steps":
        """With as many low bits as are best where steps are random: 2^low is near their mean times ln 2."""
        steps = marks.copy()
        steps[1:] -= marks[:-1]
        mean = int(marks[-1]) // len(marks) if len(marks) else 0
        low = max((mean * 69 // 100).bit_length() - 1, 0)
        return Steps(low, steps >> np.uint64(low), steps & np.uint64((1 << low) - 1))

    @property
    def size_bits(self) -> int:
        """How many it takes."""
        return int(self.quotients.sum()) + len(self.quotients) * (1 + self.low)

    def packed(self) -> bytes:
        """All quotients, then all rests, low bits first."""
        ends = np.cumsum(self.quotients + np.uint64(1)).astype(np.int64)
        unary = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint8)
        unary[ends - 1] = 1
        rests = (self.rests[:, None] >> np.arange(self.low, dtype=np.uint64)) & np.uint64(1)
        return np.packbits(np.concatenate([unary, rests.ravel().astype(np.uint8)])).tobytes()

    @staticmethod
    def unpack(data: bytes, n: int, low: int) -> U64:
        """The n ascending numbers that `packed` packed. Raises ValueError for bytes that are none."""
        bits = np.unpackbits(np.frombuffer(data, np.uint8))
        ones = np.flatnonzero(bits)[:n]
        start = int(ones[-1]) + 1 if n and len(ones) else 0
        if len(ones) < n or len(bits) < start + n * low:
            raise ValueError("too few bits")
        quotients = (np.diff(ones, prepend=-1) - 1).astype(np.uint64)
        rests = bits[start : start + n * low].reshape(n, low).astype(np.uint64) << np.arange(low, dtype=np.uint64)
        return np.cumsum((quotients << np.uint64(low)) | rests.sum(axis=1, dtype=np.uint64), dtype=np.uint64)


NOTHING = Shown(0, MOST_BITS, np.empty(0, np.uint64), 0)
