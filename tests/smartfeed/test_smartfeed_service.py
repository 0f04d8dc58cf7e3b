"""Real calls to real servers in this process, on one shard and on two."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from protos.smartfeed_pb2_grpc import add_SmartfeedServicer_to_server
from services.core.errors import InvalidArgument, Unavailable
from services.core.events import Action, Batch, Surface, events
from services.log.memory import MemoryLog
from services.rpc.mesh import Address, Mesh
from services.rpc.server import AddServicer
from smartfeed import layout
from smartfeed.client import SmartfeedClient
from smartfeed.service import Smartfeed
from smartfeed.settings import Settings
from smartfeed.store import TOPICS, SmartfeedStore
from tests.kit import asked, open_shards, serve_shards

PARTITIONS = 8
T0 = 1_700_000_000_000
T = TypeVar("T")


def servicer(store: SmartfeedStore) -> AddServicer:
    return lambda server: add_SmartfeedServicer_to_server(Smartfeed(store), server)


@contextmanager
def smartfeed(folder: Path, shards: int, *batches: Batch) -> Iterator[Mesh]:
    """A smartfeed of several shards that has applied some batches."""
    offsets = MemoryLog(PARTITIONS)
    records = [record for batch in batches for record in offsets.append(batch, TOPICS)]
    with open_shards(folder, layout.FORMAT, layout.FAMILIES, shards, PARTITIONS) as opened:
        servicers = []
        for shard, own in opened:
            store = SmartfeedStore(shard, own, PARTITIONS, Settings().max_pins)
            store.apply([record for record in records if record.partition in own])
            servicers.append([servicer(store)])
        with serve_shards("smartfeed", servicers, PARTITIONS) as made:
            yield made


@pytest.fixture(params=[1, 2], ids=["one shard", "two shards"])
def mesh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mesh]:
    users = np.arange(1, 31, dtype=np.uint64).repeat(4)
    rank = np.tile(np.arange(4, dtype=np.uint64), 30)
    served = events(
        120,
        action=Action.SERVED,
        user=users,
        surface=Surface.HOME,
        pin=users * np.uint64(100) + rank,
        board=rank + np.uint64(1),
        position=rank,
        at_ms=T0 + rank.astype(np.int64),
    )
    hides = events(30, action=Action.HIDE, user=users[::4], pin=users[::4] * np.uint64(100) + np.uint64(2))
    down = events(1, action=Action.TAKEDOWN, pin=1701)
    with smartfeed(tmp_path, request.param, served, hides, down) as made:
        yield made


def ask(mesh: Mesh, question: Callable[[SmartfeedClient], Awaitable[T]]) -> T:
    return asked(SmartfeedClient, mesh, question)


def test_each_user_has_the_list_last_served_wherever_it_is(mesh: Mesh) -> None:
    async def all_users(client: SmartfeedClient) -> None:
        for user in range(1, 31):
            last = await client.last_served(user, Surface.HOME, 5)
            kept = [0, 3] if user == 17 else [0, 1, 3]
            assert last.pins.tolist() == [user * 100 + rank for rank in kept]
            assert last.boards.tolist() == [rank + 1 for rank in kept]
            assert last.at_ms == T0

    ask(mesh, all_users)


@pytest.mark.parametrize(("user", "feed"), [(31, Surface.HOME), (1, Surface.PICKED), (0, Surface.FOLLOWING)])
def test_a_user_who_was_served_nothing_has_an_empty_list(mesh: Mesh, user: int, feed: int) -> None:
    last = ask(mesh, lambda client: client.last_served(user, feed, 5))
    assert (last.pins.tolist(), last.boards.tolist(), last.at_ms) == ([], [], 0)
    assert last.pins.dtype == np.uint64


@pytest.mark.parametrize("feed", [0, Surface.SEARCH, 99, 2**32 - 1])
def test_a_feed_that_is_none_is_refused_by_name(mesh: Mesh, feed: int) -> None:
    with pytest.raises(InvalidArgument, match=f"feed = {int(feed)}: allowed are 1 following, 2 interest, 3 picked"):
        ask(mesh, lambda client: client.last_served(1, feed, 5))


def test_a_shard_that_is_away_is_named() -> None:
    gone = Mesh(
        settings={"mesh": {}}, processes=[Address(service="smartfeed", shard=0, shards=1, address="127.0.0.1:1")]
    )
    with pytest.raises(Unavailable, match="smartfeed"):
        ask(gone, lambda client: client.last_served(1, Surface.HOME, 2))
