"""Pixie asked over real RPCs, and its snapshots pushed to it while it is asked."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixie import pushing
from pixie.build import build
from pixie.client import BOARDS, BOTH, PINS, PixieClient, Recommended
from pixie.service import Pixie, Walking
from pixie.snapshot import current
from pixie.store import PixieStore
from protos import pixie_pb2 as pb
from protos.pixie_pb2_grpc import add_PixieServicer_to_server
from services.core.clock import wall_clock
from services.core.columns import ids, pack
from services.core.errors import InvalidArgument, NotFound, NotReady
from services.core.settings import MeshSettings
from services.rpc.local import LocalMesh
from services.rpc.mesh import Mesh
from tests.kit import asked, serve_shards
from tests.pixie.reference import BUILT_MS, Pairs, built, edges_of

TWO_WORLDS: Pairs = {(pin, board) for pin in range(1, 6) for board in (101, 102)} | {
    (pin, board) for pin in range(6, 9) for board in (102, 103)
}


@contextmanager
def pixie(graphs: Path, **walking: Any) -> Iterator[Mesh]:
    """A running pixie over a folder of snapshots, none of them loaded."""
    service = Pixie(PixieStore(graphs, wall_clock), Walking(**walking))
    add = partial(add_PixieServicer_to_server, service)
    with serve_shards("pixie", [[add]], 4, compiles=True) as mesh:
        yield mesh


def recommend(mesh: Mesh, pins: list[int], weights: list[float] | None = None, **how: Any) -> Recommended:
    how = {"want": BOARDS, "k": 10, "steps": 5_000, "seed": 7, "timeout": 20.0} | how
    weight = np.array(weights or [1.0] * len(pins), np.float32)
    found: Recommended = asked(PixieClient, mesh, lambda client: client.recommend(ids(pins), weight, **how))
    return found


@pytest.fixture
def graphs(tmp_path: Path) -> Path:
    """A folder with one snapshot."""
    folder = tmp_path / "graphs"
    built(folder, TWO_WORLDS)
    return folder


def version_of(graphs: Path) -> str:
    return max(path.name for path in graphs.iterdir() if path.is_dir())


def test_boards_and_pins_near_pins(graphs: Path) -> None:
    with pixie(graphs) as mesh:
        with pytest.raises(NotReady, match="no graph snapshot is loaded: `feedmesh graph build`"):
            recommend(mesh, [1])
        assert asked(PixieClient, mesh, lambda client: client.describe(5)).version == ""
        loaded = asked(PixieClient, mesh, lambda client: client.load(version_of(graphs), 60))
        assert (loaded.pins, loaded.boards, loaded.edges, loaded.built_ms) == (8, 3, 16, BUILT_MS)
        assert asked(PixieClient, mesh, lambda client: client.describe(5)) == loaded
        boards = recommend(mesh, [1, 999, 8], [1.0, 1.0, 2.0], restart=1.0)
        pins = recommend(mesh, [1, 999, 8], want=PINS)
        again = recommend(mesh, [1, 999, 8], want=PINS)
        plain = recommend(mesh, [1], restart=1.0, plain=True)
        unknown = recommend(mesh, [77, 78])
    assert boards.ids.tolist()[0] == 102, "reached from both"
    assert set(boards.ids.tolist()) == {101, 102, 103}
    assert boards.known.tolist() == [True, False, True]
    assert boards.seeds[boards.ids.tolist().index(101)] == 0
    assert boards.seeds[boards.ids.tolist().index(103)] == 2
    assert boards.steps.tolist()[1] == 0
    assert boards.steps.sum() == 5_000
    assert boards.scores.tolist() == sorted(boards.scores.tolist(), reverse=True)
    assert set(pins.ids.tolist()) == {2, 3, 4, 5, 6, 7}, "query pins are never among them"
    assert pins.ids.tolist() == again.ids.tolist()
    assert pins.scores.tolist() == again.scores.tolist()
    assert plain.scores.sum() == 5_000
    assert (len(unknown.ids), unknown.known.tolist(), unknown.version) == (0, [False, False], loaded.version)


def test_boards_and_pins_of_one_walk_are_those_of_two(graphs: Path) -> None:
    with pixie(graphs, stop_nodes=3, stop_visits=40) as mesh:
        asked(PixieClient, mesh, lambda client: client.load(version_of(graphs), 60))
        boards = recommend(mesh, [1, 999, 8], k=2, discount=0.5)
        pins = recommend(mesh, [1, 999, 8], want=PINS, k=4, discount=0.2)
        both = asked(PixieClient, mesh, lambda client: client.recommend_both(
            ids([1, 999, 8]), np.ones(3, np.float32), boards_k=2, boards_discount=0.5, pins_k=4, pins_discount=0.2,
            steps=5_000, seed=7, timeout=20))  # fmt: skip
    for one, same in zip(both, (boards, pins), strict=True):
        assert (len(one.ids), one.version) == (len(same.ids), same.version)
        columns: list[tuple[Any, Any]] = list(zip(one[:5], same[:5], strict=True))
        assert all(np.array_equal(column, expected) for column, expected in columns)
    assert both[0].steps.tolist() != both[1].steps.tolist(), "each stopped early by itself"


def request(**columns: Any) -> pb.RecommendRequest:
    given: dict[str, Any] = {
        "pins": pack(ids([1]), "<u8"), "weights": pack(np.ones(1), "<f4"), "want": BOARDS, "k": 5, "steps": 100
    }  # fmt: skip
    return pb.RecommendRequest(**(given | columns))


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"k": 0}, "k = 0: allowed are 1 to 10000"),
        ({"k": 10_001}, "k = 10001: allowed are 1 to 10000"),
        ({"steps": 0}, r"steps = 0: allowed are 1 to 10000000 \(\[pixie\] max_steps\)"),
        ({"steps": 10**12}, "steps = 1000000000000: allowed are 1 to 10000000"),
        ({"pins": b"", "weights": b""}, "pins: 0 query pins; allowed are 1 to 1000"),
        ({"pins": b"1234567"}, "pins: 7 bytes are not a whole number of 8-byte items"),
        ({"weights": b""}, "weights: 0 values, expected 1"),
        ({"weights": pack(np.array([0.0]), "<f4")}, r"weights\[0\] = 0.0: allowed are finite weights above 0"),
        ({"weights": pack(np.array([-1.0]), "<f4")}, r"weights\[0\] = -1.0"),
        ({"weights": pack(np.array([np.nan]), "<f4")}, r"weights\[0\] = nan"),
        ({"weights": pack(np.array([np.inf]), "<f4")}, r"weights\[0\] = inf"),
        ({"want": 0}, "want = 0: allowed are 1 boards, 2 pins, 3 both"),
        ({"want": 9}, "want = 9: allowed are 1 boards, 2 pins, 3 both"),
        ({"want": BOTH}, "pins_k = 0: allowed are 1 to 10000"),
        ({"want": BOTH, "pins_k": 10_001}, "pins_k = 10001: allowed are 1 to 10000"),
        ({"pins_k": 3}, "pins_k = 3: allowed are 0 to 0"),
        ({"want": BOTH, "pins_k": 3, "pins_discount": 5}, "pins_discount = 5: allowed are 0 to 4"),
        ({"pins_discount": 0.5}, "pins_discount = 0.5: allowed are 0 to 0"),
        ({"restart": 1.5}, "restart = 1.5: allowed are 0 to 1"),
        ({"restart": float("nan")}, "restart = nan: allowed are 0 to 1"),
        ({"bias": -0.5}, "bias = -0.5: allowed are 0 to 1"),
        ({"discount": 5.0}, "discount = 5: allowed are 0 to 4"),
        ({"discount": float("inf")}, "discount = inf: allowed are 0 to 4"),
        ({"stop_nodes": 5}, "stop_nodes = 5, stop_visits = 0: allowed are both above 0, or both 0"),
    ],
)
def test_nonsense_is_refused_by_name(graphs: Path, columns: dict[str, Any], says: str) -> None:
    service = Pixie(PixieStore(graphs, wall_clock), Walking())
    with pytest.raises(InvalidArgument, match=says):
        service.Recommend(request(**columns), None)


def test_a_million_query_pins_are_refused_over_the_wire(graphs: Path) -> None:
    with pixie(graphs) as mesh, pytest.raises(InvalidArgument, match="pins: 1000000 query pins; allowed are 1 to 1000"):
        recommend(mesh, list(range(1, 1_000_001)))


def test_the_settings_limit_steps_and_stop_early(graphs: Path) -> None:
    with pixie(graphs, max_steps=1_000, stop_nodes=2, stop_visits=3) as mesh:
        asked(PixieClient, mesh, lambda client: client.load(version_of(graphs), 60))
        with pytest.raises(InvalidArgument, match="steps = 1001: allowed are 1 to 1000"):
            recommend(mesh, [1], steps=1_001)
        assert recommend(mesh, [1], steps=1_000).steps[0] < 20
        assert recommend(mesh, [1], steps=1_000, stop_nodes=10**6, stop_visits=10**6).steps[0] == 1_000


def test_push_and_rollback_and_a_bad_one_changes_nothing(graphs: Path) -> None:
    first = version_of(graphs)
    second = build(graphs, edges_of({(1, 500)}), built_ms=BUILT_MS + 5_000)
    third = build(graphs, edges_of({(1, 600)}), built_ms=BUILT_MS + 9_000)
    (graphs / third / "pins.interest").write_bytes(bytes(7) + b"\1")
    with pixie(graphs) as mesh:
        with pytest.raises(NotFound, match="no snapshot was pushed before any"):
            pushing.rollback(mesh, graphs)
        assert pushing.push(mesh, graphs, first).version == first
        with pytest.raises(NotFound, match=f"no snapshot was pushed before {first}"):
            pushing.rollback(mesh, graphs)
        assert pushing.push(mesh, graphs, second).version == second
        assert recommend(mesh, [1]).ids.tolist() == [500]
        with pytest.raises(InvalidArgument, match="pins.interest: corrupt: its checksum"):
            pushing.push(mesh, graphs, third)
        assert recommend(mesh, [1]).version == second
        assert current(graphs) == [second, first]
        assert [(one.version, one.pushed, one.served) for one in pushing.listed(graphs, mesh)] == [
            (third, False, False), (second, True, True), (first, False, False)
        ]  # fmt: skip
        assert pushing.rollback(mesh, graphs).version == first
        assert recommend(mesh, [1]).version == first
        assert current(graphs) == [first]
    assert [one.served for one in pushing.listed(graphs, None)] == [False] * 3


def test_a_snapshot_is_swapped_without_a_dropped_request(graphs: Path) -> None:
    """Requests under way and new ones are all answered, each from one snapshot or the other and never from both."""
    first = version_of(graphs)
    second = build(graphs, edges_of({(pin, 900 + pin) for pin in range(1, 9)}), built_ms=BUILT_MS + 5_000)
    boards = {first: {101, 102}, second: {901}}
    answers: list[Recommended] = []
    with pixie(graphs) as mesh:
        asked(PixieClient, mesh, lambda client: client.load(first, 60))
        done = threading.Event()

        def ask() -> None:
            async def keep_asking(client: PixieClient) -> None:
                while not done.is_set():
                    answers.append(
                        await client.recommend(ids([1]), np.ones(1, np.float32), want=BOARDS, k=10, steps=20_000,
                                               restart=1.0, stop_nodes=10**9, stop_visits=10**9, timeout=20)
                    )  # fmt: skip

            asked(PixieClient, mesh, keep_asking)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for version in (second, first) * 8:
            asked(PixieClient, mesh, lambda client, to=version: client.load(to, 60))  # type: ignore[misc]
        done.set()
        for thread in threads:
            thread.join()
    assert {answer.version for answer in answers} == {first, second}
    assert all(set(answer.ids.tolist()) == boards[answer.version] for answer in answers)


def test_it_answers_in_process_for_replays(graphs: Path) -> None:
    store = PixieStore(graphs, wall_clock)
    store.load(version_of(graphs))
    service = Pixie(store, Walking())
    mesh = LocalMesh(settings={"mesh": {**_plain(MeshSettings())}}, processes=[], servicers={"pixie": service})
    assert set(recommend(mesh, [8], restart=1.0).ids.tolist()) == {102, 103}


def _plain(settings: MeshSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__struct_fields__}
