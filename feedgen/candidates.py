"""Candidates as columns: one row a pin. A stage adds the columns it names, or tells which rows stay; nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from features.requests import Origin
from services.columns import F32, I64, U8, U64, Array


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """n candidates; make them with `Candidates.of`. An id of 0: none.

    pin; board, owner, interest, seed: uint64, where it was found and what led there (seed: a pin of the user's);
    source: uint8, index into the pipeline's sources; origin: uint8, features.requests.Origin; weight: float32 > 0, of
    the board, interest or walk that led to it; light: float32 light score; quality: float32, NaN when not stated;
    at_ms: int64, when it was saved there, 0 when not known; more: what later stages added, by name.
    """

    pin: U64
    board: U64
    owner: U64
    interest: U64
    seed: U64
    source: U8
    origin: U8
    weight: F32
    light: F32
    quality: F32
    at_ms: I64
    more: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.pin)

    @staticmethod
    def of(pin: U64, **columns: Any) -> "Candidates":
        """Candidates of these pins; a scalar fills its column, what is not named has its default."""
        given = {**_DEFAULTS, **columns, "pin": pin}
        fixed: dict[str, Any] = {name: _filled(given.pop(name), dtype, len(pin)) for name, dtype in FIXED.items()}
        if given:
            raise TypeError(f"no such columns: {', '.join(given)}")
        return Candidates(**fixed, more={})

    def column(self, name: str) -> Array:
        """A column by name; one that a stage added hides a fixed one. Raises KeyError when no stage added it."""
        if name in self.more or name not in FIXED:
            return self.more[name]
        column: Array = getattr(self, name)
        return column

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

    def counted(self) -> "Candidates":
        """With the columns `found_by`: uint32[n], bit s is set when source s found the pin, in this row or another; and
        `nearness`: float32[n], what the walks weigh the pin, in this row or another, NaN where they did not pass.
        """
        bits = np.left_shift(np.uint32(1), self.source, dtype=np.uint32)
        near = np.where(self.origin == Origin.WALKED, self.weight, np.float32(np.nan))
        if len(self) and (self.source == self.source[0]).all():
            return self.adding({"found_by": bits, "nearness": near})
        pins, pin_of = np.unique(self.pin, return_inverse=True)
        by_pin, nearest = np.zeros(len(pins), np.uint32), np.full(len(pins), np.nan, np.float32)
        np.bitwise_or.at(by_pin, pin_of, bits)
        np.fmax.at(nearest, pin_of, near)
        return self.adding({"found_by": by_pin[pin_of], "nearness": nearest[pin_of]})


def _filled(values: Any, dtype: type[Any], n: int) -> Array:
    if np.ndim(values) == 0:
        return np.full(n, values, dtype)
    column = np.asarray(values, dtype)
    if len(column) != n:
        raise ValueError(f"a column has {len(column)} rows, the pins are {n}")
    return column


FIXED: Mapping[str, type[Any]] = {
    **dict.fromkeys(("pin", "board", "owner", "interest", "seed"), np.uint64),
    **dict.fromkeys(("source", "origin"), np.uint8),
    **dict.fromkeys(("weight", "light", "quality"), np.float32),
    "at_ms": np.int64,
}
_DEFAULTS: Mapping[str, Any] = {**dict.fromkeys(FIXED, 0), "weight": 1.0, "quality": np.nan}
EMPTY = Candidates.of(np.empty(0, np.uint64))
