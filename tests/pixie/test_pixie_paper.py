"""The kernel against the paper's walk (`paper.py`): the visits of many walks of each, where they stop, and their first ranks.

Visits of one walk depend on one another, so each of many independent walks gives one number, or one vector, to a
two-sample test: chi-square of numbers, Hotelling's T-square of vectors, which is the chi-square test of means whose
parts depend on one another. Seeds are fixed: a test that passes passes always.

Walkers that step alternately all begin at the query pin, and the budget cuts the last excursion of each short. A walk
equals one walker in distribution if its budget is too small for several, or if it restarts after every
step; longer walks are equal as far as samples of these sizes tell, and the last test says by how much they are not.
"""

from random import Random
from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats

from pixie.counting import Visits
from pixie.kernel import WALKERS, best, budgets, options, visited
from pixie.snapshot import Snapshot
from services.core.columns import Array
from tests.pixie.paper import Paper, Rules, Tally, boosted
from tests.pixie.reference import Pairs, built, transition

LEAST_P = 1e-4
NEVER = 1 << 40
PINS, BOARDS = 40, 14
QUERIES = [4, 20, 35]  # on 1, 5 and 3 boards


class Sample(NamedTuple):
    """Of each of R independent walks, of one kind of node."""

    visits: Array  # float64[R, nodes] of all query pins together
    scores: Array  # float64[R, nodes] boosted
    steps: Array  # int64[R, queries] counted from each query pin
    first: Array  # int64[R] the best node, query pins left out; 0 if there is none


class Regime(NamedTuple):
    rules: Rules
    walks: int  # of the paper's
    times: int  # as many of ours


REGIMES = {
    "budgets too small for several walkers": Regime(Rules(0.5, 70, NEVER, NEVER), 4_000, 2),
    "the same, stopping early": Regime(Rules(0.5, 70, 3, 3), 4_000, 2),
    "a restart after every step, stopping early": Regime(Rules(1.0, 6_000, 5, 150), 150, 6),
    "walkers in turns": Regime(Rules(0.5, 160_000, NEVER, NEVER), 10, 20),
    "walkers in turns, stopping early": Regime(Rules(0.5, 160_000, 10, 1_000), 18, 12),
}


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return built(tmp_path_factory.mktemp("graphs"), a_graph())


