"""Chooses the page from ranked candidates.

Slots are dealt out to sources by their rates: each goes to the source whose share of the page lags most behind its rate
(largest deficit), which fills it with its best candidate within the limits per board, owner and interest. Then the page
is put best first. Limits give way only when the candidates of all sources with a rate run out, and sources without a
rate fill what is left after that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from feedgen import kernel
from feedgen.candidates import Candidates
from services.core.checks import check_lengths
from services.core.columns import I64

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
        """The page: min(n, size) rows of candidates that were counted. Ties go to the lower pin id; of a score that is
        NaN, last. Raises ValueError for columns of unequal lengths.
        """
        score = np.array(candidates.column("score"), np.float64)  # copies: a kernel is compiled for one kind of array
        interest = np.array(candidates.column("interest"), np.uint64)
        limits = np.array([self.per_board, self.per_owner, self.per_interest])
        page = np.empty((3, min(len(candidates), size)), np.int64)
        found_by, rates = candidates.column("found_by"), np.array(self.rates, np.float64)
        check_lengths(len(candidates), score=score, interest=interest, found_by=found_by)
        kernel.draft(candidates.rows, score, found_by, interest, limits, rates, page)
        return Chosen(*page)
