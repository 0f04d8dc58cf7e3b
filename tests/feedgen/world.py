"""A small world on real services: their stores and servicers, each really listening, fed as the log would feed them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from aperture import layout as aperture_layout
from aperture.service import Aperture
from aperture.store import ApertureStore
from apiary import layout as apiary_layout
from apiary.service import Apiary, Weights
from apiary.store import ApiaryStore
from counters import layout as counters_layout
from counters.service import Counters
from counters.store import CountersStore
from feedgen import pipeline, wiring
from feedgen.choices import Choices
from feedgen.cursor import Cursors
from feedgen.feeds import Clients, feeds
from feedgen.names import SURFACES
from feedgen.page import Page
from feedgen.query import Query
from feedgen.service import Feedgen
from feedgen.settings import Settings
from feedgen.shown import Shown
from feedgen.xray import Xray
from pixie.build import Edges, build
from pixie.service import Pixie, Walking
from pixie.store import PixieStore
from polaris import layout as polaris_layout
from polaris.kernel import Light
from polaris.service import Polaris
from polaris.store import Limits, PolarisStore
from protos.aperture_pb2_grpc import add_ApertureServicer_to_server
from protos.apiary_pb2_grpc import add_ApiaryServicer_to_server
from protos.counters_pb2_grpc import add_CountersServicer_to_server
from protos.pixie_pb2_grpc import add_PixieServicer_to_server
from protos.polaris_pb2_grpc import add_PolarisServicer_to_server
from protos.realpin_pb2_grpc import add_RealpinServicer_to_server
from protos.rockstore_pb2_grpc import add_RockstoreServicer_to_server
from protos.scorpion_pb2_grpc import add_ScorpionServicer_to_server
from protos.smartfeed_pb2_grpc import add_SmartfeedServicer_to_server
from realpin import layout as realpin_layout
from realpin.interests import Interests
from realpin.service import Realpin
from realpin.settings import Settings as RealpinSettings
from realpin.signals import decay_of
from realpin.store import RealpinStore
from roadrunner.aggregation import Aggregation, MemoryValues
from rockstore import layout as rockstore_layout
from rockstore.client import RockstoreClient
from rockstore.keys import datasets_of
from rockstore.service import Rockstore
from rockstore.store import RockstoreStore
from scorpion.models import Models
from scorpion.origin import MeshOrigin
from scorpion.pin_features import PinFeatureLoader
from scorpion.service import Scorpion
from services.core import context
from services.core.clock import DAY_MS
from services.core.columns import ids
from services.core.events import Action, Batch, events
from services.core.metrics import Metrics
from services.core.topics import Topic
from services.log.memory import MemoryLog
from services.rpc.bridge import Bridge
from services.rpc.mesh import Address, Mesh
from services.state.change_feed import ChangeFeed
from services.state.shard import Shard
from smartfeed import layout as smartfeed_layout
from smartfeed.service import Smartfeed
from smartfeed.store import SmartfeedStore
from tests.kit import serve_services

T = TypeVar("T")
Fed = list[tuple[tuple[Topic, ...], Any]]  # stores, and the topics that each one applies
A = Action
NOWHERE = "127.0.0.1:1"
PARTITIONS = 4
NOW = 1_700_000_000_000
PINS, INTERESTS, BOARDS = 400, 8, 40
READER, NOBODY = 1, 2
NAMED_INTEREST = 903
PATIENT = Choices(deadline_ms=60_000)  # kernels may have to be compiled first


def interest_of(pin: int) -> int:
    """The one interest of a pin."""
    return 901 + pin % INTERESTS


def pins_of(board: int) -> range:
    """The pins on a board: all of one interest, those of five boards in turn."""
    first = 1 + board % INTERESTS + INTERESTS * 10 * (board // INTERESTS % 5)
    return range(first, min(first + INTERESTS * 20, PINS + 1), INTERESTS)


def a_world() -> Batch:
    """Boards 1000 to 1039 of users 500 to 519, each with pins of one interest; READER follows user 500 and 903."""
    n = PINS
    pins = np.arange(1, n + 1)
    made = events(
        n,
        action=A.CREATE_PIN,
        pin=pins,
        at_ms=NOW - 60 * DAY_MS + pins,
        id=pins,
        title=[f"pin {pin}" for pin in pins],
        interests=[[interest_of(pin)] for pin in pins.tolist()],
        quality=pins % 5 / 4,
    )
    boards = np.arange(1000, 1000 + BOARDS)
    owned = events(
        BOARDS, action=A.CREATE_BOARD, user=500 + (boards - 1000) // 2, board=boards, at_ms=NOW - 50 * DAY_MS,
        id=10_000 + boards, title=[f"board {board}" for board in boards],
    )  # fmt: skip
    on = [(board, pin) for board in boards.tolist() for pin in pins_of(board - 1000)]
    board, pin = np.array(on).T
    saved = events(
        len(on), action=A.SAVE, user=500 + (board - 1000) // 2, board=board, pin=pin, id=20_000 + np.arange(len(on)),
        at_ms=NOW - 30 * DAY_MS + 1000 * np.arange(len(on)), quality=pin % 5 / 4,
    )  # fmt: skip
    more = events(
        3, action=[A.FOLLOW_USER, A.FOLLOW_INTEREST, A.NAME_INTEREST], user=[READER, READER, 0],
        target=[500, NAMED_INTEREST, NAMED_INTEREST], title=["", "", "number three"], at_ms=NOW - DAY_MS,
        id=[31_000, 31_001, 31_002],
    )  # fmt: skip
    return Batch.concat([made, owned, saved, more])


def did(action: Action, user: int, pins: Sequence[int], at_ms: int = NOW - 1000, board: int = 7) -> Batch:
    """A user's actions on some pins."""
    first = (at_ms << 20) + hash((action, user, *pins)) % 2**20
    return events(
        len(pins), action=action, user=user, pin=pins, board=board, at_ms=at_ms, id=range(first, first + len(pins))
    )


