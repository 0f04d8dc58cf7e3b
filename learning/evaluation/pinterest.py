"""Pixie alone on Pinterest's saves: one more save of each board held out, to be found among 99 pins not on the board.

The protocol of He et al. (WWW 2017) and of Ferrari Dacrema et al. (TOIS 2021), whose published figures stand in
FIGURES: hit rate and NDCG of the first 10. Alpha, beta and the discount are chosen on other boards.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from learning.evaluation import exact
from learning.evaluation.metrics import interval, paired
from learning.evaluation.result import Row
from learning.evaluation.walks import SERVED, Walks, Way, graph_of, starting_weights
from loaders.files import columns, input_files
from services.core.columns import I64, Array

PART = "pinterest"
CUT = 10
NEGATIVES = 99
BOARDS = 1_500  # of the test; the same for every method
TUNING = 1_000  # other boards, on which parameters are chosen
STEPS = (20_000, 50_000, 100_000, 200_000, 400_000, 1_000_000)
SERVED_STEPS = 400_000
ALPHAS, BETAS = (0.4, 0.7, 1.0, 1.3, 1.6), (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
PUBLISHED = "published on the full set: TopPop .274/.141, P3alpha .870/.557, RP3beta .880/.569, NeuMF .878/.558"
Progress = Callable[[str, int, int], None]  # what, done, of


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Saves to learn from, and of each board asked a save held out, first among the candidates to rank.

    boards, pins: int64[e], rows. asked: int64[n] boards. candidates: int64[n, 1 + NEGATIVES].
    """

    boards: I64
    pins: I64
    n_boards: int
    n_pins: int
    asked: I64
    candidates: I64


def split(boards: I64, pins: I64, asked: int, seed: int = 20_170_403) -> Split:
    """Hold one random save of every board out; ask `asked` random boards among pins that are not on them."""
    random = np.random.default_rng(seed)
    order = np.lexsort((random.random(len(boards)), boards))
    first = np.zeros(len(boards), bool)
    first[order[np.append(True, boards[order][1:] != boards[order][:-1])]] = True
    n_boards, n_pins = int(boards.max()) + 1, int(pins.max()) + 1
    held = np.flatnonzero(first)
    held = held[random.permutation(len(held))[:asked]]
    on_board = np.sort(boards * n_pins + pins)
    candidates = np.column_stack([pins[held], _negatives(random, boards[held], on_board, n_pins)])
    return Split(boards[~first], pins[~first], n_boards, n_pins, boards[held], candidates)


def _negatives(random: np.random.Generator, asked: I64, on_board: I64, n_pins: int) -> I64:
    """int64[n, NEGATIVES]: different pins of each row, none of them on its board."""
    drawn = np.array([random.choice(n_pins, 2 * NEGATIVES, replace=False) for _ in asked])
    keys = asked[:, None] * n_pins + drawn
    at = np.minimum(np.searchsorted(on_board, keys), len(on_board) - 1)
    free = on_board[at] != keys
    if (free.sum(1) < NEGATIVES).any():
        raise ValueError("a board holds nearly every pin: its negatives can't be drawn so")
    return np.array([row[ok][:NEGATIVES] for row, ok in zip(drawn, free, strict=True)])


def ranks(scores: Array) -> Array:
    """float64[n]: how many candidates go before the first one, equal ones for half."""
    first, others = scores[:, :1], scores[:, 1:]
    return np.asarray((others > first).sum(1) + 0.5 * (others == first).sum(1))


def measures(scores: Array) -> dict[str, Array]:
    """By name, a value for each board."""
    rank = ranks(scores)
    hit = rank < CUT
    return {f"HR@{CUT}": hit.astype(float), f"NDCG@{CUT}": np.where(hit, 1 / np.log2(rank + 2), 0.0)}


def run(folder: Path, progress: Progress = lambda *_: None, boards: int = BOARDS, tuning: int = TUNING) -> list[Row]:
    """The rows of the table. folder: of train.parquet (user: board, item: pin). Takes some minutes.

    Raises InvalidArgument naming a file or column that is missing.
    """
    of_boards, of_pins = columns(input_files(folder, ("train",))["train"], "user", "item")
    cut = split(of_boards.astype(np.int64), of_pins.astype(np.int64), boards + tuning)
    rows = _Rows(cut, boards)
    alpha, beta, alone = rows.baselines(progress)
    with graph_of(cut.boards, cut.pins) as walks:
        walk = rows.exact_walk(beta)
        for steps in STEPS:
            rows.pixie(walks, f"pixie, {steps:,} steps", Way(steps, beta), progress, walk)
        served = f"pixie, {SERVED_STEPS:,} steps, restarts, booster"
        rows.pixie(walks, served, Way(SERVED_STEPS, beta, SERVED), progress)
    chosen = f"alpha {alpha:g}, beta {beta:g}; P3alpha alone {alone:g}, chosen on {tuning:,} other boards"
    rows.found[0] = _noted(rows.found[0], f"{boards:,} boards, {NEGATIVES} negatives; {chosen}; {PUBLISHED}")
    return rows.found


