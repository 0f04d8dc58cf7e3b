"""A whole mesh of real processes for the length of a test, on free ports and a folder of its own."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import httpx

from cli.schema import SCHEMA
from protos import (
    aperture_pb2,
    apiary_pb2,
    counters_pb2,
    polaris_pb2,
    realpin_pb2,
    rockstore_pb2,
    smartfeed_pb2,
)
from protos.roadrunner_pb2 import AggregatedRequest
from protos.roadrunner_pb2_grpc import RoadrunnerStub
from services.core import context, settings, tokens
from services.core.topics import INGEST, Topic, partition_of_one
from services.log.protocol import Positions, Reader
from services.log.reading import kafka_reader, on_kafka, open_reader
from services.ops.planning import plan
from services.ops.probe import Health, asked_once
from services.ops.supervisor import Child, DataFolder, Supervisor
from services.rpc.channel import open_sync
from services.rpc.mesh import Address, Mesh

T = TypeVar("T")
READY_WITHIN_S = 300.0  # the first start of all compiles the kernels, on a machine that may be shared
MOST_NAP_S = 0.25
EVERY_ROUND = "FEEDMESH_EVERY_ROUND"  # in the environment: `make test-rounds`
#: A question for each view, about this key where it is about one.
QUESTIONS: dict[str, tuple[str, Callable[[int], Any]]] = {
    "apiary": ("/feedmesh.Apiary/Followed", lambda key: apiary_pb2.FollowedRequest(user=key, limit=1)),
    "aperture": ("/feedmesh.Aperture/History", lambda key: aperture_pb2.HistoryRequest(user=key, limit=1)),
    "counters": (
        "/feedmesh.Counters/GetCounts",
        lambda _: counters_pb2.GetCountsRequest(actions=b"\x14", windows=bytes(8)),
    ),
    "polaris": ("/feedmesh.Polaris/Postings", lambda _: polaris_pb2.PostingsRequest()),
    "rockstore": (
        "/feedmesh.Rockstore/List",
        lambda _: rockstore_pb2.ListRequest(kind=rockstore_pb2.OBJECT_KIND_PIN, limit=1),
    ),
    "realpin": ("/feedmesh.Realpin/Signals", lambda key: realpin_pb2.SignalsRequest(user=key)),
    "smartfeed": ("/feedmesh.Smartfeed/LastServed", lambda key: smartfeed_pb2.LastServedRequest(user=key, feed=1)),
}
STRANGER = "a process of another mesh answers at its port"


def rounds(every: Sequence[T], short: int) -> Sequence[T]:
    """Rounds of a long drill: the first few in the suite, every one by `make test-rounds`."""
    return every if EVERY_ROUND in os.environ else every[:short]


@dataclass
class Running:
    """A mesh that runs, watched by its supervisor on a thread."""

    supervisor: Supervisor
    reports: list[str]
    _stop: threading.Event = field(default_factory=threading.Event)
    _watcher: threading.Thread | None = None

    def start(self) -> None:
        """Every process, watched from now on."""
        self.supervisor.start()
        self._watcher = threading.Thread(target=self.watch, daemon=True)
        self._watcher.start()

    @property
    def mesh(self) -> Mesh:
        return self.supervisor.mesh

    @property
    def url(self) -> str:
        return f"http://{self.mesh.of('web')[0].http}"

    def child(self, service: str, shard: int = 0, replica: int = 0) -> Child:
        wanted = (service, shard, replica)
        return next(c for c in self.supervisor.children if (c.of.service, c.of.shard, c.of.replica) == wanted)

    def kill(self, service: str, shard: int = 0, replica: int = 0) -> int:
        """kill -9 one process; its pid."""
        process = self.child(service, shard, replica).process
        assert process is not None, f"{service} is not running"
        process.kill()
        return process.pid

    @contextmanager
    def without(self, service: str) -> Iterator[None]:
        """kill -9 one process, which is not started again until the end of this."""
        with patch.object(self.supervisor, "watch", lambda: None):
            process = self.child(service).process
            self.kill(service)
            assert process is not None
            process.wait()
            yield

    def watch(self) -> None:
        while not self._stop.wait(0.05):
            self.supervisor.watch()

    def end(self) -> list[str]:
        """Drain every process; those that had to be killed. A second time it does nothing."""
        self._stop.set()
        if self._watcher:
            self._watcher.join()
        return self.supervisor.stop()

    def health(self) -> list[Health]:
        """Of its own processes: where settings name a port, another mesh may have taken it before they could."""
        own = {c.name: c.process.pid for c in self.supervisor.children if c.process is not None}
        return [
            h if h.status is None or h.status.pid == own.get(h.of.name) else Health(h.of, None, STRANGER)
            for h in asyncio.run(asked_once(self.mesh))
        ]

    def until(self, true: Callable[[list[Health]], bool], what: str, within_s: float = READY_WITHIN_S) -> None:
        """Wait until the mesh's health is so. Fails saying what did not come, and how each process stands."""
        end, nap = time.monotonic() + within_s, 0.05
        while not true(health := self.health()):
            if time.monotonic() > end:
                states = "; ".join(f"{h.of.name}: {h.why or 'ready'}" for h in health)
                raise AssertionError(f"not {what} within {within_s} s: {states}; {self.reports[-5:]}")
            time.sleep(nap)
            nap = min(1.2 * nap, MOST_NAP_S)  # to ask all of them costs what they start with

    def _wait_for(self, process: Address, token: bytes) -> None:
        """Any question about a key of the shard will do: it is answered once the token has been reached."""
        method, asking = QUESTIONS[process.service]
        owned, partitions = self.mesh.partitions_of(process.shard, process.shards), self.mesh.common.partitions
        request = asking(next(key for key in count(1) if partition_of_one(key, partitions) in owned))
        with open_sync(process.address) as channel:
            ask: Any = channel.unary_unary(method, request_serializer=type(request).SerializeToString)
            ask(request, timeout=READY_WITHIN_S, metadata=((context.TOKEN_KEY, token),), wait_for_ready=True)

    def until_ready(self) -> None:
        self.until(lambda health: all(h.ready for h in health), "ready")

    def until_caught_up(self) -> None:
        """Ready, every page that was answered is in the log, which is a moment later, and every view has applied the whole
        log as it is now, whether it has heard of it yet or not.
        """
        self.until(lambda health: all(h.ready and not _to_be_logged(h) for h in health), "ready, and pages logged")
        if on_kafka(self.mesh):
            until_gone_through(self.mesh, ends_of(kafka_reader(self.mesh, (INGEST,))))
        written = {at: end for at, end in ends_of(open_reader(self.mesh)).items() if at[0] == Topic.OBJECTS}
        until_gone_through(self.mesh, written)
        ends = ends_of(open_reader(self.mesh))
        token = tokens.encode({at: end - 1 for at, end in ends.items() if end})
        for process in self.mesh.processes:
            if process.service in QUESTIONS:
                self._wait_for(process, token)
        self.until(lambda health: all(h.status and h.ready and not h.status.behind for h in health), "caught up")