@dataclass
class World:
    """The services, and the events fed to them. `away`: those that no caller can reach."""

    mesh: Mesh
    stores: Fed
    models: Models
    data: Path
    away: set[str] = field(default_factory=set)
    _offsets: MemoryLog = field(default_factory=lambda: MemoryLog(PARTITIONS))
    _aggregation: Aggregation = field(default_factory=lambda: Aggregation(MemoryValues(), MemoryValues()))

    def publish(self, batch: Batch) -> None:
        """Every view applies it, and counters what roadrunner's aggregator makes of it."""
        records = self._offsets.append(batch, tuple(Topic), accepted_ms=NOW)
        for partition, counts in self._aggregation.increments(
            [record for record in records if record.topic == Topic.OBJECTS], PARTITIONS
        ):
            records.append(self._offsets.append_to(Topic.COUNTS, partition, counts, NOW))
        for topics, store in self.stores:
            store.apply([record for record in records if record.topic in topics])

    def asked(self, question: Callable[[Clients], Awaitable[T]], timeout: float = 60.0) -> T:
        """The answers of the mesh's clients, as it is now."""

        async def ask() -> T:
            clients = Clients.of(self._reachable())
            try:
                with context.serving(timeout):
                    return await question(clients)
            finally:
                for name in Clients.__slots__:
                    await getattr(clients, name).close()

        return asyncio.run(ask())

    def page(self, feed: str, user: int = READER, choose: Choices = PATIENT, **asked: Any) -> tuple[Page, Xray]:
        """A page of a feed and its X-ray."""
        query = query_of(feed, user, **asked)
        xray = Xray(query.explain)

        async def ask(clients: Clients) -> Page:
            return await pipeline.run(feeds(clients, choose)[feed], query, xray)

        return self.asked(ask), xray

    def _reachable(self) -> Mesh:
        return Mesh(
            settings=self.mesh.settings,
            processes=[
                Address(service=p.service, shard=p.shard, shards=p.shards, address=NOWHERE)
                if p.service in self.away
                else p
                for p in self.mesh.processes
            ],
        )


def query_of(feed: str, user: int, limit: int = 25, now_ms: int = NOW, **more: Any) -> Query:
    """A request."""
    if "shown" in more:
        more["shown"] = Shown.of(more["shown"])
    return Query(user=user, surface=SURFACES[feed], limit=limit, now_ms=now_ms, request_id="a request", **more)


def servicer_of(
    clients: Clients, choose: Choices = PATIENT, at_once: int = 100, metrics: Metrics | None = None
) -> Feedgen:
    """The servicer over these clients, where no request waits."""
    chosen = {name: getattr(choose, name) for name in choose.__struct_fields__} | {"losers_pages": 0.0}
    settings = Settings(**chosen, pages_at_once=at_once, slot_ms=choose.deadline_ms, pages_waiting=0)
    return wiring.servicer_of(settings, clients, Cursors(b"secret"), metrics or Metrics("feedgen", 0))