def a_graph() -> Pairs:
    """Two circles of boards with few pins on both, so that it matters how far a walk goes; degrees from 1 to 6."""
    random, half = Random(5), BOARDS // 2
    pairs = {(pin, 1 + (pin % 2) * half + pin // 2 % half) for pin in range(1, PINS + 1)}
    for pin in range(1, PINS + 1):
        for _ in range(pin % 4 + 4 * (pin % 10 == 0)):
            side = pin % 2 if random.random() < 0.85 else 1 - pin % 2
            pairs.add((pin, 1 + side * half + random.randrange(half)))
    return pairs


@pytest.mark.parametrize("name", REGIMES)
def test_walks_are_the_papers_in_distribution(snapshot: Snapshot, name: str) -> None:
    rules, walks, times = REGIMES[name]
    theirs, ours = papers(rules, walks), kernels(snapshot, rules, walks * times)
    found = {f"{side}: {what}": p for side, one, other in zip(("boards", "pins"), theirs, ours, strict=True)
             for what, p in compared(one, other, rules.stop_nodes < NEVER).items()}  # fmt: skip
    assert min(found.values()) > LEAST_P, found


def papers(rules: Rules, walks: int) -> tuple[Sample, Sample]:
    """Of boards and of pins."""
    paper, random = Paper(a_graph()), Random(1)
    found = [paper.recommend(QUERIES, rules, random) for _ in range(walks)]
    return (_tallied([boards for boards, _ in found], BOARDS, []), _tallied([pins for _, pins in found], PINS, QUERIES))


def _tallied(walks: list[list[Tally]], nodes: int, leave_out: list[int]) -> Sample:
    """A sample from the tallies of each walk's query pins."""
    sample = _empty(len(walks), nodes)
    for i, tallies in enumerate(walks):
        scores = boosted(tallies)
        for node, score in scores.items():
            sample.visits[i, node - 1] = sum(tally.visits[node] for tally in tallies)
            sample.scores[i, node - 1] = score
        sample.steps[i] = [tally.steps for tally in tallies]
        sample.first[i] = max((node for node in scores if node not in leave_out),
                              key=lambda node: (scores[node], -node), default=0)  # fmt: skip
    return sample


def kernels(snapshot: Snapshot, rules: Rules, walks: int) -> tuple[Sample, Sample]:
    """Of boards and of pins. A node's row is its id - 1: all have edges."""
    rows, graph = np.array(QUERIES) - 1, snapshot.graph
    shares = np.array(Paper(a_graph()).budgets(QUERIES, rules.steps))
    split = budgets(snapshot.degrees(rows), np.ones(len(rows), np.float32), snapshot.manifest.most, rules.steps)
    assert np.abs(split - shares).max() <= 1, "but for how they are rounded, so that they add up"
    samples = _empty(walks, BOARDS), _empty(walks, PINS)
    for plain in (True, False):
        chosen = options(boards=True, pins=True, plain=plain, restart=rules.restart, stop_nodes=rules.stop_nodes,
                         stop_visits=rules.stop_visits)  # fmt: skip
        for i in range(walks):
            sides = visited(graph, rows, shares, chosen, seed=i + 1)
            for sample, found, runs in zip(samples, sides, (graph.boards, graph.pins), strict=True):
                (sample.visits if plain else sample.scores)[i, _rows(runs, found)] = found.scores
                sample.steps[i] = found.steps
                top = best(runs, found, 1, leave_out=rows if runs is graph.pins else rows[:0])
                sample.first[i] = top.nodes[0] + 1 if len(top.nodes) else 0
    return samples


def _rows(runs: Array, found: Visits) -> Array:
    return (runs[found.starts.astype(np.int64)] & np.uint64(0xFFFF_FFFF)).astype(np.int64)


def _empty(walks: int, nodes: int) -> Sample:
    of_nodes = (walks, nodes)
    return Sample(np.zeros(of_nodes), np.zeros(of_nodes), np.zeros((walks, len(QUERIES)), np.int64),
                  np.zeros(walks, np.int64))  # fmt: skip


def compared(one: Sample, other: Sample, stopping: bool) -> dict[str, float]:
    """p of each test that the two are samples of one distribution."""
    found = {
        "a visit of each walk": chi_square(_drawn(one.visits), _drawn(other.visits)),
        "visits": t_square(one.visits, other.visits),
        "boosted scores": t_square(one.scores, other.scores),
        "the best": chi_square(one.first, other.first),
    }
    for query in range(len(QUERIES) if stopping else 0):
        bins = np.unique(np.quantile(one.steps[:, query], np.arange(0.1, 1, 0.1)))
        binned = [np.searchsorted(bins, sample.steps[:, query]) for sample in (one, other)]
        found[f"steps from query pin {query}"] = chi_square(binned[0], binned[1])
    return found


def _drawn(visits: Array) -> Array:
    """int64[R]: the node of one visit of each walk, drawn from all of them."""
    ends = visits.cumsum(1)
    at = np.random.default_rng(1).random(len(visits)) * ends[:, -1]
    return np.asarray((ends <= at[:, None]).sum(1))


def chi_square(one: Array, other: Array, least: int = 20) -> float:
    """p of two samples of whole numbers; numbers that came up fewer than `least` times are taken together."""
    table = np.array([np.bincount(sample, minlength=1 + max(one.max(), other.max())) for sample in (one, other)])
    rare = table.sum(0) < least
    table = np.column_stack([table[:, ~rare], table[:, rare].sum(1)])
    return float(stats.chi2_contingency(table[:, table.sum(0) > 0]).pvalue)


def t_square(one: Array, other: Array) -> float:
    """p of Hotelling's two-sample T-square, of equal covariances: that the means of float64[R, nodes] are the same."""
    n, m = len(one), len(other)
    covariance = ((n - 1) * np.cov(one.T) + (m - 1) * np.cov(other.T)) / (n + m - 2)
    return hotelling(one.mean(0) - other.mean(0), covariance, n * m / (n + m), n + m - 2)


def hotelling(apart: Array, covariance: Array, weight: float, degrees: int) -> float:
    """p of a difference whose covariance, over the weight, was estimated with so many degrees of freedom."""
    rank = int(np.linalg.matrix_rank(covariance))  # visits add up to the budget, so they are bound to one another
    t = weight * apart @ np.linalg.pinv(covariance, hermitian=True) @ apart
    return float(stats.f.sf(t * (degrees - rank + 1) / degrees / rank, rank, degrees - rank + 1))


def test_walkers_that_begin_together_visit_what_is_near_a_little_more(snapshot: Snapshot) -> None:
    """By at most W (1 - restart) / restart of a budget's visits: (1 - restart) ** t of the t-th turn's, of W walkers."""
    matrix, steps, row, restart = transition(snapshot), 16 * WALKERS, QUERIES[1] - 1, 0.5
    one, several = expected(matrix, row, restart, steps), WALKERS * expected(matrix, row, restart, steps // WALKERS)
    found = np.zeros((3_000, PINS))
    for i in range(len(found)):
        pins = visited(snapshot.graph, np.array([row]), np.array([steps]), options(boards=False, restart=restart), i)[1]
        found[i, _rows(snapshot.graph.pins, pins)] = pins.scores
    is_it = [hotelling(found.mean(0) - mean, np.cov(found.T), len(found), len(found) - 1) for mean in (several, one)]
    assert is_it[0] > LEAST_P > is_it[1], is_it
    assert 0 < np.abs(several - one).sum() / 2 < WALKERS * (1 - restart) / restart


def expected(matrix: Array, row: int, restart: float, steps: int) -> Array:
    """float64[pins]: visits that so many steps of one walker from the pin at this row come to on average."""
    home = np.eye(len(matrix))[row]
    at, visits = home, np.zeros(len(matrix))
    for _ in range(steps):
        step = at @ matrix
        visits += step
        at = restart * home + (1 - restart) * step
    return visits
