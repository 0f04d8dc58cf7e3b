"""The edge as it is, by real HTTP, over a real log, rockstore, apiary and registry of models in this process, and a
feedgen whose answers the test sets.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec

from apiary import layout as apiary_layout
from apiary.service import Apiary, Weights
from apiary.store import TOPICS as APIARY_TOPICS
from apiary.store import ApiaryStore
from counters import layout as counters_layout
from counters.service import Counters
from counters.store import TOPICS as COUNTERS_TOPICS
from counters.store import CountersStore
from prober.prober import Prober
from prober.service import ProberService
from protos import (
    apiary_pb2_grpc,
    counters_pb2_grpc,
    feedgen_pb2_grpc,
    prober_pb2_grpc,
    roadrunner_pb2_grpc,
    rockstore_pb2_grpc,
    scorpion_pb2_grpc,
    smartfeed_pb2_grpc,
    status_pb2_grpc,
)
from protos import feedgen_pb2 as pb
from roadrunner.committer import Committer
from roadrunner.retention import Retention
from roadrunner.service import Roadrunner
from roadrunner.store import EventLog
from rockstore import layout as rockstore_layout
from rockstore.service import Rockstore
from rockstore.store import TOPICS as ROCKSTORE_TOPICS
from rockstore.store import RockstoreStore
from scorpion.models import Models
from scorpion.pin_features import PinFeatureLoader
from scorpion.service import Scorpion
from services.core.clock import wall_clock
from services.core.context import current
from services.core.errors import MeshError
from services.core.metrics import Metrics
from services.core.settings import MeshSettings
from services.log.reading import open_reader
from services.ops.process import Process
from services.ops.status import Status
from services.rpc import mesh as meshes
from services.rpc import server as servers
from services.rpc.admission import AdmissionLimiter
from services.rpc.dispatch import Dispatcher, WaitForToken
from services.rpc.mesh import Address, Mesh
from services.rpc.server import AddServicer
from services.state.change_feed import ChangeFeed
from services.state.follower import Follower
from services.state.shard import Shard
from smartfeed import layout as smartfeed_layout
from smartfeed.service import Smartfeed
from smartfeed.store import TOPICS as SMARTFEED_TOPICS
from smartfeed.store import SmartfeedStore
from tests.kit import LoopServer
from web.serving import http_server, listen
from web.settings import Settings
from web.wiring import build

PARTITIONS = 4


@dataclass
class ToldFeedgen(feedgen_pb2_grpc.FeedgenServicer):
    """Answers `reply`, or fails with `error`; remembers what it was asked, with which token."""

    reply: pb.FeedReply = field(default_factory=pb.FeedReply)
    error: MeshError | None = None
    asked: list[tuple[pb.FeedRequest, bytes]] = field(default_factory=list)
    traces: list[str] = field(default_factory=list)  # their trace ids
    hold: threading.Event = field(default_factory=threading.Event)  # while it is not set, no answer comes

    def __post_init__(self) -> None:
        self.hold.set()

    def Feed(self, request: pb.FeedRequest, context: Any) -> pb.FeedReply:
        serving = current()
        self.hold.wait(20)
        self.asked.append((request, serving.token if serving else b""))
        self.traces.append(serving.trace_id if serving else "")
        if self.error is not None:
            raise self.error
        return self.reply


@dataclass
class Edge:
    """`http` asks it; `feedgen` gives the answers set on it; `models` is scorpion's registry; `kill` ends a service."""

    http: httpx.Client
    feedgen: ToldFeedgen
    models: Models
    log: EventLog
    mesh: Mesh
    metrics: Metrics
    servers: dict[str, Any]

    def post(self, body: Any) -> httpx.Response:
        return self.http.post("/v1/events", json=body)

    def refused(self, body: Any) -> str:
        """The message of a refused POST."""
        answer = self.post(body)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"
        return str(answer.json()["error"]["message"])

    def kill(self, service: str) -> None:
        self.servers[service].stop(None).wait()

    def events(self) -> int:
        """Rows in the log, each counted once a partition it is in."""
        return sum(end.events or 0 for end in self.log.ends().values())