@contextmanager
def running_world(folder: Path, graph: bool = True) -> Iterator[World]:
    """All services with the world in them; `graph`: with a snapshot of it for the walks."""
    with ExitStack() as stack:
        leaves, stores, pixie = _leaves(folder, stack)
        upper, models = _askers(folder, stack, leaves, stores)
        ingest = Address(service="roadrunner", shard=0, shards=1, address=NOWHERE)
        mesh = Mesh(settings=leaves.settings, processes=[*leaves.processes, *upper.processes, ingest])
        world = World(mesh, stores, models, folder)
        world.publish(a_world())
        if graph:
            on = [(pin, board) for board in range(1000, 1000 + BOARDS) for pin in pins_of(board - 1000)]
            pins, boards = (ids(column) for column in zip(*on, strict=True))
            pixie.load(build(folder / "graphs", Edges(pins, boards), built_ms=NOW, durable=False))
        yield world


def _now() -> int:
    return NOW


def _shard(folder: Path, stack: ExitStack, name: str, layout: Any) -> Shard:
    opened = Shard(folder / name, layout.FORMAT, layout.FAMILIES)
    stack.callback(opened.close)
    return opened


def _leaves(folder: Path, stack: ExitStack) -> tuple[Mesh, Fed, PixieStore]:
    """The services that ask no other."""
    open_ = partial(_shard, folder, stack)
    own = range(PARTITIONS)
    apiary = ApiaryStore(open_("apiary", apiary_layout), own, PARTITIONS)
    polaris = PolarisStore(open_("polaris", polaris_layout), PARTITIONS, Light(), Limits(64, 4096))
    aperture = ApertureStore(open_("aperture", aperture_layout), own, PARTITIONS, _now)
    rockstore = RockstoreStore(open_("rockstore", rockstore_layout), own, PARTITIONS, datasets_of(folder))
    counters = CountersStore(open_("counters", counters_layout), own, PARTITIONS, _now)
    smartfeed = SmartfeedStore(open_("smartfeed", smartfeed_layout), own, PARTITIONS, 500)
    pixie = PixieStore(folder / "graphs", _now)
    adders = {
        "apiary": partial(add_ApiaryServicer_to_server, Apiary(apiary, Weights(1.0, 0.7, 100))),
        "polaris": partial(add_PolarisServicer_to_server, Polaris(polaris)),
        "aperture": partial(add_ApertureServicer_to_server, Aperture(aperture)),
        "rockstore": partial(add_RockstoreServicer_to_server, Rockstore(rockstore)),
        "counters": partial(add_CountersServicer_to_server, Counters(counters)),
        "pixie": partial(add_PixieServicer_to_server, Pixie(pixie, Walking())),
        "smartfeed": partial(add_SmartfeedServicer_to_server, Smartfeed(smartfeed)),
    }
    stores: Fed = [
        ((Topic.USERS,), apiary),
        ((Topic.USERS,), aperture),
        ((Topic.SOURCES,), polaris),
        ((Topic.OBJECTS,), rockstore),
        ((Topic.COUNTS,), counters),
        ((Topic.FEEDS, Topic.USERS), smartfeed),
    ]
    leaves = stack.enter_context(serve_services({name: [[add]] for name, add in adders.items()}, PARTITIONS))
    return leaves, stores, pixie


def _askers(folder: Path, stack: ExitStack, leaves: Mesh, stores: Fed) -> tuple[Mesh, Models]:
    """Realpin and scorpion, which ask the others."""
    realpin = RealpinStore(_shard(folder, stack, "realpin", realpin_layout), PARTITIONS, _now)
    stores.append(((Topic.USERS,), realpin))
    bridge, asking = Bridge(), Bridge()
    interests = Interests(bridge, bridge.make(lambda: RockstoreClient(leaves)))
    stack.callback(interests.close)
    origin = MeshOrigin(asking, leaves)
    stack.callback(asking.close)
    stack.callback(origin.close)
    loader = PinFeatureLoader(origin, ChangeFeed(PARTITIONS), 1 << 20, 0, _now)
    models = Models(folder, origin.known_datasets, loader.widen)
    adders = {
        "realpin": partial(
            add_RealpinServicer_to_server, Realpin(realpin, decay_of(RealpinSettings()), interests, 200)
        ),
        "scorpion": partial(add_ScorpionServicer_to_server, Scorpion(models, loader, _now)),
    }
    return stack.enter_context(serve_services({name: [[add]] for name, add in adders.items()}, PARTITIONS)), models
