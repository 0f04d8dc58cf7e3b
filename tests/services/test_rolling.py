"""A rolling restart: its order, and what it does not touch. tests/mesh/test_replicas_mesh.py rolls a whole mesh under load."""

import asyncio
import os
import signal
import threading
from typing import Any

import pytest

from protos import status_pb2 as pb
from protos import status_pb2_grpc as rpc
from services.core.errors import Conflict, NotReady, Unavailable
from services.ops import rolling
from services.ops.rolling import Roll, in_order
from services.ops.status import SUPERVISED
from services.rpc.channel import mesh_errors, open_sync
from services.rpc.membership import Address
from tests.services.replica_servers import Server, mesh_of, replicas, serving


def restart(address: str, pid: int) -> None:
    with open_sync(address) as channel, mesh_errors("apiary-0"):
        stub: Any = rpc.StatusStub(channel)
        stub.Restart(pb.RestartRequest(pid=pid), timeout=30)


def rolled(processes: list[Address]) -> None:
    async def run() -> None:
        mesh, _ = mesh_of(processes)
        await Roll(mesh, lambda line: None, within_s=1.0).run(processes)

    asyncio.run(run())


def at(service: str, shard: int, replica: int) -> Address:
    return Address(service=service, shard=shard, shards=2, replica=replica, address="127.0.0.1:1")


def test_all_first_replicas_come_before_the_second_ones_and_what_everybody_asks_comes_last() -> None:
    made = [
        at(name, shard, replica)
        for name in ("roadrunner", "web", "apiary", "polaris")
        for shard in (0, 1)
        for replica in (0, 1)
    ]
    names = [of.name for of in in_order(made)]
    assert names[:4] == ["apiary-0", "apiary-1", "apiary-0.1", "apiary-1.1"]
    assert names[8:] == [
        *("web-0", "web-1", "web-0.1", "web-1.1"),
        *("roadrunner-0", "roadrunner-1", "roadrunner-0.1", "roadrunner-1.1"),
    ]


def test_a_process_that_nobody_would_start_again_does_not_end() -> None:
    one = Server()
    with serving(one), pytest.raises(NotReady, match="no supervisor would start this process again"):
        restart(one.address, os.getpid())


def test_the_process_that_is_meant_ends_as_by_sigterm_and_another_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SUPERVISED, "1")
    asked, before = threading.Event(), signal.signal(signal.SIGTERM, lambda *_: asked.set())
    one = Server()
    try:
        with serving(one):
            with pytest.raises(Conflict, match=rf"pid = 7: this is process {os.getpid()} by now"):
                restart(one.address, 7)
            assert not asked.is_set()
            restart(one.address, os.getpid())
            assert asked.wait(30)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_replica_stays_while_another_of_its_shard_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rolling, "OTHERS_WITHIN_S", 0.2)
    one, two = Server(), Server()
    two.why = "catching up"
    with (
        serving(one, two),
        pytest.raises(
            Unavailable, match=r"roadrunner-0 is not restarted: roadrunner-0.1 \(catching up\) of its shard must be"
        ),
    ):
        rolled(replicas(one.address, two.address))


def test_a_roll_ends_where_a_process_gives_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rolling, "OTHERS_WITHIN_S", 0.2)
    with pytest.raises(Unavailable, match="roadrunner-0 is not restarted: it gives no answer: roadrunner is away"):
        rolled(replicas("127.0.0.1:1"))
