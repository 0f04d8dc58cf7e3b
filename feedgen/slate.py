"""Chooses the page from ranked candidates: best first, with limits per board and owner that give way only when the
candidates would run out otherwise.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from feedgen.candidates import Candidates
from services.columns import I64, Array


@dataclass(frozen=True, slots=True)
class Slate:
    """per_board, per_owner: pins of one board and of one owner on a page; 0 is without limit."""

    per_board: int = 2
    per_owner: int = 3

    def choose(self, candidates: Candidates, score: Array, size: int) -> I64:
        """Rows of the page, in its order: int64[min(n, size)]. Ties go to the lower pin id."""
        order = np.lexsort((candidates.pin, -score))
        boards, owners = candidates.board[order].tolist(), candidates.owner[order].tolist()
        on_board: Counter[int] = Counter()
        of_owner: Counter[int] = Counter()
        chosen: list[int] = []
        passed: list[int] = []
        for row, board, owner in zip(order.tolist(), boards, owners, strict=True):
            if len(chosen) == size:
                break
            if self._full(on_board[board], of_owner[owner], board, owner):
                passed.append(row)
                continue
            chosen.append(row)
            on_board[board] += 1
            of_owner[owner] += 1
        return np.array((chosen + passed)[:size], np.int64)

    def _full(self, on_board: int, of_owner: int, board: int, owner: int) -> bool:
        over_board = board and self.per_board and on_board >= self.per_board
        over_owner = owner and self.per_owner and of_owner >= self.per_owner
        return bool(over_board or over_owner)
