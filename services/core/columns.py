"""Arrays on the wire: one `bytes` field each, little-endian, read in place by numpy. Knows nothing of what they mean."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidArgument

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

Array = NDArray[Any]


@lru_cache
def _dtype(name: str) -> np.dtype[Any]:
    """By its name, which numpy takes longer to read than an array."""
    return np.dtype(name)


def pack(values: Array, dtype: str) -> bytes:
    """Bytes of an array as `dtype` (a numpy name such as "<u8"), C order."""
    return np.asarray(values, _dtype(dtype)).tobytes()


def unpack(data: bytes, dtype: str, field: str, n: int | None = None) -> Array:
    """Read-only array of `dtype` over `data`, without a copy.

    Raises InvalidArgument naming `field` when the bytes are no whole number of items, or not `n` of them.
    """
    try:
        found = np.frombuffer(data, _dtype(dtype))
    except ValueError:
        size = _dtype(dtype).itemsize
        raise InvalidArgument(
            f"{field}: {len(data)} bytes are not a whole number of {size}-byte items ({dtype})"
        ) from None
    if n is not None and len(found) != n:
        raise InvalidArgument(f"{field}: {len(found)} values, expected {n}")
    return found


def ids(values: object) -> U64:
    """uint64[n] from any sequence of ids."""
    return np.asarray(values, dtype=np.uint64)


def among(values: U64, ascending: U64) -> Array:
    """bool[n]: which of the values are in a sorted array."""
    if not len(ascending):
        return np.zeros(len(values), bool)
    at = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return np.asarray(ascending[at] == values)


@dataclass(frozen=True, slots=True, eq=False)
class Ragged:
    """n runs of values back to back: run i is values[ends[i-1]:ends[i]]. ends: uint32[n]; values: any one dtype."""

    ends: U32
    values: Array

    def __len__(self) -> int:
        return len(self.ends)

    def run(self, i: int) -> Array:
        """The values of run i."""
        return self.values[int(self.ends[i - 1]) if i else 0 : int(self.ends[i])]

    def lengths(self) -> I64:
        """int64[n]: how many values each run has."""
        ends = self.ends.astype(np.int64)
        ends[1:] -= self.ends[:-1]
        return ends

    def slice(self, start: int, stop: int) -> "Ragged":
        """Runs start..stop."""
        base = int(self.ends[start - 1]) if start else 0
        last = int(self.ends[stop - 1]) if stop else 0
        return Ragged(self.ends[start:stop] - np.uint32(base), self.values[base:last])

    def take(self, rows: Array) -> "Ragged":
        """The runs at `rows` (int[m]), in that order."""
        if not len(self.values):
            return Ragged(np.zeros(len(rows), np.uint32), self.values)
        lengths = self.lengths()[rows]
        ends = np.cumsum(lengths)
        starts = (self.ends[rows].astype(np.int64) - lengths).repeat(lengths)
        within = np.arange(len(starts)) - (ends - lengths).repeat(lengths)
        return Ragged(ends.astype(np.uint32), self.values[starts + within])

    def emptied(self, rows: Array) -> "Ragged":
        """The same runs, those at `rows` (bool[n]) empty."""
        if not len(self.values):
            return self
        lengths = self.lengths()
        ends = np.where(rows, 0, lengths).cumsum(dtype=np.uint32)
        return Ragged(ends, self.values[np.repeat(~rows, lengths)])

    @staticmethod
    def empty(n: int, dtype: str = "u1") -> "Ragged":
        """n empty runs."""
        return Ragged(np.zeros(n, np.uint32), np.empty(0, dtype))

    @staticmethod
    def concat(parts: "list[Ragged]") -> "Ragged":
        """All runs of all parts, in order."""
        if not any(len(part.values) for part in parts):
            return Ragged(np.zeros(sum(map(len, parts)), np.uint32), parts[0].values)
        bases = np.cumsum([0, *(len(part.values) for part in parts)])[:-1]
        ends = [part.ends + np.uint32(base) for part, base in zip(parts, bases, strict=True)]
        return Ragged(np.concatenate(ends), np.concatenate([part.values for part in parts]))

    @staticmethod
    def of_strings(texts: list[str]) -> "Ragged":
        """Each text as its UTF-8 bytes."""
        encoded = [text.encode() for text in texts]
        ends = np.cumsum([len(data) for data in encoded], dtype=np.uint32)
        return Ragged(ends, np.frombuffer(b"".join(encoded), np.uint8))

    @staticmethod
    def of_lists(lists: "list[Any]", dtype: str = "u8") -> "Ragged":
        """Each list of numbers as a run of `dtype`."""
        ends = np.cumsum([len(values) for values in lists], dtype=np.uint32)
        flat = [np.asarray(values, dtype) for values in lists if len(values)]
        return Ragged(ends, np.concatenate(flat) if flat else np.empty(0, dtype))

    def strings(self) -> list[str]:
        """Each run as text; bytes that are not UTF-8 become replacement characters."""
        data, ends = self.values.tobytes(), self.ends.astype(np.int64)
        try:
            text = data.decode()  # all of it at once
            if len(text) < len(data):
                ends = self._ends_in_characters()
        except ValueError:
            return [data[a:b].decode(errors="replace") for a, b in pairwise([0, *ends.tolist()])]
        return [text[a:b] for a, b in pairwise([0, *ends.tolist()])]

    def _ends_in_characters(self) -> I64:
        """int64[n], of runs of bytes that are UTF-8 together. Raises ValueError when a run ends within a character."""
        begins = np.append((self.values & 0xC0) != 0x80, True)
        if not begins[self.ends].all():
            raise ValueError("a run ends within a character")
        return np.asarray(np.append(0, np.cumsum(begins[:-1]))[self.ends])


def split_bytes(data: bytes, lengths: Array) -> list[bytes]:
    """Pieces of so many bytes each."""
    ends = np.cumsum(lengths)
    return [data[start:stop] for start, stop in zip((ends - lengths).tolist(), ends.tolist(), strict=True)]
