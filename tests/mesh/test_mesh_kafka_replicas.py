"""Two roadrunners on a real Kafka broker, under load: one is killed, the other stopped past its session; nothing is lost."""

import itertools
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import httpx

from cli.demo import demo
from cli.load import load
from protos.roadrunner_pb2 import AggregatedRequest
from protos.roadrunner_pb2_grpc import RoadrunnerStub
from services.core.topics import INGEST
from services.ops.supervisor import Child
from services.rpc.channel import open_sync
from tests.drill.differences import differences
from tests.drill.recount import recount
from tests.kafka.broker import SETTINGS, Broker
from tests.kafka.logs import on_broker
from tests.mesh.conftest import sections
from tests.running import Running, running_mesh
from tests.services.children import until

USERS = list(range(1, 41))
WITHIN_S = 120.0
_new = itertools.count(9_300_001)


class Writers:
    """Threads that publish without a pause, each event once; its id is never sent again by its writer."""

    def __init__(self, url: str, threads: int = 2) -> None:
        self._url, self._stop = url, threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(i,), daemon=True) for i in range(threads)]
        self.acknowledged: list[int] = []
        self.failed: list[str] = []

    def _write(self, number: int) -> None:
        with httpx.Client(timeout=60) as client:
            for user in itertools.cycle(USERS[number::2]):
                if self._stop.is_set():
                    return
                event: dict[str, Any] = {
                    "action": "save",
                    "user": user,
                    "pin": 1 + next(_new) % 200,
                    "board": user,
                    "id": next(_new),
                }
                answer = client.post(f"{self._url}/v1/events", json={"events": [event]})
                if answer.status_code == 202:
                    self.acknowledged.append(event["id"])
                else:
                    self.failed.append(f"{answer.status_code}: {answer.text[:200]}")
                    return
                self._stop.wait(0.02)

    def until_acknowledged(self, more: int) -> None:
        """Or until one has failed."""
        wanted = len(self.acknowledged) + more
        until(lambda: self.failed or len(self.acknowledged) >= wanted, WITHIN_S)
        assert not self.failed, self.failed

    @contextmanager
    def writing(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(60)


def split_by(running: Running, replica: int) -> set[int]:
    """The partitions of `ingest` that a roadrunner has now; none of one that does not answer."""
    stub: Any
    with open_sync(running.mesh.of("roadrunner")[replica].address) as channel, suppress(grpc.RpcError):
        stub = RoadrunnerStub(channel)
        return {p.partition for p in stub.Aggregated(AggregatedRequest(), timeout=2).positions if p.topic == INGEST}
    return set()


def stop_until_it_has_lost_all(running: Running, child: Child, of: int, every: set[int], writers: Writers) -> None:
    """SIGSTOP, until its group has given its partitions to another; then it wakes and writes what it had in hand."""
    assert child.process is not None
    os.kill(child.process.pid, signal.SIGSTOP)
    try:
        until(lambda: split_by(running, of) == every, WITHIN_S)
        writers.until_acknowledged(10)  # the other one splits them
    finally:
        os.kill(child.process.pid, signal.SIGCONT)


def test_a_killed_and_a_stopped_roadrunner_cost_no_publish_and_no_event(broker: Broker, tmp_path: Path) -> None:
    world = tmp_path / "world"
    demo(users=len(USERS), pins=200, boards=60, saves=600, seed=3, folder=world)
    of = on_broker(broker)
    of["mesh"] |= {"hang_s": 0.0}  # or the supervisor would end the stopped one
    more: dict[str, Any] = of | {
        "prober": {"every_s": 0.0},
        "roadrunner": {"replicas": 2},
        "web": {"event_timeout_s": 30.0},
        "learning": {"first": False},
    }
    with running_mesh(tmp_path / "data", sections(1, **more)) as running:
        load("parquet", world, data=tmp_path / "data")
        running.until_caught_up()
        every = set(range(SETTINGS.ingest_partitions))
        until(lambda: all(split_by(running, replica) for replica in (0, 1)), WITHIN_S)
        assert split_by(running, 0) ^ split_by(running, 1) == every, "each partition has one"
        writers = Writers(running.url)
        with writers.writing():
            writers.until_acknowledged(30)
            stop_until_it_has_lost_all(running, running.child("roadrunner"), 1, every, writers)
            until(lambda: split_by(running, 0), WITHIN_S)
            running.kill("roadrunner", replica=1)
            writers.until_acknowledged(30)
            running.until_ready()
        assert not writers.failed, writers.failed[:3]
        running.until_caught_up()
        found = recount(running.mesh)
        assert [found.ids[i] for i in writers.acknowledged if found.ids[i] != 1] == []
        assert differences(running.mesh, found) == []
