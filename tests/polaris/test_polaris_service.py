"""Real calls: a client and the shards' servers in one process."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import grpc
import numpy as np
import pytest

from polaris import client as client_module
from polaris import layout, service
from polaris.client import BOARD, INTEREST, PolarisClient, Retrieved
from polaris.kernel import Light
from polaris.service import Polaris
from polaris.store import Limits, PolarisStore
from protos import polaris_pb2 as pb
from protos.polaris_pb2_grpc import PolarisStub, add_PolarisServicer_to_server
from services.core.clock import DAY_MS
from services.core.columns import pack
from services.core.errors import InvalidArgument
from services.core.events import Action, Batch, events
from services.core.topics import Topic
from services.kernels import bloom
from services.rpc.mesh import Mesh
from services.rpc.server import AddServicer
from services.state.shard import Shard
from tests.kit import records_of, serve_shards

T = TypeVar("T")
NOW = 1_700_000_000_000
PARTITIONS = 6
BOARDS = 40


def world(shared: bool) -> Batch:
    """Saves and joins on boards and interests of the same ids; `shared`: of pins that are on several of them."""
    rng = np.random.default_rng(11)
    n = 3_000
    action = rng.choice([Action.SAVE, Action.JOIN_INTEREST], n)
    source = rng.integers(1, BOARDS + 1, n)
    pin = rng.integers(1, 400, n) if shared else np.arange(1, n + 1)
    quality = np.where(rng.random(n) < 0.2, np.nan, rng.integers(0, 5, n) / 4)
    at_ms = NOW - rng.integers(0, 100, n) * DAY_MS
    saves = events(n, user=1, id=1, action=action, pin=pin, board=source, target=source, quality=quality, at_ms=at_ms)
    down = events(5, id=1, action=Action.TAKEDOWN, pin=[3, 5, 7, 11, 13], at_ms=NOW)
    return Batch.concat([saves, down])


@contextmanager
def served(folder: Path, batch: Batch, shards: int = 1) -> Iterator[Mesh]:
    """A mesh whose polaris has so many shards, each of which holds what it owns of the batch."""
    records, adders = records_of(batch, PARTITIONS, Topic.SOURCES), list[list[AddServicer]]()
    with ExitStack() as stack:
        for i in range(shards):
            shard = Shard(folder / f"{i}of{shards}", layout.FORMAT, layout.FAMILIES)
            stack.callback(shard.close)
            store = PolarisStore(shard, PARTITIONS, Light(), Limits(38, 1_000))
            own = range(PARTITIONS * i // shards, PARTITIONS * (i + 1) // shards)
            store.apply([record for record in records if record.partition in own])
            adders.append([partial(add_PolarisServicer_to_server, Polaris(store))])
        yield stack.enter_context(serve_shards("polaris", adders, PARTITIONS))


def ask(mesh: Mesh, question: Callable[[PolarisClient], Awaitable[T]]) -> T:
    async def main() -> T:
        client = PolarisClient(mesh)
        try:
            return await question(client)
        finally:
            await client.close()

    return asyncio.run(main())


KINDS = np.repeat(np.array([BOARD, INTEREST], np.uint8), BOARDS)
SOURCES = np.tile(np.arange(1, BOARDS + 1, dtype=np.uint64), 2)
ORDER = np.random.default_rng(5).permutation(len(SOURCES))
KINDS, SOURCES = KINDS[ORDER], SOURCES[ORDER]
WEIGHTS = (1 + np.arange(len(SOURCES)) % 3).astype(np.float32)
SEEN = bloom.to_bytes(bloom.build(np.arange(20, 120, dtype=np.uint64)))


def retrieve(mesh: Mesh, **how: Any) -> Retrieved:
    asked: dict[str, Any] = {
        "seen": SEEN,
        "k": 200,
        "per_source": 0,
        "now_ms": NOW,
        "max_age_ms": 60 * DAY_MS,
        "timeout": 10,
    } | how
    return ask(mesh, lambda client: client.retrieve(KINDS, SOURCES, WEIGHTS, **asked))


def same(a: Any, b: Any) -> bool:
    """Equal columns and numbers, with NaN equal to NaN."""
    return all(np.array_equal(x, y, equal_nan=np.asarray(x).dtype.kind == "f") for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("shards", [2, 3])
@pytest.mark.parametrize(
    ("shared", "how"),
    [
        (True, {}),
        (True, {"k": 7}),
        (True, {"k": 10_000, "max_age_ms": 0, "seen": b""}),
        (False, {"per_source": 2}),
        (False, {"per_source": 1, "k": 30}),
    ],
)
def test_several_shards_answer_what_one_would(tmp_path: Path, shards: int, shared: bool, how: dict[str, Any]) -> None:
    batch = world(shared)
    with served(tmp_path, batch) as one, served(tmp_path, batch, shards) as several:
        expected, found = retrieve(one, **how), retrieve(several, **how)
        assert same(found, expected)
        assert len(expected.pins) == len(set(expected.pins.tolist())) > 0


@pytest.mark.parametrize("shards", [1, 3])
def test_an_explained_answer_accounts_for_every_posting(tmp_path: Path, shards: int) -> None:
    with served(tmp_path, world(True), shards) as mesh:
        found = retrieve(mesh, k=50, explain=True)
    assert len(found.pins) + len(found.dropped_pins) == found.considered
    assert np.all(np.diff(found.dropped_source.astype(int)) >= 0)
    counts = np.bincount(found.dropped_reason, minlength=7).tolist()
    assert counts[0] == 0
    assert counts[1:4] == [found.seen, found.taken_down, found.too_old]
    assert all(counts[reason] for reason in (1, 2, 3, pb.DROP_REASON_DUPLICATE, pb.DROP_REASON_NOT_BEST))


def test_shards_agree_on_what_is_a_duplicate_and_what_is_not_best(tmp_path: Path) -> None:
    batch = world(False)
    with served(tmp_path, batch) as one, served(tmp_path, batch, 3) as several:
        expected, found = retrieve(one, k=20, explain=True), retrieve(several, k=20, explain=True)
    for answer in (expected, found):
        assert not np.any(answer.dropped_reason == pb.DROP_REASON_DUPLICATE)
    rows = [sorted(zip(*(column.tolist() for column in r[9:]), strict=True)) for r in (expected, found)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("shards", [1, 2])
def test_dropped_postings_are_bounded(tmp_path: Path, shards: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_DROPPED", 100)
    monkeypatch.setattr(client_module, "MAX_DROPPED", 100)
    with served(tmp_path, world(True), shards) as mesh:
        found = retrieve(mesh, explain=True)
        assert [len(column) for column in found[9:]] == [100, 100, 100]
        assert [len(column) for column in retrieve(mesh)[9:]] == [0, 0, 0]


@pytest.mark.parametrize("shards", [1, 3])
def test_postings_come_in_the_order_asked_for(tmp_path: Path, shards: int) -> None:
    batch = world(True)
    with served(tmp_path, batch, shards) as mesh:
        lists = ask(mesh, lambda client: client.postings(KINDS, SOURCES, 10))
    ends = np.cumsum(lists.counts.astype(int))
    assert len(lists.pins) == len(lists.at_ms) == len(lists.quality) == ends[-1]
    taken_down = set(batch.pin[batch.action == Action.TAKEDOWN].tolist())
    for i, (kind, source) in enumerate(zip(KINDS.tolist(), SOURCES.tolist(), strict=True)):
        action = Action.SAVE if kind == BOARD else Action.JOIN_INTEREST
        there = set(batch.pin[(batch.action == action) & (batch.board == source)].tolist()) - taken_down
        assert set(lists.pins[ends[i] - int(lists.counts[i]) : ends[i]].tolist()) == there


@pytest.mark.parametrize("shards", [1, 2])
def test_no_sources_no_pins(tmp_path: Path, shards: int) -> None:
    none = np.empty(0, np.uint64)
    with served(tmp_path, world(True), shards) as mesh:
        how: dict[str, Any] = {"seen": b"", "k": 1, "per_source": 0, "now_ms": NOW, "max_age_ms": 0, "timeout": 10}
        found = ask(mesh, lambda c: c.retrieve(none.astype(np.uint8), none, none.astype(np.float32), **how))
        lists = ask(mesh, lambda c: c.postings(none.astype(np.uint8), none, 10))
    assert all(len(column) == 0 for column in (*found[:5], *found[9:], *lists))
    assert found.pins.dtype == lists.pins.dtype == np.uint64
    assert found[5:9] == (0, 0, 0, 0)


# --- refusals -------------------------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "kinds": pack(KINDS, "<u1"),
    "sources": pack(SOURCES, "<u8"),
    "weights": pack(WEIGHTS, "<f4"),
    "k": 1,
    "now_ms": NOW,
}


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with ExitStack() as stack:
        mesh = stack.enter_context(served(tmp_path_factory.mktemp("polaris"), world(True)))
        yield PolarisStub(stack.enter_context(grpc.insecure_channel(mesh.of("polaris")[0].address)))


def weights(value: float) -> bytes:
    return pack(np.append(WEIGHTS[:-1], np.float32(value)), "<f4")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"kinds": pack(np.append(KINDS[:-1], 3), "<u1")}, "kinds[79] = 3: allowed are 1 board, 2 interest"),
        ({"kinds": b"\x01"}, "kinds: 1 values, expected 80"),
        ({"sources": b"abc"}, "sources: 3 bytes are not a whole number of 8-byte items (<u8)"),
        ({"sources": b""}, "kinds: 80 values, expected 0"),
        ({"sources": bytes(8 * 10_001)}, "sources: 10001 ids; at most 10000 a call"),
        ({"weights": b""}, "weights: 0 values, expected 80"),
        ({"weights": weights(0)}, "weights[79] = 0.0: allowed are finite numbers above 0"),
        ({"weights": weights(-1)}, "weights[79] = -1.0: allowed are finite numbers above 0"),
        ({"weights": weights(np.inf)}, "weights[79] = inf: allowed are finite numbers above 0"),
        ({"weights": weights(np.nan)}, "weights[79] = nan: allowed are finite numbers above 0"),
        ({"seen": bytes(31)}, "seen: 31 bytes are not a whole number of 32-byte bloom filter blocks"),
        ({"k": 0}, "k = 0: allowed are 1 to 10000"),
        ({"k": 10_001}, "k = 10001: allowed are 1 to 10000"),
        ({"now_ms": 0}, f"now_ms = 0: allowed are 1 to {1 << 53}"),
        ({"max_age_ms": -1}, f"max_age_ms = -1: allowed are 0 to {1 << 53}"),
    ],
)
def test_what_is_not_allowed_is_refused_by_name(stub: Any, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        stub.Retrieve(pb.RetrieveRequest(**(GOOD | wrong)), timeout=10)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == says


def test_a_request_of_nothing_is_answered_with_nothing(stub: Any) -> None:
    assert stub.Retrieve(pb.RetrieveRequest(), timeout=10) == pb.RetrieveReply()
    assert stub.Postings(pb.PostingsRequest(), timeout=10) == pb.PostingsReply()


def test_the_postings_of_an_unknown_kind_are_refused(stub: Any) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        stub.Postings(pb.PostingsRequest(kinds=b"\x00", sources=bytes(8)), timeout=10)
    assert refused.value.details() == "kinds[0] = 0: allowed are 1 board, 2 interest"


def test_the_client_raises_the_refusal(tmp_path: Path) -> None:
    with (
        served(tmp_path, world(True)) as mesh,
        pytest.raises(InvalidArgument, match="k = 20000: allowed are 1 to 10000"),
    ):
        retrieve(mesh, k=20_000)
