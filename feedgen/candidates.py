"""Candidates as columns: one row a pin. A stage adds the columns it names, or tells which rows stay; nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from services.columns import F32, I64, U8, U64, Array


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """n candidates. pin, board, owner: uint64 (0: none); source: uint8, index into the pipeline's sources; light:
    float32 light score; quality: float32; at_ms: int64, when it was saved there; more: what later stages added, by name.
    """

    pin: U64
    board: U64
    owner: U64
    source: U8
    light: F32
    quality: F32
    at_ms: I64
    more: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.pin)

    def column(self, name: str) -> Array:
        """A column by name. Raises KeyError when no stage added it."""
        return self.more[name] if name in self.more else getattr(self, name)

    def take(self, rows: Array) -> "Candidates":
        """The rows at int[m] positions or a bool[n] mask."""
        columns: list[Any] = [getattr(self, name)[rows] for name in FIXED]
        columns.append({name: column[rows] for name, column in self.more.items()})
        return Candidates(*columns)

    def adding(self, columns: Mapping[str, Array]) -> "Candidates":
        """The same rows with more columns. Raises ValueError for a column that is not of length n."""
        for name, column in columns.items():
            if len(column) != len(self):
                raise ValueError(f"column {name} has {len(column)} rows, the candidates are {len(self)}")
        return replace(self, more={**self.more, **columns})

    @staticmethod
    def concat(parts: "list[Candidates]") -> "Candidates":
        """All rows of all parts, in order; only columns that all parts have."""
        if not parts:
            return EMPTY
        columns: list[Any] = [np.concatenate([getattr(part, name) for part in parts]) for name in FIXED]
        common = set.intersection(*(set(part.more) for part in parts))
        columns.append({name: np.concatenate([p.more[name] for p in parts]) for name in sorted(common)})
        return Candidates(*columns)


FIXED = ("pin", "board", "owner", "source", "light", "quality", "at_ms")
_NO_IDS = np.empty(0, np.uint64)
EMPTY = Candidates(
    _NO_IDS,
    _NO_IDS,
    _NO_IDS,
    np.empty(0, np.uint8),
    np.empty(0, np.float32),
    np.empty(0, np.float32),
    np.empty(0, np.int64),
    {},
)
