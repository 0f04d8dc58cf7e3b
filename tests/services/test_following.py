"""A set of replicas follows the membership: the next call goes where the process is now, and calls under way finish."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from protos import roadrunner_pb2 as pb
from services.core.errors import MeshError, Unavailable, Unimplemented
from services.core.events import Action, events
from services.core.metrics import Metrics
from services.core.settings import MeshSettings
from services.core.topics import Topic
from services.log.embedded import EmbeddedReader
from services.ops.probe import Probe
from services.rpc import mesh as meshes
from services.rpc.batching import batched_calls
from services.rpc.membership import Address, MemoryMembership
from services.rpc.mesh import Mesh
from services.rpc.replica import Replica, open_replica
from services.rpc.routing import LAYOUT, ReplicaSet
from tests.roadrunner.running import PARTITIONS, running
from tests.services.test_server import threaded

NOWHERE = "127.0.0.1:1"
T = TypeVar("T")


def shards(*addresses: str, of: int = 0) -> list[Address]:
    many = of or len(addresses)
    return [Address(service="roadrunner", shard=i, shards=many, address=at) for i, at in enumerate(addresses)]


def following(*addresses: str) -> tuple[Mesh, MemoryMembership]:
    """A mesh that was described so, and how that changes."""
    mesh, membership = meshes.resolve({"mesh": MeshSettings(partitions=4)}, []), MemoryMembership(shards(*addresses))
    mesh.follow(membership)
    return mesh, membership


def asked(mesh: Mesh, work: Callable[[ReplicaSet], Awaitable[T]]) -> T:
    async def run() -> T:
        replicas = ReplicaSet(mesh, "roadrunner")
        try:
            return await work(replicas)
        finally:
            await replicas.close()

    return asyncio.run(run())


async def ends(replicas: ReplicaSet, shard: int = 0) -> Any:
    return await replicas.call(shard, "Ends", pb.EndsRequest(), 60.0)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that replicas are opened at."""
    addresses: list[str] = []

    def noted(mesh: Mesh, process: Address) -> Replica:
        addresses.append(process.address)
        return open_replica(mesh, process)

    monkeypatch.setattr("services.rpc.routing.open_replica", noted)
    return addresses


@pytest.mark.parametrize("several", [False, True])
def test_a_call_goes_to_the_new_address_and_one_under_way_finishes(several: bool) -> None:
    inside, leave, served = threading.Event(), threading.Event(), list[str]()

    def slow() -> None:
        inside.set()
        assert leave.wait(60)
        served.append("old")

    async def work(replicas: ReplicaSet) -> None:
        under_way = asyncio.ensure_future(ends(replicas))
        assert await asyncio.to_thread(inside.wait, 60)
        membership.change(shards(new))
        if several:
            with batched_calls():
                await asyncio.gather(ends(replicas), ends(replicas))
        else:
            await ends(replicas)
        assert set(served) == {"new"}
        leave.set()
        assert await under_way == pb.EndsReply()
        await asyncio.gather(*replicas._retiring)
        assert not replicas._retiring, "the old channel is closed"

    with ExitStack() as stack:
        old = stack.enter_context(threaded(slow, Metrics("roadrunner", 0)))
        new = stack.enter_context(threaded(lambda: served.append("new"), Metrics("roadrunner", 0)))
        mesh, membership = following(old)
        asked(mesh, work)
    assert served == ["new"] * (1 + several) + ["old"]


def test_a_process_that_stays_keeps_its_channel_and_keys_go_by_the_new_layout(opened: list[str]) -> None:
    async def work(replicas: ReplicaSet) -> None:
        assert {replicas.shard_of(key) for key in range(100)} == {0}
        membership.change(shards("127.0.0.1:1", "127.0.0.1:2"))
        assert {replicas.shard_of(key) for key in range(100)} == {LAYOUT, LAYOUT + 1}
        membership.change(shards("127.0.0.1:1"))
        assert {replicas.shard_of(key) for key in range(100)} == {2 * LAYOUT}
        with pytest.raises(Unavailable, match="roadrunner has no shard 1 any more; try again in a moment"):
            await ends(replicas, 2 * LAYOUT + 1)

    mesh, membership = following("127.0.0.1:1")
    asked(mesh, work)
    assert opened == ["127.0.0.1:1", "127.0.0.1:2"]


def test_a_layout_that_is_not_whole_is_not_taken(opened: list[str], caplog: pytest.LogCaptureFixture) -> None:
    async def work(replicas: ReplicaSet) -> None:
        for described in (shards("127.0.0.1:2", of=2), []):
            membership.change(described)
            assert {replicas.shard_of(key) for key in range(100)} == {0}

    mesh, membership = following(NOWHERE)
    asked(mesh, work)
    assert opened == [NOWHERE]
    assert caplog.text.count("the mesh has not every shard of roadrunner now") == 2


def test_a_method_that_there_is_not_is_said() -> None:
    async def work(replicas: ReplicaSet) -> None:
        with pytest.raises(Unimplemented, match=r"feedmesh.Roadrunner has no method Nothing"):
            await replicas.call(0, "Nothing", pb.EndsRequest(), 1.0)

    asked(following(NOWHERE)[0], work)


def test_a_reader_of_the_log_asks_the_process_that_keeps_it_now(tmp_path: Path) -> None:
    with running(tmp_path / "first") as first, running(tmp_path / "second") as second:
        mesh, membership = following(first.address)
        reader = EmbeddedReader(mesh)
        try:
            assert reader.history(30.0).identity == first.log.history.identity
            first.publisher().publish(events(1, action=Action.FOLLOW_USER, user=1, target=2, at_ms=1, id=1), 30.0)
            stream, begun = reader.subscribe({(Topic.USERS, at): 0 for at in range(PARTITIONS)}), threading.Event()
            reading = threading.Thread(target=read_to_the_end, args=(stream, begun))
            reading.start()
            assert begun.wait(60)
            membership.change(shards(second.address))
            assert reader.history(30.0).identity == second.log.history.identity
            reading.join(60)
            assert not reading.is_alive(), "what was read of the first one ended"
        finally:
            reader.close()


def read_to_the_end(stream: Iterator[Any], begun: threading.Event) -> None:
    with suppress(MeshError):
        for _ in stream:
            begun.set()


def test_the_health_of_processes_is_asked_where_they_are_now() -> None:
    async def run() -> list[list[str]]:
        probe = Probe(mesh)
        try:
            first = await probe.ask()
            membership.change(shards("127.0.0.1:2", NOWHERE))
            return [[health.of.address for health in found] for found in (first, await probe.ask())]
        finally:
            await probe.close()

    mesh, membership = following(NOWHERE)
    assert asyncio.run(run()) == [[NOWHERE], ["127.0.0.1:2", NOWHERE]]
