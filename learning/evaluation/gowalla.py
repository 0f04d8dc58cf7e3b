"""Pixie alone on Gowalla's check-ins: a fifth of each user's places held out, to be found among all others.

The split is our own, as the public test part is not at hand, so published figures are a guide: BARS gowalla_m1 has
ItemCF .157 / .121 and SimpleX .187 / .156, which know every training place. Users are boards, places are pins.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from learning.evaluation import exact
from learning.evaluation.metrics import interval, paired
from learning.evaluation.result import Row
from learning.evaluation.walks import SERVED, SINGLE, Walks, Way, graph_of, starting_weights
from loaders.files import columns, input_files
from services.core.columns import I64, Array

PART = "gowalla"
CUT = 20
HELD = 0.2
USERS = 1_500  # of the test; the same for every method
TUNING = 500  # other users, on whom alpha and beta are chosen
STEPS = (100_000, 400_000, 1_000_000)
SERVED_STEPS = 400_000
ALPHAS, BETAS = (0.4, 0.7, 1.0), (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
PUBLISHED = "published, another split: ItemCF .157/.121, EASE .177/.147, LightGCN .182/.155, SimpleX .187/.156"
RECALL, NDCG = f"Recall@{CUT}", f"NDCG@{CUT}"
Progress = Callable[[str, int, int], None]  # what, done, of


def split(users: I64, seed: int = 20_130_101) -> Array:
    """bool[e]: the saves held out: a random fifth of each user's, rounded, and never all."""
    random = np.random.default_rng(seed)
    order = np.lexsort((random.random(len(users)), users))
    counts = np.bincount(users)
    rank = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
    held = np.empty(len(users), bool)
    held[order] = rank < np.minimum(np.round(HELD * counts), counts - 1).repeat(counts)
    return held


def measures(best: I64, wanted: list[Array]) -> dict[str, Array]:
    """By name, a value for each user. best: int64[n, CUT] places, -1 for none; wanted: the held out ones of each."""
    gains = 1 / np.log2(np.arange(2, CUT + 2))
    hits = np.array([np.isin(row, of) for row, of in zip(best, wanted, strict=True)])
    sizes = np.array([len(of) for of in wanted])
    ideal = np.cumsum(gains)[np.minimum(sizes, CUT) - 1]
    return {RECALL: hits.sum(1) / sizes, NDCG: (hits * gains).sum(1) / ideal}


def run(folder: Path, progress: Progress = lambda *_: None, users: int = USERS, tuning: int = TUNING) -> list[Row]:
    """The rows of the table. folder: of train.parquet (user, item). Takes some minutes.

    Raises InvalidArgument naming a file or column that is missing.
    """
    of_users, of_places = columns(input_files(folder, ("train",))["train"], "user", "item")
    rows = _Rows(of_users.astype(np.int64), of_places.astype(np.int64), users, tuning)
    alpha, beta = rows.baselines(progress)
    with graph_of(*rows.training) as walks:
        limit = rows.exact_walk(beta)
        for steps in STEPS:
            rows.pixie(walks, f"pixie, {steps:,} steps", Way(steps, beta, SINGLE), progress, limit)
        served = f"pixie, {SERVED_STEPS:,} steps, restarts, booster"
        rows.pixie(walks, served, Way(SERVED_STEPS, beta, SERVED), progress)
    chosen = f"alpha {alpha:g}, beta {beta:g} chosen on {tuning:,} other users"
    rows.note(0, f"{users:,} users, all other places ranked; {chosen}; {PUBLISHED}")
    return rows.found


