"""Real calls to real servers in this process, on one shard and on two."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from protos.rockstore_pb2_grpc import add_RockstoreServicer_to_server
from rockstore import layout
from rockstore.client import BOARD, INTEREST, NO_POSITION, PIN, USER, RockstoreClient
from rockstore.service import Rockstore
from rockstore.settings import Settings
from rockstore.store import TOPICS, RockstoreStore
from services.core.columns import ids
from services.core.errors import InvalidArgument, Unavailable
from services.core.events import Action, Batch, events
from services.log.memory import MemoryLog
from services.rpc.mesh import Address, Mesh
from services.rpc.server import AddServicer
from tests.kit import ONE_EPOCH, asked, in_one_epoch, open_shards, serve_shards

PARTITIONS = 8
PINS = np.arange(1, 41, dtype=np.uint64)
T = TypeVar("T")


def servicer(store: RockstoreStore) -> AddServicer:
    return lambda server: add_RockstoreServicer_to_server(Rockstore(store), server)


@contextmanager
def rockstore(folder: Path, shards: int, *batches: Batch) -> Iterator[Mesh]:
    """A rockstore of several shards that has applied some batches."""
    offsets = MemoryLog(PARTITIONS)
    records = [record for batch in batches for record in offsets.append(batch, TOPICS)]
    with open_shards(folder, layout.FORMAT, layout.FAMILIES, shards, PARTITIONS) as opened:
        servicers = []
        for shard, own in opened:
            in_one_epoch(shard)
            store = RockstoreStore(shard, own, PARTITIONS)
            store.apply([record for record in records if record.partition in own])
            servicers.append([servicer(store)])
        with serve_shards("rockstore", servicers, PARTITIONS) as made:
            yield made


@pytest.fixture(params=[1, 2], ids=["one shard", "two shards"])
def mesh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mesh]:
    pins = events(
        len(PINS),
        action=Action.CREATE_PIN,
        pin=PINS,
        user=PINS + np.uint64(100),
        at_ms=1_700_000_000_000 + PINS.astype(np.int64),
        title=[f"pin {pin}" for pin in PINS],
        link=[f"https://example.org/{pin}" if pin % 2 else "" for pin in PINS],
        quality=np.where(PINS % 3 == 0, np.nan, 0.5),
        interests=[[pin, 7] if pin % 2 else [] for pin in PINS.tolist()],
    )
    down = events(1, action=Action.TAKEDOWN, pin=4)
    board = events(1, action=Action.CREATE_BOARD, board=2**64 - 1, user=9, title=["pots"])
    naming = [Action.NAME_USER, Action.NAME_INTEREST]
    named = events(2, action=naming, user=[3, 0], target=[0, 7], title=["Ada", "clay"])
    with rockstore(tmp_path, request.param, pins, down, board, named) as made:
        yield made


def ask(mesh: Mesh, question: Callable[[RockstoreClient], Awaitable[T]]) -> T:
    return asked(RockstoreClient, mesh, question)


def test_attributes_come_in_the_order_asked_across_shards(mesh: Mesh) -> None:
    wanted = np.random.default_rng(3).permutation(np.append(PINS, [77, 1, 4])).astype(np.uint64)
    known = ask(mesh, lambda client: client.attributes(PIN, wanted, 5))
    there = wanted <= 40
    np.testing.assert_array_equal(known.found, there)
    assert known.found.dtype == known.taken_down.dtype == bool
    assert known.titles == [f"pin {pin}" if pin <= 40 else "" for pin in wanted]
    assert known.links == [f"https://example.org/{pin}" if pin <= 40 and pin % 2 else "" for pin in wanted]
    np.testing.assert_array_equal(known.owners, np.where(there, wanted + np.uint64(100), 0))
    np.testing.assert_array_equal(known.quality, np.where(there & (wanted % 3 > 0), np.float32(0.5), np.nan))
    np.testing.assert_array_equal(known.at_ms, np.where(there, 1_700_000_000_000 + wanted.astype(np.int64), 0))
    np.testing.assert_array_equal(known.taken_down, wanted == 4)
    lists = [known.interests.run(i).tolist() for i in range(len(wanted))]
    assert lists == [list(dict.fromkeys([pin, 7])) if pin <= 40 and pin % 2 else [] for pin in wanted.tolist()]


def test_bare_attributes_are_the_same_without_texts(mesh: Mesh) -> None:
    wanted = np.append(PINS, [77]).astype(np.uint64)
    bare = ask(mesh, lambda client: client.attributes(PIN, wanted, 5, bare=True))
    whole = ask(mesh, lambda client: client.attributes(PIN, wanted, 5))
    assert (bare.titles, bare.links) == ([], [])
    for name in ("found", "owners", "quality", "at_ms", "taken_down"):
        np.testing.assert_array_equal(getattr(bare, name), getattr(whole, name))
    np.testing.assert_array_equal(bare.interests.ends, whole.interests.ends)
    np.testing.assert_array_equal(bare.interests.values, whole.interests.values)


def test_names_of_owners_and_interests_come_along_from_the_shards_asked(mesh: Mesh) -> None:
    known = ask(mesh, lambda client: client.attributes(PIN, PINS, 5, named=True))
    assert not ask(mesh, lambda client: client.attributes(PIN, PINS, 5)).names
    related = {(USER, int(pin) + 100) for pin in PINS} | {(INTEREST, int(pin)) for pin in PINS if pin % 2}
    assert known.names.keys() <= related | {(INTEREST, 7)}
    if len(mesh.of("rockstore")) == 1:
        assert known.names.keys() == related | {(INTEREST, 7)}
    assert {name for key, name in known.names.items() if key != (INTEREST, 7)} <= {""}
    assert known.names.get((INTEREST, 7), "clay") == "clay"


def test_an_answer_says_how_far_the_log_had_been_applied(mesh: Mesh) -> None:
    known = ask(mesh, lambda client: client.attributes(PIN, PINS, 5, reached=True))
    offsets = MemoryLog(PARTITIONS)
    applied = {
        (int(record.topic), record.partition)
        for record in offsets.append(events(len(PINS), action=Action.CREATE_PIN, pin=PINS), TOPICS)
    }
    assert {partition for _, partition in applied} <= known.position.next.keys()
    assert set(known.position.next.values()) <= {1, 2, 3, 4}
    assert known.position.epoch == ONE_EPOCH.epoch
    assert ask(mesh, lambda client: client.rows("taste", PINS, 5, reached=True)).position == known.position
    assert ask(mesh, lambda client: client.attributes(PIN, PINS, 5)).position == NO_POSITION
    assert ask(mesh, lambda client: client.rows("taste", PINS, 5)).position == NO_POSITION


def test_other_kinds_are_other_objects(mesh: Mesh) -> None:
    board = ask(mesh, lambda client: client.attributes(BOARD, ids([2**64 - 1, 1]), 5))
    assert (board.titles, board.owners.tolist(), board.found.tolist()) == (["pots", ""], [9, 0], [True, False])
    assert ask(mesh, lambda client: client.attributes(USER, ids([3]), 5)).titles == ["Ada"]
    assert ask(mesh, lambda client: client.attributes(INTEREST, ids([7, 3]), 5)).titles == ["clay", ""]


def test_no_ids_no_attributes(mesh: Mesh) -> None:
    known = ask(mesh, lambda client: client.attributes(PIN, ids([]), 5))
    assert (len(known.found), known.titles, len(known.interests)) == (0, [], 0)


def test_a_list_is_merged_over_shards_and_resumes(mesh: Mesh) -> None:
    async def pages(client: RockstoreClient) -> list[int]:
        found: list[int] = []
        while len(page := await client.list(PIN, found[-1] if found else 0, 7, 5)):
            assert len(page) <= 7
            found += page.tolist()
        return found

    assert ask(mesh, pages) == [pin for pin in PINS.tolist() if pin != 4]
    assert ask(mesh, lambda client: client.list(BOARD, 2**64 - 2, 10_000, 5)).tolist() == [2**64 - 1]
    assert ask(mesh, lambda client: client.list(BOARD, 2**64 - 1, 1, 5)).tolist() == []


@pytest.mark.parametrize("kind", [0, 5, 99])
def test_a_kind_that_is_none_is_refused_by_name(mesh: Mesh, kind: int) -> None:
    allowed = "allowed are 1 pin, 2 board, 3 user, 4 interest"
    with pytest.raises(InvalidArgument, match=f"kind = {kind}: {allowed}"):
        ask(mesh, lambda client: client.attributes(kind, ids([1]), 5))
    with pytest.raises(InvalidArgument, match=f"kind = {kind}: {allowed}"):
        ask(mesh, lambda client: client.list(kind, 0, 5, 5))


@pytest.mark.parametrize("limit", [0, 10_001])
def test_a_limit_out_of_bounds_is_refused_by_name(mesh: Mesh, limit: int) -> None:
    with pytest.raises(InvalidArgument, match=f"limit = {limit}: allowed are 1 to 10000"):
        ask(mesh, lambda client: client.list(PIN, 0, limit, 5))


def test_too_many_ids_are_refused_and_the_most_are_answered(mesh: Mesh) -> None:
    many = np.full(20_001, 5, np.uint64)  # one key, so one shard
    with pytest.raises(InvalidArgument, match="ids: 20001 ids; at most 20000 a call"):
        ask(mesh, lambda client: client.attributes(PIN, many, 10))
    assert ask(mesh, lambda client: client.attributes(PIN, many[1:], 10)).found.all()


def test_a_shard_that_is_away_is_named() -> None:
    gone = Mesh(
        settings={"mesh": {}}, processes=[Address(service="rockstore", shard=0, shards=1, address="127.0.0.1:1")]
    )
    with pytest.raises(Unavailable, match="rockstore"):
        ask(gone, lambda client: client.attributes(PIN, ids([1]), 2))


def test_the_entry_point_has_settings() -> None:
    assert Settings().shards == 1
