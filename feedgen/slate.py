"""Chooses the page from ranked candidates.

Slots are dealt out to sources by their rates: each goes to the source whose share of the page lags most behind its rate
(largest deficit), which fills it with its best candidate within the limits per board, owner and interest. Then the page
is put best first. Limits give way only when the candidates of all sources with a rate run out, and sources without a
rate fill what is left after that.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from feedgen.candidates import Candidates
from services.columns import I64, Array

WITHIN, GAVE_WAY, FILLER = range(3)
WHY = ("within the limits", "limits gave way", "filler")


@dataclass(frozen=True, slots=True)
class Chosen:
    """A page in its order: rows of the candidates, the source whose slot each fills, and why (index into WHY)."""

    rows: I64
    slots: I64
    why: I64


@dataclass(frozen=True, slots=True)
class Slate:
    """per_board, per_owner, per_interest: of one on a page; 0 is without limit. rates: of each source of the pipeline, of
    any scale; a source without one only fills up.
    """

    per_board: int = 2
    per_owner: int = 3
    per_interest: int = 0
    rates: Sequence[float] = (1.0,)

    def choose(self, candidates: Candidates, size: int) -> Chosen:
        """The page: min(n, size) rows. Ties go to the lower pin id; of a score that is NaN, last."""
        order = np.lexsort((candidates.pin, -candidates.column("score")))
        draft = _Draft(self._limits(candidates, order), _found_by(candidates, order))
        sources = range(draft.sources)
        rates = [*self.rates, *(0.0 for _ in sources)][: draft.sources]
        rated = {source: rates[source] for source in sources if rates[source] > 0}
        fillers = {source: 1.0 for source in sources if source not in rated}
        draft.fill(rated, size, WITHIN)
        draft.fill(rated, size, GAVE_WAY, limits=False)
        draft.fill(fillers, size, FILLER)
        draft.fill(fillers, size, FILLER, limits=False)
        at, slots, why = np.array(draft.chosen, np.int64).reshape(-1, 3).T
        best_first = np.lexsort((at, why))
        return Chosen(order[at[best_first]], slots[best_first], why[best_first])

    def _limits(self, candidates: Candidates, order: I64) -> list[tuple[Array, int]]:
        limits = {"board": self.per_board, "owner": self.per_owner, "interest": self.per_interest}
        return [(candidates.column(name)[order], limit) for name, limit in limits.items() if limit]


def _found_by(candidates: Candidates, order: I64) -> Array:
    """bool[s, n]: which sources found which candidates, in order."""
    found_by = candidates.column("found_by")[order]
    sources = int(found_by.max(initial=0)).bit_length()
    return np.asarray(found_by >> np.arange(sources, dtype=np.uint32)[:, None] & np.uint32(1), bool)


class _Draft:
    """A page in the making, over n candidates that are sorted best first. Nothing here walks over them in Python."""

    def __init__(self, limits: list[tuple[Array, int]], found_by: Array) -> None:
        self.sources, n = found_by.shape
        self.chosen: list[tuple[int, int, int]] = []
        self._found_by = found_by
        self._free, self._within = np.ones(n, bool), np.ones(n, bool)  # within: free, and no limit is reached
        self._limits = [(keys, limit, Counter[int]()) for keys, limit in limits]
        self._filled: Counter[int] = Counter()

    def fill(self, rates: dict[int, float], size: int, why: int, limits: bool = True) -> None:
        """Choose until the page has `size` rows or these sources have none left, within the limits or not."""
        left, total = dict(rates), sum(rates.values())
        allowed = self._within if limits else self._free
        while left and len(self.chosen) < size:
            part = (len(self.chosen) + 1) / total
            source = max(left, key=lambda s: left[s] * part - self._filled[s])
            at = self._best(source, allowed)
            if at < 0:
                del left[source]
                continue
            self.chosen.append((at, source, why))
            self._filled[source] += 1
            self._take(at)

    def _best(self, source: int, allowed: Array) -> int:
        mask = self._found_by[source] & allowed
        at = int(mask.argmax())
        return at if mask[at] else -1

    def _take(self, at: int) -> None:
        self._free[at] = self._within[at] = False
        for keys, limit, count in self._limits:
            key = int(keys[at])
            count[key] += 1
            if key and count[key] == limit:
                self._within &= keys != keys[at]
