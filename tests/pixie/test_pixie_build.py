"""The edges of a snapshot, and its rest after pruning, against sets and dictionaries."""

import math
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.text_ids import TextIds, as_text
from pixie.build import Edges, build
from pixie.prune import Pruning
from pixie.snapshot import open_snapshot, versions
from pixie.sources import from_parquet, from_records
from services.core.columns import ids
from services.core.errors import InvalidArgument
from services.core.events import Action, events
from services.core.external import number_of
from services.core.topics import Topic
from services.log.memory import MemoryLog
from tests.pixie.reference import BUILT_MS, adjacent, built, pairs_of

A = Action
Pairs = set[tuple[int, int]]
Interests = dict[int, list[int]]
pairs = st.sets(st.tuples(st.integers(1, 12), st.integers(1, 8)), min_size=1, max_size=50)
interests = st.dictionaries(st.integers(1, 12), st.lists(st.integers(1, 5), min_size=1, max_size=3, unique=True))


@given(pairs, interests)
def test_both_directions_hold_the_same_edges(tmp_path_factory: pytest.TempPathFactory, pairs: Pairs,
                                             interests: Interests) -> None:  # fmt: skip
    snapshot = built(tmp_path_factory.mktemp("graphs"), pairs, interests)
    assert pairs_of(snapshot) == (pairs, pairs)
    assert snapshot.manifest.edges == len(pairs)
    main = {pin: interests[pin][0] if pin in interests else 0 for pin, _ in pairs}
    assert snapshot.graph.pin_interests.tolist() == [main[pin] for pin in snapshot.pin_ids.tolist()]
    graph = snapshot.graph
    for side, of in zip(adjacent(snapshot), (graph.board_interests, graph.pin_interests), strict=True):
        for run in side:
            assert run == sorted(run, key=lambda node: (of[node], node))
    assert snapshot.degrees(np.arange(len(snapshot.pin_ids))).tolist() == [len(run) for run in adjacent(snapshot)[0]]
    assert snapshot.manifest.most == max(len(run) for run in adjacent(snapshot)[0])
    for row, board in enumerate(snapshot.board_ids.tolist()):
        of_board = [main[pin] for pin, b in pairs if b == board and main[pin]]
        common = min(of_board, key=lambda i: (-of_board.count(i), i), default=0)
        assert graph.board_interests[row] == common


def test_a_pair_that_comes_twice_is_one_edge(tmp_path: Path) -> None:
    version = build(tmp_path, Edges(ids([1, 2, 1]), ids([7, 7, 7])), built_ms=BUILT_MS)
    assert open_snapshot(tmp_path / version).manifest.edges == 2


def test_versions_of_one_second_follow_one_another_and_leave_no_draft(tmp_path: Path) -> None:
    made = [build(tmp_path, Edges(ids([1]), ids([2])), built_ms=BUILT_MS) for _ in range(3)]
    assert made == ["20251009T085320-1", "20251009T085320-2", "20251009T085320-3"]
    assert versions(tmp_path) == made[::-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == made


def test_an_empty_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="no pin is on a board: a graph needs at least one edge"):
        build(tmp_path, Edges(ids([]), ids([])), built_ms=BUILT_MS)
    assert list(tmp_path.iterdir()) == []


def left(pairs: Pairs, interests: Interests, pruning: Pruning) -> Pairs:
    """The edges that pruning leaves, one at a time."""
    vector = {pin: {i: 1 / len(of) for i in of} for pin, of in interests.items()}
    total: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for pin, board in pairs:
        for interest, part in vector.get(pin, {}).items():
            total[board][interest] += part
    boards = sorted({board for _, board in pairs})
    of_board = {b: {i: v / sum(total[b].values()) for i, v in total[b].items()} for b in boards}
    entropy = {b: -sum(p * math.log(p) for p in of_board[b].values()) for b in boards}
    dropped = sorted(boards, key=lambda b: (-round(entropy[b], 9), b))[: int(len(boards) * pruning.entropy_fraction)]
    kept = {(pin, b) for pin, b in pairs if b not in dropped or entropy[b] <= 1e-12}

    def cosine(pin: int, board: int) -> float:
        a, b = vector.get(pin, {}), of_board[board]
        norms = math.hypot(*a.values()) * math.hypot(*b.values())
        return round(sum(v * b.get(i, 0) for i, v in a.items()) / norms, 9) if norms else 0.0

    found = set()
    for pin in {pin for pin, _ in kept}:
        of_pin = sorted((b for p, b in kept if p == pin), key=lambda b: (-cosine(pin, b), b))
        found |= {(pin, b) for b in of_pin[: math.ceil(len(of_pin) ** pruning.delta)]}
    return found