@contextmanager
def serve_edge(folder: Path, ids: Any = "numbers", listen_on: str = "127.0.0.1", **settings: Any) -> Iterator[Edge]:
    """A mesh with its edge, which alone listens on another address than the loopback."""
    with ExitStack() as running:
        mesh = meshes.resolve({"mesh": MeshSettings(data=str(folder), partitions=PARTITIONS, ids=ids)}, [])
        started: dict[str, Any] = {}

        def serve(service: str, add: AddServicer, wait: WaitForToken | None = None) -> None:
            metrics = Metrics(service, 0)
            status = Status(service, 0, metrics, lambda: "")
            add_status = [add, lambda server: status_pb2_grpc.add_StatusServicer_to_server(status, server)]
            dispatcher = Dispatcher(metrics, AdmissionLimiter(64), wait)
            server = servers.threaded(dispatcher, add_status, threads=16)
            port = servers.bind(server, "127.0.0.1:0")
            server.start()
            running.callback(lambda: server.stop(None).wait())
            started[service] = server
            mesh.processes.append(Address(service=service, shard=0, shards=1, address=f"127.0.0.1:{port}"))

        log = EventLog(folder / "log", PARTITIONS, Retention(), wall_clock)
        running.callback(log.close)
        committer = Committer(log, 64, lambda: "")
        committer.start()
        running.callback(committer.stop)
        front = Roadrunner(log, committer, wall_clock, 600_000)

        prober = ProberService(Prober(0, _no_probe, {}))
        started["roadrunner"] = _on_loop(running, mesh, "roadrunner", roadrunner_pb2_grpc, front, front.close)
        started["prober"] = _on_loop(running, mesh, "prober", prober_pb2_grpc, prober)

        def view(service: str, layout: Any, store_type: Any, topics: Any) -> tuple[Any, WaitForToken]:
            shard = Shard(folder / service, layout.FORMAT, layout.FAMILIES)
            running.callback(shard.close)
            store = store_type(shard, range(PARTITIONS), PARTITIONS)
            follower = Follower(open_reader(mesh), store, topics, range(PARTITIONS))
            follower.start()
            running.callback(follower.stop)
            return store, follower.wait

        graph, wait = view("apiary", apiary_layout, ApiaryStore, APIARY_TOPICS)
        apiary = Apiary(graph, Weights(1.0, 0.7, 100))
        serve("apiary", partial(apiary_pb2_grpc.add_ApiaryServicer_to_server, apiary), wait)
        objects, wait = view("rockstore", rockstore_layout, RockstoreStore, ROCKSTORE_TOPICS)
        serve("rockstore", partial(rockstore_pb2_grpc.add_RockstoreServicer_to_server, Rockstore(objects)), wait)
        pages, wait = view("smartfeed", smartfeed_layout, partial(SmartfeedStore, max_pins=100), SMARTFEED_TOPICS)
        serve("smartfeed", partial(smartfeed_pb2_grpc.add_SmartfeedServicer_to_server, Smartfeed(pages)), wait)
        counts, wait = view("counters", counters_layout, partial(CountersStore, clock=wall_clock), COUNTERS_TOPICS)
        serve("counters", partial(counters_pb2_grpc.add_CountersServicer_to_server, Counters(counts)), wait)
        feedgen = ToldFeedgen()
        serve("feedgen", lambda server: feedgen_pb2_grpc.add_FeedgenServicer_to_server(feedgen, server))
        models = Models(folder, lambda: None, lambda columns: None)
        scorpion = Scorpion(
            models, PinFeatureLoader(cast(Any, None), ChangeFeed(1), 1 << 20, 0)
        )  # no test has pins scored here
        serve("scorpion", lambda server: scorpion_pb2_grpc.add_ScorpionServicer_to_server(scorpion, server))
        metrics = Metrics("web", 0)
        base = running.enter_context(_serve_http(mesh, metrics, Settings(**settings), listen_on))
        http = running.enter_context(httpx.Client(base_url=base, timeout=20))
        yield Edge(http, feedgen, models, log, mesh, metrics, started)


def _on_loop(
    running: ExitStack, mesh: Mesh, service: str, rpc: Any, servicer: Any, first: Callable[[], None] = lambda: None
) -> LoopServer:
    metrics = Metrics(service, 0)
    status = Status(service, 0, metrics, lambda: "")
    server = LoopServer(
        metrics,
        [
            partial(getattr(rpc, f"add_{service.capitalize()}Servicer_to_server"), servicer),
            partial(status_pb2_grpc.add_StatusServicer_to_server, status),
        ],
        64,
        "127.0.0.1:0",
    )
    running.callback(lambda: server.stop(None, first=first))
    mesh.processes.append(Address(service=service, shard=0, shards=1, address=f"127.0.0.1:{server.port}"))
    return server


async def _no_probe(turn: int, at_ms: int) -> None:
    raise AssertionError("no probe is made here")


@contextmanager
def _serve_http(mesh: Mesh, metrics: Metrics, settings: Settings, listen_on: str) -> Iterator[str]:
    listener, ready = listen(f"{listen_on}:0"), threading.Event()
    address = "{}:{}".format(*listener.getsockname()[:2])
    own = Address(service="web", shard=0, shards=1, address="in this process", http=address)
    common = msgspec.structs.replace(mesh.common, host=listen_on)
    of_web = msgspec.structs.replace(
        mesh, settings={**mesh.settings, "mesh": msgspec.to_builtins(common)}, processes=[*mesh.processes, own]
    )
    process = Process("web", 0, 1, "in this process", of_web, metrics)
    stop: list[Any] = []

    async def run() -> None:
        edge = build(settings, process)
        http = http_server(edge.app, edge.limits, 2.0, ready.set)
        stop.append(http)
        try:
            await http.serve(sockets=[listener])
        finally:
            await edge.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(10)
    try:
        yield f"http://{address}"
    finally:
        stop[0].should_exit = True
        thread.join(10)
