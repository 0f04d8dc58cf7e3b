"""The exact baselines against dense arithmetic and plain loops, the splits, and a whole run on a small world."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.evaluation import exact, gowalla, pinterest
from learning.evaluation.result import Row
from learning.evaluation.walks import SINGLE, Way, graph_of, starting_weights
from services.core.columns import I64, Array
from services.core.errors import InvalidArgument


def communities(boards: int = 300, pins: int = 250, seed: int = 3) -> tuple[I64, I64]:
    """Saves of boards that keep mostly to one of five groups of pins; 12 different pins a board."""
    random = np.random.default_rng(seed)
    of_boards, of_pins = [], []
    for board in range(boards):
        weight = np.where(np.arange(pins) % 5 == board % 5, 20.0, 1.0) / (1 + np.arange(pins) // 5)
        chosen = random.choice(pins, 12, replace=False, p=weight / weight.sum())
        of_boards += [board] * 12
        of_pins += chosen.tolist()
    return np.array(of_boards), np.array(of_pins)


def p3_by_hand(boards: I64, pins: I64, start: I64, weights: Array, alpha: float, n_pins: int) -> Array:
    """Scores of all pins by three nested loops over a walk's edges."""
    of_board = {b: pins[boards == b].tolist() for b in set(boards.tolist())}
    of_pin = {p: boards[pins == p].tolist() for p in set(pins.tolist())}
    scores = np.zeros(n_pins)
    for pin in start.tolist():
        for board in of_pin[pin]:
            for to in of_board[board]:
                step = (1 / len(of_pin[pin])) ** alpha * (1 / len(of_board[board])) ** alpha
                scores[to] += weights[pin] / weights[start].sum() * step
    return scores


@pytest.mark.parametrize("alpha", [0.7, 1.0, 1.3])
def test_the_exact_scores_are_those_of_the_edges_one_by_one(alpha: float) -> None:
    boards, pins = communities(40, 30)
    saves = exact.incidence(boards, pins, 40, 30)
    weights = np.random.default_rng(1).random(30) + 0.1
    asked = np.array([3, 17])
    expected = np.array([p3_by_hand(boards, pins, pins[boards == b], weights, alpha, 30) for b in asked])
    starts, steps = exact.weighted(saves[asked], weights), exact.transitions(saves, alpha)
    everything = np.tile(np.arange(30), (2, 1))
    assert exact.scores_of(starts, steps, everything) == pytest.approx(expected, rel=1e-5)
    discount = exact.degrees(saves) ** -0.5
    for row, best in enumerate(exact.best_of(starts, steps, [discount], 5)[0]):
        less = expected[row] * discount
        less[pins[boards == asked[row]]] = -1
        assert sorted(less[best], reverse=True) == pytest.approx(sorted(less, reverse=True)[:5], rel=1e-5)


def test_many_single_steps_come_to_the_exact_walk() -> None:
    boards, pins = communities()
    saves = exact.incidence(boards, pins, 300, 250)
    own = saves[7].indices.astype(np.int64)
    starts = exact.weighted(saves[[7]], starting_weights(exact.degrees(saves)))
    expected = exact.scores_of(starts, exact.transitions(saves), np.arange(250)[None])[0]
    with graph_of(boards, pins) as walks:
        ((found, scores),), took = walks.ask([own], Way(500_000, 0.0, SINGLE), 250)
    assert took[0] > 0
    assert not set(found.tolist()) & set(own.tolist())
    assert scores / 500_000 == pytest.approx(expected[found], abs=6e-4)


def test_a_save_of_every_board_is_held_out_and_negatives_are_not_on_it() -> None:
    boards, pins = communities()
    cut = pinterest.split(boards, pins, 50)
    assert len(cut.boards) == len(boards) - 300
    on_board = {b: set(pins[boards == b].tolist()) for b in range(300)}
    learnt = {b: set(cut.pins[cut.boards == b].tolist()) for b in range(300)}
    assert len(set(cut.asked.tolist())) == 50
    for board, candidates in zip(cut.asked.tolist(), cut.candidates.tolist(), strict=True):
        assert candidates[0] in on_board[board]
        assert candidates[0] not in learnt[board]
        assert len(set(candidates)) == 1 + pinterest.NEGATIVES
        assert not set(candidates[1:]) & on_board[board]


@given(st.lists(st.integers(0, 3), min_size=2, max_size=30))
def test_hits_and_gains_of_a_rank(scores: list[int]) -> None:
    values = pinterest.measures(np.array([scores], float))
    rank = sum(s > scores[0] for s in scores[1:]) + sum(s == scores[0] for s in scores[1:]) / 2
    assert values["HR@10"][0] == (rank < 10)
    assert values["NDCG@10"][0] == pytest.approx(1 / np.log2(rank + 2) if rank < 10 else 0)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60))
def test_a_fifth_of_each_users_places_is_held_out(users: list[int]) -> None:
    held = gowalla.split(np.array(users))
    for user in set(users):
        count = users.count(user)
        assert held[np.array(users) == user].sum() == min(round(0.2 * count), count - 1)


def test_recall_and_ndcg_of_a_list() -> None:
    best = np.full((1, gowalla.CUT), -1)
    best[0, :3] = [5, 6, 7]
    values = gowalla.measures(best, [np.array([6, 9])])
    assert values["Recall@20"][0] == 0.5
    assert values["NDCG@20"][0] == pytest.approx((1 / np.log2(3)) / (1 + 1 / np.log2(3)))


def world(folder: Path) -> Path:
    boards, pins = communities()
    pq.write_table(pa.table({"user": boards, "item": pins}), folder / "train.parquet")
    return folder


def test_pinterest_on_a_small_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinterest, "STEPS", (20_000, 200_000))
    monkeypatch.setattr(pinterest, "SERVED_STEPS", 20_000)
    rows = {row.method: row for row in pinterest.run(world(tmp_path), boards=120, tuning=60)}
    popular, limit, walked = rows["most popular"], rows["the walk, exact"], rows["pixie, 200,000 steps"]
    assert limit.metrics["HR@10"] > popular.metrics["HR@10"] + 0.1
    assert walked.metrics["HR@10"] == pytest.approx(limit.metrics["HR@10"], abs=0.05)
    assert walked.metrics["ms"] > 0
    assert all(row.intervals[name][0] <= row.metrics[name] <= row.intervals[name][1]
               for row in rows.values() for name in ("HR@10", "NDCG@10"))  # fmt: skip
    assert len([method for method in rows if method.startswith("pixie")]) == 3


def test_gowalla_on_a_small_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gowalla, "STEPS", (200_000,))
    monkeypatch.setattr(gowalla, "SERVED_STEPS", 20_000)
    rows = {row.method: row for row in gowalla.run(world(tmp_path), users=100, tuning=50)}
    limit, walked = rows["the walk, exact"], rows["pixie, 200,000 steps"]
    assert limit.metrics["Recall@20"] > rows["most popular"].metrics["Recall@20"] + 0.05
    assert walked.metrics["Recall@20"] == pytest.approx(limit.metrics["Recall@20"], abs=0.03)


@pytest.mark.parametrize("run", [pinterest.run, gowalla.run])
def test_a_missing_file_or_column_is_named(tmp_path: Path, run: Callable[[Path], list[Row]]) -> None:
    with pytest.raises(InvalidArgument, match=r"train.parquet: no such file"):
        run(tmp_path)
    pq.write_table(pa.table({"user": [1]}), tmp_path / "train.parquet")
    with pytest.raises(InvalidArgument, match=r"train.parquet: no column item; it has user"):
        run(tmp_path)