def _to_be_logged(health: Health) -> float:
    """Pages that feedgen has answered and not yet logged."""
    gauges = health.status.gauges if health.status else ()
    return sum(gauge.value for gauge in gauges if gauge.name == "pages_to_be_logged")


def ends_of(log: Reader) -> Positions:
    """The next offset of each partition of a log, which is closed."""
    try:
        return {at: end.next for at, end in log.ends(READY_WITHIN_S).items()}
    finally:
        log.close()


def until_gone_through(mesh: Mesh, written: Positions, within_s: float = READY_WITHIN_S) -> None:
    """Wait until roadrunner has made all that comes of the records before these offsets, and it is in the log."""
    end = time.monotonic() + within_s
    while behind := {at: offset for at, offset in written.items() if offset > _gone_through(mesh).get(at, 0)}:
        assert time.monotonic() < end, f"not split or counted within {within_s} s: {behind}, only {_gone_through(mesh)}"
        time.sleep(0.05)


def _gone_through(mesh: Mesh) -> Positions:
    found = Positions()
    for process in mesh.of("roadrunner"):
        with open_sync(process.address) as channel:
            stub: Any = RoadrunnerStub(channel)
            reply = stub.Aggregated(AggregatedRequest(), timeout=READY_WITHIN_S, wait_for_ready=True)
        for p in reply.positions:
            found[p.topic, p.partition] = max(p.offset, found.get((p.topic, p.partition), 0))
    return found


@contextmanager
def running_mesh(folder: Path, sections: dict[str, Any] | None = None) -> Iterator[Running]:
    """A mesh with these settings over the defaults, ready; every process is gone at the end."""
    sections = {name: dict(section) for name, section in (sections or {}).items()}
    sections["mesh"] = {"data": str(folder)} | sections.get("mesh", {})
    sections["web"] = {"http_port": 0} | sections.get("web", {})
    data = DataFolder(folder)
    reports: list[str] = []
    running = Running(Supervisor(plan(settings.validated(sections, "test", SCHEMA)), reports.append), reports)
    running.start()
    try:
        running.until_ready()
        yield running
    finally:
        killed = running.end()
        data.release()
    assert not killed, f"did not drain within their grace: {killed}"


class Kept:
    """The objects that the tests of a folder share, by name: made for the first that asks, ended after the folder's last."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}
        self._ending = ExitStack()

    def of(self, name: str, make: Callable[[], AbstractContextManager[Any]]) -> Any:
        """The object that `make` made, now or before."""
        if name not in self._made:
            self._made[name] = self._ending.enter_context(make())
        return self._made[name]

    def end(self) -> None:
        """End all of it, the last first."""
        self._made.clear()
        self._ending.close()


def get(running: Running, path: str, **query: Any) -> httpx.Response:
    """One GET of the edge."""
    return httpx.get(running.url + path, params=query, timeout=20)