def a_world(seed: int) -> tuple[Pairs, Interests]:
    """Random edges and interests of three a pin; so many that nothing ties."""
    rng = np.random.default_rng(seed)
    pairs = {(int(p), int(b)) for p, b in zip(rng.integers(1, 60, 900), rng.integers(1, 40, 900), strict=True)}
    return pairs, {pin: rng.choice(np.arange(1, 9), 1 + pin % 3, replace=False).tolist() for pin in range(1, 60, 2)}


@pytest.mark.parametrize("pruning", [Pruning(0.25, 1.0), Pruning(0.0, 0.7), Pruning(0.3, 0.8), Pruning(0.9, 0.5)])
@pytest.mark.parametrize("seed", [1, 2])
def test_pruning_drops_diverse_boards_and_far_edges(tmp_path: Path, pruning: Pruning, seed: int) -> None:
    pairs, interests = a_world(seed)
    snapshot = built(tmp_path, pairs, interests, pruning)
    expected = left(pairs, interests, pruning)
    assert len(expected) < len(pairs)
    assert pairs_of(snapshot) == (expected, expected)
    assert set(snapshot.pin_ids.tolist()) == {pin for pin, _ in expected}, "a pin that lost its edges is gone"


@pytest.mark.parametrize(
    ("pruning", "says"),
    [
        (Pruning(1.0, 1.0), "entropy_fraction = 1.0: allowed are 0 to below 1"),
        (Pruning(float("nan"), 1.0), "entropy_fraction = nan"),
        (Pruning(0.0, 0.0), "delta = 0.0: allowed are above 0 to 1"),
        (Pruning(0.0, 2.0), "delta = 2.0: allowed are above 0 to 1"),
        (Pruning(0.5, 1.0), "pruning compares interests, and no pin of the graph has one"),
    ],
)
def test_pruning_that_is_not_possible_is_refused(tmp_path: Path, pruning: Pruning, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        built(tmp_path, {(1, 2)}, {}, pruning)


ACTIONS = (
    A.SAVE,
    A.SAVE,
    A.SAVE,
    A.UNSAVE,
    A.DELETE_BOARD,
    A.CREATE_BOARD,
    A.JOIN_INTEREST,
    A.LEAVE_INTEREST,
    A.TAKEDOWN,
    A.CLICK,
)
happening = st.tuples(
    st.sampled_from(ACTIONS), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(1, 20)
)


@given(st.lists(happening, max_size=50), st.integers(1, 50))
def test_R07_the_log_gives_what_stands_at_its_end(rows: list[tuple[Action, int, int, int, int]], cut: int) -> None:
    saved: dict[tuple[int, int], tuple[int, bool]] = {}  # by pin and board: the latest date, and whether it is there
    created, deleted, gone = dict[int, int](), dict[int, int](), set[int]()
    joined: dict[tuple[int, int], int] = {}
    down = set()
    for action, pin, board, interest, at in rows:
        if action in (A.SAVE, A.UNSAVE):
            if at >= max(deleted.get(board, 0), saved.get((pin, board), (0, False))[0]):
                saved[pin, board] = (at, action == A.SAVE)
        elif action == A.DELETE_BOARD:
            saved = {(p, b): said for (p, b), said in saved.items() if b != board or said[0] > at}
            deleted[board] = max(at, deleted.get(board, 0))
            if at >= created.get(board, 0):
                gone.add(board)
        elif action == A.CREATE_BOARD:
            created[board] = max(at, created.get(board, 0))
            if at >= deleted.get(board, 0):
                gone.discard(board)
        elif action == A.JOIN_INTEREST:
            joined[pin, interest] = at
        elif action == A.LEAVE_INTEREST:
            joined.pop((pin, interest), None)
        elif action == A.TAKEDOWN:
            down.add(pin)
    offsets, records = MemoryLog(3), []
    for start in range(0, len(rows), cut):
        chunk = rows[start : start + cut]
        actions, pins, boards, targets, dates = zip(*chunk, strict=True)
        n = len(chunk)
        batch = events(n, action=actions, user=1, pin=pins, board=boards, target=targets, at_ms=dates,
                       id=range(1, n + 1))  # fmt: skip
        records += offsets.append(batch, (Topic.SOURCES,))
    found = from_records(records)
    assert set(zip(found.edges.pins.tolist(), found.edges.boards.tolist(), strict=True)) == {
        (pin, board) for (pin, board), (_, there) in saved.items() if there and pin not in down and board not in gone
    }
    topics = list(zip(found.topics.pins.tolist(), found.topics.interests.tolist(), strict=True))
    expected = sorted((pin, at, interest) for (pin, interest), at in joined.items() if pin not in down)
    assert topics == [(pin, interest) for pin, _, interest in expected], "the earliest of a pin comes first"


def parquet(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_edges_and_interests_from_parquet(tmp_path: Path) -> None:
    edges = parquet(tmp_path / "e.parquet", item=[5, 6, 5], user=[1, 1, 2], more=["a", "b", "c"])
    pins = parquet(tmp_path / "p.parquet", pin=[6, 5, 9], interests=[[3], [4, 1], None])
    found = from_parquet(edges, "item", "user", pins)
    assert (found.edges.pins.tolist(), found.edges.boards.tolist()) == ([5, 6, 5], [1, 1, 2])
    assert list(zip(found.topics.pins.tolist(), found.topics.interests.tolist(), strict=True)) == [
        (6, 3),
        (5, 4),
        (5, 1),
    ]
    single = parquet(tmp_path / "s.parquet", pin=[6, 5], interest=[3, None])
    assert from_parquet(edges, "item", "user", single).topics.pins.tolist() == [6]
    assert len(from_parquet(edges, "item", "user", None).topics.pins) == 0


def test_P11_P21_edges_are_ids_however_they_are_encoded(tmp_path: Path) -> None:
    """As pandas, polars, Spark and R write them, and as text where ids are text."""
    item, user = pa.array([5.0, 6.0, 5.0]), pa.array(["1", "1", "2"]).dictionary_encode()
    edges = parquet(tmp_path / "e.parquet", item=item, user=user)
    pins = parquet(
        tmp_path / "p.parquet",
        pin=pa.array([Decimal(6), Decimal(5)], pa.decimal128(20, 0)),
        interests=pa.array([[3.0, 2.0], None], pa.list_(pa.float64(), 2)),
    )
    found = from_parquet(edges, "item", "user", pins)
    assert (found.edges.pins.tolist(), found.edges.boards.tolist()) == ([5, 6, 5], [1, 1, 2])
    assert (found.topics.pins.tolist(), found.topics.interests.tolist()) == ([6, 6], [3, 2])
    named = parquet(tmp_path / "n.parquet", pin=["p-1", "p-2"], board=["b/1", "b/1"])
    with as_text(TextIds()):
        texts = from_parquet(named, "pin", "board", None)
    assert texts.edges.pins.tolist() == [number_of("p-1"), number_of("p-2")]
    assert texts.edges.boards.tolist() == [number_of("b/1")] * 2


def test_parquet_that_is_not_edges_is_refused_by_name(tmp_path: Path) -> None:
    edges = parquet(tmp_path / "e.parquet", pin=[5, 6], board=[1, 2], name=["a", "b"], odd=[1, -2], gap=[1, None])
    pins = parquet(tmp_path / "p.parquet", pin=[5, 7])
    with pytest.raises(InvalidArgument, match=r"e.parquet: row 1: pin 6 on board 2: an edge to an unknown pin"):
        from_parquet(edges, "pin", "board", pins)
    with pytest.raises(InvalidArgument, match="e.parquet: no column 'item'; it has pin, board, name, odd, gap"):
        from_parquet(edges, "item", "board", None)
    with pytest.raises(
        InvalidArgument, match=r"e.parquet: column name, row 0 \(from 0\): a is not allowed: ids are whole"
    ):
        from_parquet(edges, "name", "board", None)
    with pytest.raises(InvalidArgument, match=r"e.parquet: column odd, row 1 \(from 0\): -2 is not allowed: ids are"):
        from_parquet(edges, "odd", "board", None)
    with pytest.raises(InvalidArgument, match=r"e.parquet: column gap, row 1 \(from 0\): null is not allowed: ids are"):
        from_parquet(edges, "gap", "board", None)
    with pytest.raises(InvalidArgument, match="no.parquet: no such file"):
        from_parquet(tmp_path / "no.parquet", "pin", "board", None)
    (tmp_path / "text.parquet").write_text("pin,board")
    with pytest.raises(InvalidArgument, match="text.parquet: not read as Parquet"):
        from_parquet(tmp_path / "text.parquet", "pin", "board", None)
