"""The walk against the same walk in plain Python, and against what its distribution must be, computed exactly."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pixie import kernel
from pixie.kernel import budgets, options, visited, walk
from pixie.snapshot import Snapshot
from tests.pixie.reference import built, transition, walked

NEVER = 1 << 40
pairs = st.sets(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=40)
interests = st.dictionaries(st.integers(1, 9), st.lists(st.integers(1, 3), min_size=1, max_size=2))
part = st.floats(0, 1)


@settings(max_examples=120)
@given(pairs, interests, st.lists(st.tuples(st.integers(0, 8), st.integers(0, 60)), min_size=1, max_size=5),
       st.booleans(), st.booleans(), part, part, st.integers(0, 4), st.integers(0, 2**64 - 1),
       st.sampled_from([(NEVER, NEVER), (2, 3), (1, 1)]), st.booleans())  # fmt: skip
def test_it_walks_as_plain_python_does(tmp_path_factory: pytest.TempPathFactory, pairs: set[tuple[int, int]],
                                       interests: dict[int, list[int]], queries: list[tuple[int, int]], boards: bool,
                                       plain: bool, restart: float, bias: float, interest: int, seed: int,
                                       stop: tuple[int, int], small: bool) -> None:  # fmt: skip
    snapshot = built(tmp_path_factory.mktemp("graphs"), pairs, interests)
    pins = [pin % len(snapshot.pin_ids) for pin, _ in queries]
    shares = [share for _, share in queries]
    chosen = options(boards=boards, plain=plain, restart=restart, bias=bias, interest=interest,
                     stop_nodes=stop[0], stop_visits=stop[1])  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        if small:  # tables that must grow
            patch.setattr(kernel, "DIRECT", 1)
            patch.setattr(kernel, "FIRST_ROWS", 4)
        found = visited(snapshot.graph, np.array(pins), np.array(shares), chosen, seed)
    scores, seeds, steps = walked(snapshot, pins, shares, chosen, seed)
    assert found.steps.tolist() == steps
    assert dict(zip(found.nodes.tolist(), found.seeds.tolist(), strict=True)) == seeds
    assert len(set(found.nodes.tolist())) == len(found.nodes)
    for node, score in zip(found.nodes.tolist(), found.scores.tolist(), strict=True):
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
        found = visited(snapshot.graph, np.array([start]), np.array([n]), chosen, seed=start + 7)
        counts = np.zeros(len(matrix))
        counts[found.nodes] = found.scores
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
            found = visited(snapshot.graph, np.array([start]), np.array([length]), chosen, seed)
            counts[found.nodes] += sign * found.scores
    assert counts.sum() == n
    assert stats.chisquare(counts[at > 0], at[at > 0] * n).pvalue > 1e-4


def test_the_share_of_visits_is_that_of_the_walk_with_restarts(tmp_path: Path) -> None:
    snapshot, start, restart = a_graph(tmp_path), 5, 0.5
    matrix, n = transition(snapshot), 3_000_000
    home = np.eye(len(matrix))[start]
    exact = restart * home @ np.linalg.inv(np.eye(len(matrix)) - (1 - restart) * matrix) @ matrix
    found = visited(
        snapshot.graph, np.array([start]), np.array([n]), options(boards=False, plain=True, restart=restart)
    )
    shares = np.zeros(len(matrix))
    shares[found.nodes] = found.scores / n
    assert np.abs(shares - exact).max() < 0.002


def test_bias_keeps_to_the_interest(tmp_path: Path) -> None:
    pairs = {(pin, board) for pin in range(1, 21) for board in (1, 2)} | {(20, 3)}
    snapshot = built(tmp_path, pairs, {pin: [1 + pin % 4] for pin in range(1, 21)})
    share = {}
    for bias in (0.0, 0.5, 1.0):
        chosen = options(boards=False, plain=True, restart=1.0, bias=bias, interest=3)
        found = visited(snapshot.graph, np.array([0]), np.array([20_000]), chosen)
        of_it = snapshot.graph.pin_interests[found.nodes] == 3
        share[bias] = found.scores[of_it].sum() / found.scores.sum()
    assert share[0.0] == pytest.approx(0.25, abs=0.02)
    assert share[0.5] == pytest.approx(0.625, abs=0.02)
    assert share[1.0] == 1.0
    nowhere = options(boards=False, plain=True, restart=1.0, bias=1.0, interest=99)
    assert len(visited(snapshot.graph, np.array([0]), np.array([5_000]), nowhere).nodes) == 20, "no such pins: any"


def test_early_stopping_ends_each_query_pins_walk(tmp_path: Path) -> None:
    snapshot = a_graph(tmp_path)
    chosen = options(boards=False, restart=0.5, stop_nodes=3, stop_visits=4)
    answer = walk(snapshot.graph, np.array([0, 4]), np.array([10_000, 10_000]), chosen, k=5)
    assert all(12 <= taken < 200 for taken in answer.steps.tolist())
    long = walk(snapshot.graph, np.array([0, 4]), np.array([10_000, 10_000]), options(boards=False), k=5)
    assert long.steps.tolist() == [10_000, 10_000]


def test_the_booster_prefers_what_several_query_pins_reach(tmp_path: Path) -> None:
    """4 + 4 visits from two pins score (2 + 2) ** 2 = 16, 8 visits from one pin 8."""
    snapshot = built(tmp_path, {(1, 5), (2, 5)})
    graph = snapshot.graph
    alone = walk(graph, np.array([0]), np.array([8]), options(boards=True), k=1)
    both = walk(graph, np.array([0, 1]), np.array([4, 4]), options(boards=True), k=1)
    plain = walk(graph, np.array([0, 1]), np.array([4, 4]), options(boards=True, plain=True), k=1)
    assert [a.scores.tolist() for a in (alone, both, plain)] == [[8.0], [16.0], [8.0]]


def test_discount_divides_by_degree(tmp_path: Path) -> None:
    snapshot = a_graph(tmp_path)
    for boards, offsets in ((False, snapshot.graph.pin_offsets), (True, snapshot.graph.board_offsets)):
        chosen = options(boards=boards, restart=0.5)
        raw = walk(snapshot.graph, np.array([2]), np.array([5_000]), chosen, k=12, seed=9)
        less = walk(snapshot.graph, np.array([2]), np.array([5_000]), chosen, k=12, seed=9, discount=0.7)
        expected = dict(
            zip(raw.nodes.tolist(), (raw.scores / np.diff(offsets)[raw.nodes] ** 0.7).tolist(), strict=True)
        )
        assert dict(zip(less.nodes.tolist(), less.scores.tolist(), strict=True)) == pytest.approx(expected, rel=1e-5)
        assert less.scores.tolist() == sorted(less.scores.tolist(), reverse=True)


def test_query_pins_are_left_out_and_the_best_k_are_the_best(tmp_path: Path) -> None:
    snapshot = a_graph(tmp_path)
    rows, shares, chosen = np.array([2, 5]), np.array([4_000, 4_000]), options(boards=False)
    every = walk(snapshot.graph, rows, shares, chosen, k=100, leave_out=rows)
    assert not set(every.nodes.tolist()) & {2, 5}
    few = walk(snapshot.graph, rows, shares, chosen, k=3, leave_out=rows)
    assert few.nodes.tolist() == every.nodes[:3].tolist()


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1)), min_size=1, max_size=40), st.integers(1, 45))
def test_the_top_is_what_sorting_gives(scored: list[tuple[int, float]], k: int) -> None:
    scores = np.array([float(score) for score, _ in scored])
    nodes = np.random.default_rng(1).permutation(len(scored)).astype(np.uint32)
    expected = sorted(range(len(scored)), key=lambda row: (-scores[row], nodes[row]))[:k]
    assert kernel.top(nodes, scores, k).tolist() == expected


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
    walks = [visited(snapshot.graph, np.array([1]), np.array([500]), options(boards=False), seed) for seed in (1, 1, 2)]
    assert walks[0].scores.tolist() == walks[1].scores.tolist()
    assert walks[0].scores.tolist() != walks[2].scores.tolist()


def test_a_walk_that_nobody_waits_for_ends(tmp_path: Path) -> None:
    snapshot, answers = a_graph(tmp_path), iter([True, True, False])
    with pytest.raises(TimeoutError):
        walk(snapshot.graph, np.array([1]), np.array([10**9]), options(boards=False), k=1, alive=lambda: next(answers))
