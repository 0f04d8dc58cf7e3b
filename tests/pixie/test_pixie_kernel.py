"""The walk against the same walk in plain Python, and against what its distribution must be, computed exactly."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pixie import counting
from pixie.kernel import best, budgets, options, visited
from pixie.snapshot import Snapshot
from tests.pixie.reference import adjacent, built, transition, visits_of, walk, walked

NEVER = 1 << 40
pairs = st.sets(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=40)
interests = st.dictionaries(st.integers(1, 9), st.lists(st.integers(1, 3), min_size=1, max_size=2))
part = st.floats(0, 1)


@settings(max_examples=120)
@given(pairs, interests, st.lists(st.tuples(st.integers(0, 8), st.integers(0, 60)), min_size=1, max_size=5),
       st.booleans(), st.booleans(), part, part, st.integers(0, 4), st.integers(0, 2**64 - 1),
       st.sampled_from([(NEVER, NEVER), (2, 3), (1, 1)]))  # fmt: skip
def test_it_walks_as_plain_python_does(tmp_path_factory: pytest.TempPathFactory, pairs: set[tuple[int, int]],
                                       interests: dict[int, list[int]], queries: list[tuple[int, int]], boards: bool,
                                       plain: bool, restart: float, bias: float, interest: int, seed: int,
                                       stop: tuple[int, int]) -> None:  # fmt: skip
    snapshot = built(tmp_path_factory.mktemp("graphs"), pairs, interests)
    pins = [pin % len(snapshot.pin_ids) for pin, _ in queries]
    shares = [share for _, share in queries]
    chosen = options(boards=boards, plain=plain, restart=restart, bias=bias, interest=interest,
                     stop_nodes=stop[0], stop_visits=stop[1])  # fmt: skip
    nodes, given, found = visits_of(snapshot, pins, shares, chosen, seed)
    scores, seeds, steps = walked(snapshot, pins, shares, chosen, seed)
    assert found.steps.tolist() == steps
    assert dict(zip(nodes.tolist(), found.seeds.tolist(), strict=True)) == seeds
    assert len(set(nodes.tolist())) == len(nodes)
    for node, score in zip(nodes.tolist(), given.tolist(), strict=True):
        assert score == pytest.approx(scores[node])


def a_graph(folder: Path, pins: int = 12, boards: int = 8, seed: int = 1) -> Snapshot:
    """A connected random graph of some spread of degrees."""
    rng = np.random.default_rng(seed)
    found = {(pin, 1 + pin % boards) for pin in range(1, pins + 1)}
    found |= {(pin, 1 + int(rng.integers(boards))) for pin in range(1, pins + 1) for _ in range(pin % 5)}
    found |= {(1 + pin % pins, 1 + pin % boards) for pin in range(pins)} | {(1, b) for b in range(1, boards + 1)}
    return built(folder, found)


def test_single_steps_follow_their_exact_distribution(tmp_path: Path) -> None:
    snapshot, n = a_graph(tmp_path), 100_000
    matrix = transition(snapshot)
    for start in range(len(snapshot.pin_ids)):
        chosen = options(boards=False, plain=True, restart=1.0)
        nodes, scores, _ = visits_of(snapshot, [start], [n], chosen, seed=start + 7)
        counts = np.zeros(len(matrix))
        counts[nodes] = scores
        expected = matrix[start] * n
        assert not counts[expected == 0].any()
        assert stats.chisquare(counts[expected > 0], expected[expected > 0]).pvalue > 1e-4


@pytest.mark.parametrize("restart", [0.0, 0.3, 0.5])
def test_the_last_of_many_steps_is_where_the_restarts_lead(tmp_path: Path, restart: float) -> None:
    """Of walks of equal seeds that differ by one step, the difference is that step: a sample of its distribution."""
    snapshot, start, steps, n = a_graph(tmp_path), 3, 4, 3_000
    matrix = transition(snapshot)
    at = np.eye(len(matrix))[start]
    for _ in range(steps):
        at = (restart * np.eye(len(matrix))[start] + (1 - restart) * at) @ matrix if _ else at @ matrix
    chosen, counts = options(boards=False, plain=True, restart=restart), np.zeros(len(matrix))
    for seed in range(1, n + 1):
        for length, sign in ((steps, 1), (steps - 1, -1)):
            nodes, scores, _ = visits_of(snapshot, [start], [length], chosen, seed)
            counts[nodes] += sign * scores
    assert counts.sum() == n
    assert stats.chisquare(counts[at > 0], at[at > 0] * n).pvalue > 1e-4


def test_the_share_of_visits_is_that_of_the_walk_with_restarts(tmp_path: Path) -> None:
    snapshot, start, restart = a_graph(tmp_path), 5, 0.5
    matrix, n = transition(snapshot), 3_000_000
    home = np.eye(len(matrix))[start]
    exact = restart * home @ np.linalg.inv(np.eye(len(matrix)) - (1 - restart) * matrix) @ matrix
    nodes, scores, _ = visits_of(snapshot, [start], [n], options(boards=False, plain=True, restart=restart))
    shares = np.zeros(len(matrix))
    shares[nodes] = scores / n
    assert np.abs(shares - exact).max() < 0.002


def test_bias_keeps_to_the_interest(tmp_path: Path) -> None:
    pairs = {(pin, board) for pin in range(1, 21) for board in (1, 2)} | {(20, 3)}
    snapshot = built(tmp_path, pairs, {pin: [1 + pin % 4] for pin in range(1, 21)})
    share = {}
    for bias in (0.0, 0.5, 1.0):
        chosen = options(boards=False, plain=True, restart=1.0, bias=bias, interest=3)
        nodes, scores, _ = visits_of(snapshot, [0], [20_000], chosen)
        of_it = snapshot.graph.pin_interests[nodes] == 3
        share[bias] = scores[of_it].sum() / scores.sum()
    assert share[0.0] == pytest.approx(0.25, abs=0.02)
    assert share[0.5] == pytest.approx(0.625, abs=0.02)
    assert share[1.0] == 1.0
    nowhere = options(boards=False, plain=True, restart=1.0, bias=1.0, interest=99)
    assert len(visits_of(snapshot, [0], [5_000], nowhere)[0]) == 20, "no such pins: any"


def test_early_stopping_ends_each_query_pins_walk(tmp_path: Path) -> None:
    snapshot = a_graph(tmp_path)
    chosen = options(boards=False, restart=0.5, stop_nodes=3, stop_visits=4)
    answer = walk(snapshot, [0, 4], [10_000, 10_000], chosen, k=5)
    assert all(12 <= taken < 200 for taken in answer.steps.tolist())
    long = walk(snapshot, [0, 4], [10_000, 10_000], options(boards=False), k=5)
    assert long.steps.tolist() == [10_000, 10_000]


def test_the_booster_prefers_what_several_query_pins_reach(tmp_path: Path) -> None:
    """4 + 4 visits from two pins score (2 + 2) ** 2 = 16, 8 visits from one pin 8."""
    snapshot = built(tmp_path, {(1, 5), (2, 5)})
    alone = walk(snapshot, [0], [8], options(boards=True), k=1)
    both = walk(snapshot, [0, 1], [4, 4], options(boards=True), k=1)
    plain = walk(snapshot, [0, 1], [4, 4], options(boards=True, plain=True), k=1)
    assert [a.scores.tolist() for a in (alone, both, plain)] == [[8.0], [16.0], [8.0]]


def test_discount_divides_by_degree(tmp_path: Path) -> None:
    snapshot = a_graph(tmp_path)
    for boards, of in zip((False, True), adjacent(snapshot), strict=True):
        chosen = options(boards=boards, restart=0.5)
        raw = walk(snapshot, [2], [5_000], chosen, k=12, seed=9)
        less = walk(snapshot, [2], [5_000], chosen, k=12, seed=9, discount=0.7)
        expected = dict(
            zip(raw.nodes.tolist(), (raw.scores / np.array(list(map(len, of)))[raw.nodes] ** 0.7).tolist(), strict=True)
        )
        assert dict(zip(less.nodes.tolist(), less.scores.tolist(), strict=True)) == pytest.approx(expected, rel=1e-5)
        assert less.scores.tolist() == sorted(less.scores.tolist(), reverse=True)


def test_query_pins_are_left_out_and_the_best_k_are_the_best(tmp_path: Path) -> None:
    snapshot = a_graph(tmp_path)
    rows, shares, chosen = [2, 5], [4_000, 4_000], options(boards=False)
    every = walk(snapshot, rows, shares, chosen, k=100, leave_out=np.array(rows))
    assert not set(every.nodes.tolist()) & {2, 5}
    few = walk(snapshot, rows, shares, chosen, k=3, leave_out=np.array(rows))
    assert few.nodes.tolist() == every.nodes[:3].tolist()


@given(st.lists(st.tuples(st.integers(0, 1000), st.floats(1e-3, 1e3)), min_size=1, max_size=30),
       st.integers(1, 10**8))  # fmt: skip
def test_budgets_add_up_and_rise_less_than_degrees(queries: list[tuple[int, float]], steps: int) -> None:
    degrees, weights = np.array([d for d, _ in queries]), np.array([w for _, w in queries], np.float32)
    shares = budgets(degrees, weights, 1000, steps)
    assert shares.sum() == (steps if degrees.any() else 0)
    assert (shares >= 0).all()
    assert not shares[degrees == 0].any()


def test_budgets_as_the_paper_shares_them() -> None:
    one = np.ones(2, np.float32)
    low, high = budgets(np.array([1, 100]), one, 100, 1_000_000).tolist()
    assert high / low == pytest.approx(100 / (1 + np.log(100)), rel=1e-3), "less than in proportion to the degrees"
    light, heavy = budgets(np.array([7, 7]), np.array([1, 3], np.float32), 100, 1_000_000).tolist()
    assert heavy == 3 * light
    assert budgets(np.array([5, 100]), one, 100, 100).min() > 0, "a pin of the highest degree gets steps too"


def test_the_same_seed_walks_the_same_and_another_does_not(tmp_path: Path) -> None:
    snapshot = a_graph(tmp_path)
    walks = [walk(snapshot, [1], [500], options(boards=False), k=20, seed=seed) for seed in (1, 1, 2)]
    assert walks[0].scores.tolist() == walks[1].scores.tolist()
    assert walks[0].scores.tolist() != walks[2].scores.tolist()


def test_a_walk_whose_caller_has_left_ends(tmp_path: Path) -> None:
    snapshot, answers = a_graph(tmp_path), iter([True, True, False])
    with pytest.raises(TimeoutError):
        visited(snapshot.graph, np.array([1]), np.array([10**8]), options(boards=False), alive=lambda: next(answers))


def test_both_sides_of_one_walk_are_what_each_alone_is(tmp_path: Path) -> None:
    """Early stopping ends the two at different steps."""
    snapshot, rows, shares = a_graph(tmp_path), np.array([2, 0, 5]), np.array([300, 0, 5_000])
    for stop in (NEVER, 6):
        both = visited(
            snapshot.graph, rows, shares, options(boards=True, pins=True, stop_nodes=stop, stop_visits=20), 5
        )
        for boards in (True, False):
            chosen = options(boards=boards, stop_nodes=stop, stop_visits=20)
            alone, other = visited(snapshot.graph, rows, shares, chosen, 5)[:: 1 if boards else -1]
            assert not len(other.starts)
            columns: list[tuple[Any, Any]] = list(zip(alone, both[0 if boards else 1], strict=True))
            assert all(np.array_equal(one, same) for one, same in columns)
    assert both[0].steps.tolist() != both[1].steps.tolist()


def test_a_table_that_grows_counts_the_same(tmp_path: Path) -> None:
    """From 2 ** 13 slots to what 60,000 steps over 30,000 pins need."""
    rng = np.random.default_rng(3)
    snapshot = built(tmp_path, set(zip(rng.integers(0, 30_000, 90_000).tolist(),
                                       rng.integers(0, 9_000, 90_000).tolist(), strict=True)))  # fmt: skip
    found = []
    for bits in (13, 16, 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(counting, "FIRST_BITS", bits)
            answer = walk(snapshot, [7, 9, 400], [60_000, 20, 50_000], options(boards=False, restart=0.1), k=40_000)
            found.append((answer.nodes.tolist(), answer.scores.tolist(), answer.seeds.tolist()))
    assert found[0] == found[1] == found[2]
    assert len(found[0][0]) > 20_000


def test_query_pins_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    graph, chosen, rows = built(tmp_path, {(1, 1), (2, 1)}).graph, options(boards=True), np.array([0, 1])
    with pytest.raises(ValueError, match="^shares: 1 rows, expected 2$"):
        visited(graph, rows, np.array([5]), chosen)
    for wrong in ([0, 2], [-1, 1]):
        with pytest.raises(ValueError, match=f"^pins: rows {min(wrong)} to {max(wrong)}, the graph has 2 pins$"):
            visited(graph, np.array(wrong), np.array([5, 5]), chosen)
    with pytest.raises(ValueError, match="^weights: 1 rows, expected 2$"):
        budgets(np.array([1, 1]), np.ones(1, np.float32), 2, 100)
    boards, _ = visited(graph, rows, np.array([5, 5]), chosen)
    with pytest.raises(ValueError, match="^seeds: 0 rows, expected 1$"):
        best(graph.boards, boards._replace(seeds=boards.seeds[:0]), 1)
