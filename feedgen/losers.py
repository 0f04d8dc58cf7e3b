"""The candidates that a page was not made of: a sample of them, stage by stage, for the log.

The pins shown are in the log anyway; an estimate of what another ranking would have done also needs the pins that could
have been shown (docs/decisions/0042-losers-in-the-log.md). It is noted of some pages only, and of these of a few candidates.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from services.core.columns import F32, U64, Array
from services.core.events import LOST_BY, LostAt

#: By the name of the filter. A pin that several sources found is no loser.
_AT = {
    "shown_before": LostAt.SHOWN_BEFORE,
    "already_seen": LostAt.ALREADY_SEEN,
    "taken_down": LostAt.TAKEN_DOWN,
    "undescribed": LostAt.UNDESCRIBED,
    "own_pins": LostAt.OWN_PINS,
}
NOT_A_LOSS = frozenset({"duplicate"})
Choose = Callable[[int, int], Array]  # int[k] of n, without replacement


@dataclass(slots=True)
class Losers:
    """Notes what each stage leaves out. most: of each stage, at most; choose: which."""

    most: int
    choose: Choose = field(default_factory=lambda: _at_random)
    _parts: list[tuple[U64, F32]] = field(default_factory=list)

    def begin(self) -> None:
        """The stages begin, perhaps once more: with what fillers brought."""
        self._parts.clear()

    def filtered(self, stage: str, pins: U64) -> None:
        """A filter left out these pins."""
        if stage not in NOT_A_LOSS:
            self._note(_AT.get(stage, LostAt.OTHER), pins, np.full(len(pins), np.nan, np.float32))

    def not_chosen(self, pins: U64, scores: F32) -> None:
        """These had a score and no place on the page."""
        self._note(LostAt.SLATE, pins, scores)

    def _note(self, stage: LostAt, pins: U64, scores: F32) -> None:
        if not len(pins):
            return
        rows = self.choose(len(pins), min(len(pins), self.most))
        by = np.empty((len(rows), LOST_BY), np.float32)
        by[:, 0], by[:, 1], by[:, 2] = stage, scores[rows], len(pins) / len(rows)
        self._parts.append((pins[rows], by))

    def noted(self) -> tuple[U64, F32]:
        """Pins, and of each the stage, its score (NaN: none yet) and for how many it stands: float32[m, 3]."""
        pins = [part for part, _ in self._parts]
        return (
            np.concatenate([np.empty(0, np.uint64), *pins]),
            np.concatenate([np.empty((0, LOST_BY), np.float32), *(by for _, by in self._parts)]),
        )


def _at_random(n: int, k: int) -> Array:
    return np.random.default_rng().choice(n, k, replace=False, shuffle=False)
