"""Candidates as rows: one a pin. A stage adds the columns it names, or says which rows stay; nothing else.

The columns of a candidate lie side by side, in one cache line: a page joins the rows of a handful of sources and
leaves much of it out again, once for a candidate and not once for each of a dozen columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from features.requests import CandidateOrigin
from feedgen import kernel
from feedgen.rows import ROW
from services.core.columns import F32, I64, U8, U64, Array

_NAMES = frozenset(ROW.names or ())


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """n candidates; make them with `Candidates.of`. An id of 0: none. rows: ROW[n], of which each column is a view:

    pin; board, owner, interest, seed: uint64, where it was found and the pin that led there (seed: a pin of the user's);
    source: uint8, index into the pipeline's sources; origin: uint8, features.requests.CandidateOrigin; weight: float32 > 0, of
    the board, interest or walk that led to it; light: float32 light score; quality: float32, NaN when not stated;
    at_ms: int64, when it was saved there, 0 when not known; more: columns of later stages, by name.
    """

    rows: Array
    more: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.rows)

    @staticmethod
    def of(
        pin: Array,
        *,
        source: ArrayLike = 0,
        origin: ArrayLike = 0,
        board: ArrayLike = 0,
        owner: ArrayLike = 0,
        interest: ArrayLike = 0,
        seed: ArrayLike = 0,
        weight: ArrayLike = 1.0,
        light: ArrayLike = 0.0,
        quality: ArrayLike = np.nan,
        at_ms: ArrayLike = 0,
    ) -> "Candidates":
        """Candidates of these pins; a scalar fills its column. Raises ValueError for a column of another length."""
        rows = np.empty(len(pin), ROW)
        rows["pin"], rows["source"], rows["origin"] = pin, source, origin
        rows["board"], rows["owner"], rows["interest"], rows["seed"] = board, owner, interest, seed
        rows["weight"], rows["light"], rows["quality"], rows["at_ms"] = weight, light, quality, at_ms
        return Candidates(rows, {})

    @property
    def pin(self) -> U64:
        """uint64[n], as the class says; so are the others."""
        return self.rows["pin"]

    @property
    def board(self) -> U64:
        """The board."""
        return self.rows["board"]

    @property
    def owner(self) -> U64:
        """The followed user."""
        return self.rows["owner"]

    @property
    def interest(self) -> U64:
        """The interest."""
        return self.rows["interest"]

    @property
    def seed(self) -> U64:
        """The user's pin."""
        return self.rows["seed"]

    @property
    def source(self) -> U8:
        """The source."""
        return self.rows["source"]

    @property
    def origin(self) -> U8:
        """The kind of the source."""
        return self.rows["origin"]

    @property
    def weight(self) -> F32:
        """The weight of the board, interest or walk that led here."""
        return self.rows["weight"]

    @property
    def light(self) -> F32:
        """The light score."""
        return self.rows["light"]

    @property
    def quality(self) -> F32:
        """The pin's quality."""
        return self.rows["quality"]

    @property
    def at_ms(self) -> I64:
        """When it was saved there."""
        return self.rows["at_ms"]

    def column(self, name: str) -> Array:
        """A column by name; one that a stage added hides a stated one. Raises KeyError when no stage added it."""
        if name in self.more or name not in _NAMES:
            return self.more[name]
        column: Array = self.rows[name]
        return column

    def take(self, at: Array) -> "Candidates":
        """The rows at int[m] positions or a bool[n] mask."""
        if at.dtype == bool:
            at = np.flatnonzero(at)
        return Candidates(self.rows.take(at), {name: column.take(at, 0) for name, column in self.more.items()})

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
        common = set.intersection(*(set(part.more) for part in parts))
        more = {name: np.concatenate([part.more[name] for part in parts]) for name in sorted(common)}
        words = np.concatenate([part.rows.view(np.uint64) for part in parts])  # numpy would copy field by field
        return Candidates(words.view(ROW), more)

    def counted(self) -> "Candidates":
        """With columns joined over the rows of a pin: `found_by`, uint32[n], bit s is set when source s found the pin, in
        this row or another; `nearness`, float32[n], the pin's weight in the walks, in this row or another, NaN where they
        did not pass; and `first`, bool[n], whether no row before is of the same pin.
        """
        n = len(self)
        found_by, nearness, first = np.empty(n, np.uint32), np.empty(n, np.float32), np.empty(n, np.bool_)
        kernel.count(self.rows, int(CandidateOrigin.WALKED), found_by, nearness, first)
        return self.adding({"found_by": found_by, "nearness": nearness, "first": first})


EMPTY = Candidates.of(np.empty(0, np.uint64))
