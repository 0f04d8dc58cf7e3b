"""Counters asked over real RPCs: one shard and several give the same answers, and nonsense is refused by name."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from counters import layout
from counters.client import CountersClient
from counters.service import Counters
from counters.store import CountersStore
from protos.counters_pb2_grpc import add_CountersServicer_to_server
from services.core.columns import ids
from services.core.errors import InvalidArgument
from services.core.events import Action, Kind
from services.rpc.local import LocalMesh
from services.rpc.mesh import Mesh
from services.rpc.server import AddServicer
from tests.counters.reference import DAY_MS, HOUR_MS, Increment, Increments, Slow
from tests.kit import asked, open_shards, serve_shards

PARTITIONS = 6
NOW = 1_750_000_000_000
A = Action
PIN, BOARD, USER, INTEREST = Kind


def world() -> list[Increment]:
    chance = np.random.default_rng(11)
    kinds, objects = chance.choice(list(Kind), 600).tolist(), chance.integers(1, 40, 600).tolist()
    actions = chance.choice([A.IMPRESSION, A.CLICK, A.SAVE], 600).tolist()
    when = (NOW - chance.integers(0, 300, 600) * HOUR_MS).tolist()
    return list(zip(kinds, objects, actions, when, chance.integers(1, 5, 600).tolist(), strict=True))


def servicer(store: CountersStore) -> AddServicer:
    return lambda server: add_CountersServicer_to_server(Counters(store), server)


@contextmanager
def counters(folder: Path, shards: int) -> Iterator[Mesh]:
    records = Increments(PARTITIONS).records(world())
    with ExitStack() as stack:
        servicers = []
        opened = open_shards(folder, layout.FORMAT, layout.FAMILIES, shards, PARTITIONS)
        for shard, own in stack.enter_context(opened):
            store = CountersStore(shard, own, PARTITIONS, lambda: NOW)
            store.apply([record for record in records if record.partition in own])
            servicers.append([servicer(store)])
        yield stack.enter_context(serve_shards("counters", servicers, PARTITIONS))


@pytest.mark.parametrize("shards", [1, 2])
def test_counts_of_any_shards(tmp_path: Path, shards: int) -> None:
    slow, objects = Slow(world()), list(range(60))
    actions, windows = [A.SAVE, A.HIDE, A.IMPRESSION], [0, DAY_MS, 7 * DAY_MS, 30 * DAY_MS]
    earlier = NOW - 50 * HOUR_MS
    with counters(tmp_path, shards) as mesh:
        for now in (0, earlier):
            kinds = np.array([1 + i % 4 for i in objects], np.uint8)
            asking = {"now_ms": now, "timeout": 5.0}
            question = methodcaller("counts", kinds, ids(objects), actions, windows, **asking)
            found = asked(CountersClient, mesh, question)
            expected = [
                [[slow.count(1 + i % 4, i, a, w, now or NOW, NOW) for w in windows] for a in actions] for i in objects
            ]
            assert found.dtype == np.float16
            assert found.tolist() == expected
            assert found.any()


@pytest.mark.parametrize("shards", [1, 2])
def test_the_top_of_any_shards(tmp_path: Path, shards: int) -> None:
    slow = Slow(world())
    with counters(tmp_path, shards) as mesh:
        for kind, window, now in [(PIN, 0, 0), (INTEREST, 7 * DAY_MS, 0), (BOARD, DAY_MS, NOW - 50 * HOUR_MS)]:
            question = methodcaller("top", kind, A.SAVE, window, 7, now_ms=now, timeout=5.0)
            top = asked(CountersClient, mesh, question)
            found = list(zip(top.objects.tolist(), top.counts.tolist(), strict=True))
            assert found == slow.top(kind, A.SAVE, window, 7, now or NOW, NOW)
            assert found


def test_clients_of_a_mesh_in_one_process_get_the_same(tmp_path: Path) -> None:
    with (
        counters(tmp_path / "served", 2) as mesh,
        open_shards(tmp_path / "local", layout.FORMAT, layout.FAMILIES, 1, PARTITIONS) as ((shard, own),),
    ):
        store = CountersStore(shard, own, PARTITIONS, lambda: NOW)
        store.apply(Increments(PARTITIONS).records(world()))
        local = LocalMesh(settings=mesh.settings, processes=[], servicers={"counters": Counters(store)})
        found = [
            asked(CountersClient, of, lambda client: client.counts(2, ids([1, 2, 3]), [A.SAVE], [0], timeout=5))
            for of in (mesh, local)
        ]
        assert found[0].tolist() == found[1].tolist()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kinds": [1, 5]}, r"kinds\[1\] = 5: allowed are 1 pin, 2 board, 3 user, 4 interest"),
        (
            {"actions": [20, 30]},
            r"actions\[1\] = 30: allowed are 20 impression, 21 closeup, 22 click, 23 save, 24 hide",
        ),
        ({"actions": []}, "actions: 0 given; allowed are 1 to 64 a call"),
        (
            {"windows_ms": [0, 90_000]},
            r"windows\[1\] = 90000: allowed are whole hours up to 7 days, whole days up to 90",
        ),
        ({"windows_ms": [-HOUR_MS]}, r"windows\[0\] = -3600000: allowed are"),
        ({"windows_ms": [91 * DAY_MS]}, r"windows\[0\] = 7862400000: allowed are"),
        ({"windows_ms": [0] * 65}, "windows: 65 given; allowed are 1 to 64"),
        ({"now_ms": -1}, "now_ms = -1: Unix milliseconds, or 0 for the server's clock"),
        ({"kinds": 1, "objects": ids(range(50_001))}, "objects: 50001 given; allowed are 0 to 50000"),
        (
            {"kinds": 1, "objects": ids(range(50_000)), "windows_ms": [0] * 41},
            "objects, actions, windows: 2050000 counts; at most 2000000",
        ),
    ],
)
def test_nonsense_is_refused_by_name(counted: Mesh, changed: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "kinds": [1, 2],
        "objects": ids([1, 2]),
        "actions": [20],
        "windows_ms": [0],
        "timeout": 5,
    } | changed
    with pytest.raises(InvalidArgument, match=message):
        asked(CountersClient, counted, lambda client: client.counts(**arguments))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": 3}, "kind = 3: allowed are 1 pin, 2 board, 4 interest"),
        ({"action": 25}, "action = 25: allowed are 20 impression"),
        ({"window_ms": 5}, "window = 5: allowed are whole hours"),
        ({"k": 0}, "k = 0: allowed are 1 to 1000"),
        ({"k": 1_001}, "k = 1001: allowed are 1 to 1000"),
        ({"now_ms": -5}, "now_ms = -5"),
    ],
)
def test_a_nonsense_top_is_refused_by_name(counted: Mesh, changed: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"kind": 1, "action": 23, "window_ms": 0, "k": 5, "timeout": 5} | changed
    with pytest.raises(InvalidArgument, match=message):
        asked(CountersClient, counted, lambda client: client.top(**arguments))


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with counters(tmp_path_factory.mktemp("counters"), 1) as mesh:
        yield mesh