class _Rows:
    """Collects the rows; the first `boards` boards asked are the test, those after them are for choosing."""

    def __init__(self, cut: Split, boards: int) -> None:
        self._cut, self._test, self._tuning = cut, slice(0, boards), slice(boards, None)
        self._saves = exact.incidence(cut.boards, cut.pins, cut.n_boards, cut.n_pins)
        self._degrees = exact.degrees(self._saves)
        self._steps = exact.transitions(self._saves)
        self.found: list[Row] = []

    def add(self, method: str, scores: Array, began: float, note: str = "", **more: float) -> dict[str, Array]:
        """A row of these scores of the test's candidates."""
        values = measures(scores)
        means = {name: float(of.mean()) for name, of in values.items()}
        bounds = {name: interval(of) for name, of in values.items()}
        self.found.append(Row(PART, method, means | more, bounds, time.perf_counter() - began, note))
        return values

    def baselines(self, progress: Progress) -> tuple[float, float, float]:
        """Most popular, P3alpha and RP3beta. alpha and beta of the latter, and alpha of the former."""
        began = time.perf_counter()
        candidates = self._cut.candidates[self._test]
        self.add("most popular", self._degrees[candidates], began)
        reached: dict[tuple[float, float], float] = {}
        for done, alpha in enumerate(ALPHAS):
            progress("choosing alpha and beta", done, len(ALPHAS))
            scores, popular = self._walked(self._tuning, alpha)
            for beta in BETAS:
                reached[alpha, beta] = float(measures(scores / popular**beta)[f"NDCG@{CUT}"].mean())
        alone = max(ALPHAS, key=lambda alpha: reached[alpha, 0.0])
        alpha, beta = max(product(ALPHAS, BETAS), key=lambda pair: reached[pair])
        for name, a, b in (("P3alpha, exact", alone, 0.0), ("RP3beta, exact", alpha, beta)):
            began = time.perf_counter()
            scores, popular = self._walked(self._test, a)
            self.add(name, scores / popular**b, began, f"alpha {a:g}, beta {b:g}")
        return alpha, beta, alone

    def _walked(self, which: slice, alpha: float) -> tuple[Array, Array]:
        """Scores of P3alpha of the candidates, and their degrees."""
        candidates = self._cut.candidates[which]
        steps = self._steps if alpha == 1.0 else exact.transitions(self._saves, alpha)
        starts = exact.weighted(self._saves[self._cut.asked[which]], np.ones(self._cut.n_pins))
        return exact.scores_of(starts, steps, candidates), self._degrees[candidates]

    def exact_walk(self, beta: float) -> dict[str, Array]:
        """The limit of Pixie's single steps when there are infinitely many."""
        began = time.perf_counter()
        candidates = self._cut.candidates[self._test]
        starts = exact.weighted(self._saves[self._cut.asked[self._test]], starting_weights(self._degrees))
        scores = exact.scores_of(starts, self._steps, candidates)
        note = "pixie's shares of steps, alpha 1"
        return self.add("the walk, exact", scores / self._degrees[candidates] ** beta, began, note)

    def pixie(
        self, walks: Walks, method: str, way: Way, progress: Progress, limit: dict[str, Array] | None = None
    ) -> None:
        """Pixie asked with each board's pins; limit: of what its difference is taken."""
        began, cut = time.perf_counter(), self._cut
        boards, candidates = cut.asked[self._test], cut.candidates[self._test]
        queries = [self._saves[board].indices.astype(np.int64) for board in boards]
        answers, took = walks.ask(queries, way, cut.n_pins, lambda done: progress(method, done, len(boards)))
        scores, all_pins = np.zeros(candidates.shape), np.zeros(cut.n_pins)
        for row, (pins, of_pins) in enumerate(answers):
            all_pins[pins] = of_pins
            scores[row] = all_pins[candidates[row]]
            all_pins[pins] = 0.0
        values = self.add(method, scores, began, ms=float(np.median(took)))
        note = f"{np.median(took):.1f} ms of a core a walk (median), {np.percentile(took, 99):.1f} P99"
        if limit is not None:
            name = f"NDCG@{CUT}"
            low, high = paired(values[name], limit[name])
            note += f"; {name} less the exact walk's {low:+.4f} to {high:+.4f}"
        self.found[-1] = _noted(self.found[-1], note)


def _noted(row: Row, note: str) -> Row:
    return Row(row.part, row.method, row.metrics, row.intervals, row.seconds, note)