class _Rows:
    """Collects the rows. The test's users are a sample, those for choosing another."""

    def __init__(self, users: I64, places: I64, test: int, tuning: int) -> None:
        held = split(users)
        n_users, n_places = int(users.max()) + 1, int(places.max()) + 1
        self.training = users[~held], places[~held]
        self._saves = exact.incidence(*self.training, n_users, n_places)
        self._held = exact.incidence(users[held], places[held], n_users, n_places)
        self._degrees = exact.degrees(self._saves)
        self._steps = exact.transitions(self._saves)
        some = np.flatnonzero(np.diff(self._held.indptr))
        chosen = np.random.default_rng(7).permutation(some)[: test + tuning]
        self._test, self._tuning = chosen[:test], chosen[test:]
        self.found: list[Row] = []

    def _wanted(self, users: I64) -> list[Array]:
        return [self._held[user].indices for user in users]

    def add(self, method: str, best: I64, began: float, note: str = "", **more: float) -> dict[str, Array]:
        """A row of these places, the best of each user of the test."""
        values = measures(best, self._wanted(self._test))
        means = {name: float(of.mean()) for name, of in values.items()}
        bounds = {name: interval(of) for name, of in values.items()}
        self.found.append(Row(PART, method, means | more, bounds, time.perf_counter() - began, note))
        return values

    def note(self, row: int, note: str) -> None:
        """Say this of a row."""
        of = self.found[row]
        self.found[row] = Row(of.part, of.method, of.metrics, of.intervals, of.seconds, note)

    def baselines(self, progress: Progress) -> tuple[float, float]:
        """Most popular and RP3beta, exactly; its alpha and beta."""
        began = time.perf_counter()
        popular = np.argsort(-self._degrees, kind="stable")
        unseen = [popular[~np.isin(popular, self._saves[user].indices)][:CUT] for user in self._test]
        self.add("most popular", np.array(unseen), began)
        reached: dict[tuple[float, float], float] = {}
        wanted = self._wanted(self._tuning)
        for done, alpha in enumerate(ALPHAS):
            progress("choosing alpha and beta", done, len(ALPHAS))
            for beta, best in zip(BETAS, self._rp3(self._tuning, alpha, BETAS), strict=True):
                reached[alpha, beta] = float(measures(best, wanted)[RECALL].mean())
        alpha, beta = max(reached, key=lambda pair: reached[pair])
        began = time.perf_counter()
        best = self._rp3(self._test, alpha, [beta])[0]
        self.add("RP3beta, exact", best, began, f"alpha {alpha:g}, beta {beta:g}")
        return alpha, beta

    def _rp3(self, users: I64, alpha: float, betas: Sequence[float]) -> list[I64]:
        """The best places of each user, for each beta."""
        starts = exact.weighted(self._saves[users], np.ones(len(self._degrees)))
        steps = self._steps if alpha == 1.0 else exact.transitions(self._saves, alpha)
        return exact.best_of(starts, steps, [self._degrees**-beta for beta in betas], CUT)

    def exact_walk(self, beta: float) -> dict[str, Array]:
        """The limit of Pixie's single steps when there are infinitely many."""
        began = time.perf_counter()
        starts = exact.weighted(self._saves[self._test], starting_weights(self._degrees))
        best = exact.best_of(starts, self._steps, [self._degrees**-beta], CUT)[0]
        return self.add("the walk, exact", best, began, "pixie's shares of steps, alpha 1")

    def pixie(
        self, walks: Walks, method: str, way: Way, progress: Progress, limit: dict[str, Array] | None = None
    ) -> None:
        """Pixie asked with each user's places; limit: of what its difference is taken."""
        began = time.perf_counter()
        queries = [self._saves[user].indices.astype(np.int64) for user in self._test]
        answers, took = walks.ask(queries, way, CUT, lambda done: progress(method, done, len(queries)))
        best = np.full((len(queries), CUT), -1)
        for row, (places, _) in enumerate(answers):
            best[row, : len(places)] = places
        values = self.add(method, best, began, ms=float(np.median(took)))
        note = f"{np.median(took):.1f} ms of a core a walk (median), {np.percentile(took, 99):.1f} P99"
        if limit is not None:
            low, high = paired(values[RECALL], limit[RECALL])
            note += f"; {RECALL} less the exact walk's {low:+.4f} to {high:+.4f}"
        self.note(-1, note)
