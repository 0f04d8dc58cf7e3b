"""Apiary asked over real RPCs: one shard and several give the same answers, and nonsense is refused by name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from apiary import layout
from apiary.client import BOARD, USER, ApiaryClient
from apiary.service import Apiary, Weights
from apiary.store import TOPICS, ApiaryStore
from protos.apiary_pb2_grpc import add_ApiaryServicer_to_server
from services.core.columns import ids
from services.core.errors import InvalidArgument
from services.core.events import Action, Batch, events
from services.log.memory import MemoryLog
from services.rpc.mesh import Mesh
from services.rpc.server import AddServicer
from tests.kit import asked, open_shards, serve_shards

PARTITIONS = 6
T = TypeVar("T")


def servicer(store: ApiaryStore) -> AddServicer:
    service = Apiary(store, Weights(direct=1.0, through=0.5, boards_per_user=3))
    return lambda server: add_ApiaryServicer_to_server(service, server)


@contextmanager
def apiary(folder: Path, shards: int, batch: Batch) -> Iterator[Mesh]:
    """An apiary of several shards that has applied a batch."""
    records = MemoryLog(PARTITIONS).append(batch, TOPICS)
    with open_shards(folder, layout.FORMAT, layout.FAMILIES, shards, PARTITIONS) as opened:
        servicers = []
        for shard, own in opened:
            store = ApiaryStore(shard, own, PARTITIONS)
            store.apply([record for record in records if record.partition in own])
            servicers.append([servicer(store)])
        with serve_shards("apiary", servicers, PARTITIONS) as made:
            yield made


def a_world() -> Batch:
    """User 1 follows users 2 to 9, each with boards of their own, and some boards directly."""
    rows = [(Action.FOLLOW_USER, 1, 0, u) for u in range(2, 10)]
    rows += [(Action.CREATE_BOARD, u, 100 * u + b, 0) for u in range(2, 10) for b in range(5)]
    rows += [(Action.FOLLOW_BOARD, 1, b, 0) for b in (777, 204, 999)]
    rows += [(Action.FOLLOW_USER, u, 0, 2) for u in range(3, 30)]
    action, user, board, target = zip(*rows, strict=True)
    n = len(rows)
    return events(n, action=action, user=user, board=board, target=target, at_ms=range(n), id=range(1, n + 1))


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_the_second_hop_crosses_shards(tmp_path: Path, shards: int) -> None:
    with apiary(tmp_path, shards, a_world()) as mesh:
        found = asked(ApiaryClient, mesh, lambda client: client.followed_boards(1, 100, 5))
        best = asked(ApiaryClient, mesh, lambda client: client.followed_boards(1, 5, 5))
        counts = asked(ApiaryClient, mesh, lambda client: client.follower_counts(USER, ids([2, 3, 400]), 5))
    direct = found.owners == 0
    assert set(found.boards[direct].tolist()) == {777, 204, 999}
    assert set(found.weights[direct].tolist()) == {1.0}
    assert set(found.weights[~direct].tolist()) == {0.5}
    newest_three = {100 * u + b for u in range(2, 10) for b in (2, 3, 4)}
    assert set(found.boards[~direct].tolist()) == newest_three - {204}, "a board that is followed directly counts once"
    assert np.all(found.boards[~direct] // 100 == found.owners[~direct])
    assert found.boards[:3].tolist() == [999, 204, 777], "best weight first, then newest"
    assert best.boards.tolist() == found.boards[:5].tolist()
    assert counts.tolist() == [28, 1, 0]


def test_unknown_user_has_an_empty_answer(tmp_path: Path) -> None:
    with apiary(tmp_path, 2, a_world()) as mesh:
        assert len(asked(ApiaryClient, mesh, lambda client: client.followed_boards(12345, 10, 5)).boards) == 0
        assert len(asked(ApiaryClient, mesh, lambda client: client.followed(12345, 10, 5)).users) == 0


def test_nonsense_is_refused_by_name(tmp_path: Path) -> None:
    with apiary(tmp_path, 1, a_world()) as mesh:
        with pytest.raises(InvalidArgument, match="limit = 0: allowed are 1 to 100000"):
            asked(ApiaryClient, mesh, lambda client: client.followed(1, 0, 5))
        with pytest.raises(InvalidArgument, match="limit = 1000000000"):
            asked(ApiaryClient, mesh, lambda client: client.followed_boards(1, 10**9, 5))
        with pytest.raises(InvalidArgument, match="targets: 100001 ids; at most 100000"):
            asked(ApiaryClient, mesh, lambda client: client.follower_counts(BOARD, np.ones(100_001, np.uint64), 5))
        with pytest.raises(InvalidArgument, match="kind = 9: allowed are 1 user, 2 board, 3 interest"):
            asked(ApiaryClient, mesh, lambda client: client.follower_counts(9, ids([1]), 5))
