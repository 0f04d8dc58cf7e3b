"""The page: slots dealt out to sources by their rates, each filled with the best candidate within the limits."""

from collections import Counter
from typing import Any

import numpy as np

from bench.plain.rows import Rows
from bench.plain.rules import PER_BOARD, PER_INTEREST, PER_OWNER, RATES


def choose(scores: Rows, columns: dict[str, Rows], found_by: Rows, size: int) -> list[int]:
    """Rows of the page in its order. columns: pin, board, owner, interest; found_by: bits of the sources."""
    order = np.lexsort((columns["pin"], -scores)).tolist()
    draft = _Draft(order, columns, found_by.tolist())
    draft.fill(size, within=True)
    draft.fill(size, within=False)
    return [order[place] for _, place in sorted(draft.chosen)]


class _Draft:
    """A page in the making; a candidate's place is its rank by score."""

    def __init__(self, order: list[int], columns: dict[str, Rows], found_by: list[int]) -> None:
        limits = (("board", PER_BOARD), ("owner", PER_OWNER), ("interest", PER_INTEREST))
        self.chosen: list[tuple[int, int]] = []  # (whether a limit gave way, place)
        self._limits: list[tuple[list[int], int, Counter[int]]] = [
            (columns[name][order].tolist(), limit, Counter()) for name, limit in limits
        ]
        self._of: list[list[int]] = [[] for _ in RATES]
        for place, row in enumerate(order):
            bits = found_by[row]
            for source, places in enumerate(self._of):
                if bits >> source & 1:
                    places.append(place)
        self._taken: set[int] = set()
        self._filled = [0] * len(RATES)

    def fill(self, size: int, within: bool) -> None:
        """Until the page is full or the sources have no more, within the limits or not."""
        left, next_at = [source for source, places in enumerate(self._of) if places], [0] * len(RATES)
        total = sum(RATES[source] for source in self._rated())
        while left and len(self.chosen) < size:
            part = (len(self.chosen) + 1) / total
            source = max(left, key=lambda s: RATES[s] * part - self._filled[s])
            place = self._next(source, next_at, within)
            if place is None:
                left.remove(source)
                continue
            self._take(place)
            self.chosen.append((0 if within else 1, place))
            self._filled[source] += 1

    def _rated(self) -> range:
        """Up to the last source that found anything."""
        return range(max((s + 1 for s, places in enumerate(self._of) if places), default=0))

    def _next(self, source: int, next_at: list[int], within: bool) -> int | None:
        places = self._of[source]
        while next_at[source] < len(places):
            place = places[next_at[source]]
            if place not in self._taken and not (within and self._full(place)):
                return place
            next_at[source] += 1  # a pin that is taken stays so, and limits only get tighter
        return None

    def _full(self, place: int) -> bool:
        return any(keys[place] and count[keys[place]] >= limit for keys, limit, count in self._limits)

    def _take(self, place: int) -> Any:
        self._taken.add(place)
        for keys, _, count in self._limits:
            count[keys[place]] += 1
