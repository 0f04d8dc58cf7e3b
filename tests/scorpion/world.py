"""A mesh of rockstore, counters and scorpion for the tests: real servers of some shards each, in this process."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import counters.layout
import rockstore.layout
from counters.service import Counters
from counters.store import CountersStore
from features.pins import DAY_MS
from protos.counters_pb2_grpc import add_CountersServicer_to_server
from protos.rockstore_pb2_grpc import add_RockstoreServicer_to_server
from protos.scorpion_pb2_grpc import add_ScorpionServicer_to_server
from rockstore.service import Rockstore
from rockstore.store import RockstoreStore
from scorpion.changes import pin_changes
from scorpion.models import Models
from scorpion.origin import MeshOrigin
from scorpion.pin_features import PinFeatureLoader
from scorpion.service import Scorpion
from services.core.columns import ids
from services.core.events import Action, Batch, Kind, events
from services.core.topics import Topic, partition_of
from services.log.memory import MemoryLog
from services.log.protocol import Record
from services.rpc.bridge import Bridge
from services.rpc.mesh import Mesh
from services.rpc.server import AddServicer
from services.state.change_feed import ChangeFeed
from services.state.feed_view import FeedView
from tests.kit import ONE_EPOCH, OneEpochReader, in_one_epoch, open_shards, serve_services
from tests.scorpion.making import NOW

PARTITIONS = 8
PINS = np.arange(1, 201, dtype=np.uint64)
UNKNOWN = ids([9_001, 9_002])
CREATED = (NOW - PINS.astype(np.int64) * DAY_MS // 10).tolist()


class Clock:
    """The time, for all that have a clock."""

    def __init__(self) -> None:
        self.ms = NOW

    def __call__(self) -> int:
        return self.ms


def pins() -> Batch:
    """Pins with a quality but every third, of none to eleven interests; from 150 on with rows of the dataset `taste`."""
    return events(
        len(PINS),
        action=Action.CREATE_PIN,
        pin=PINS,
        at_ms=CREATED,
        quality=np.where(PINS % 3 == 0, np.nan, (PINS % 7) / 7),
        interests=[list(range(1, 1 + pin % 12)) for pin in PINS.tolist()],
    )


def tastes() -> Batch:
    """Live rows of the dataset `taste`, with columns x0 and x1."""
    of = PINS[PINS >= 150]
    rows = [[float(pin) / 200, -float(pin)] for pin in of.tolist()]
    named = ["taste"] * len(of)
    return events(len(of), action=Action.PUT_FEATURES, target=of, title=named, features=rows, at_ms=NOW - 1)


def counted() -> list[Record]:
    """Counts of the pins, as the aggregator writes them."""
    chance = np.random.default_rng(4)
    n = 2_000
    target = chance.choice(PINS, n)
    batch = events(
        n,
        action=chance.choice([Action.IMPRESSION, Action.CLICK, Action.SAVE, Action.HIDE], n),
        kind=Kind.PIN,
        target=target,
        at_ms=(NOW - chance.integers(1, 3_000, n) * 3_600_000) // 3_600_000 * 3_600_000,
        count=chance.integers(1, 9, n),
    )
    where = partition_of(target, PARTITIONS)
    log, parts = MemoryLog(PARTITIONS), np.unique(where).tolist()
    return [log.append_to(Topic.COUNTS, part, batch.take(where == part), NOW) for part in parts]


@dataclass
class World:
    """The running parts, one of each for every shard of scorpion."""

    mesh: Mesh
    data: Path
    clock: Clock
    stores: list[RockstoreStore]
    models: list[Models] = field(default_factory=list)
    loaders: list[PinFeatureLoader] = field(default_factory=list)
    changes: list[FeedView] = field(default_factory=list)
    servicers: list[Scorpion] = field(default_factory=list)
    delayed: list[Record] = field(default_factory=list)
    offsets: MemoryLog = field(default_factory=lambda: MemoryLog(PARTITIONS))

    def publish(self, batch: Batch, delayed: bool = False) -> dict[tuple[int, int], int]:
        """Publish events of objects to all; the offsets reached. delayed: to rockstore only once it catches up."""
        records = self.offsets.append(batch, (Topic.OBJECTS,))
        for i, changes in enumerate(self.changes):
            own = of_shard(i, len(self.changes))
            changes.apply(changes.shard.fresh([record for record in records if record.partition in own]))
        self.delayed += records
        if not delayed:
            self.catch_up()
        return {(int(record.topic), record.partition): record.offset for record in records}

    def catch_up(self) -> None:
        """Rockstore applies what was delayed."""
        for i, store in enumerate(self.stores):
            store.apply([record for record in self.delayed if record.partition in of_shard(i, len(self.stores))])
        self.delayed = []

    def close(self) -> None:
        for models in self.models:
            models.stop()


def of_shard(i: int, shards: int) -> range:
    return range(PARTITIONS * i // shards, PARTITIONS * (i + 1) // shards)


class Waits:
    """Waits for a token as the follower of each shard would."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __call__(self, reached: Any, timeout: float) -> None:
        for i, changes in enumerate(self._world.changes):
            own = of_shard(i, len(self._world.changes))
            changes.shard.wait({at: offset for at, offset in reached.items() if at[1] in own}, timeout)


@contextmanager
def running(folder: Path, shards: int, ttl_ms: int = 60_000) -> Iterator[World]:
    """The world, with `shards` shards of scorpion and of rockstore, and one of counters."""
    clock = Clock()
    with ExitStack() as stack:
        stores, servicers = [], []
        where, form = folder / "rockstore", rockstore.layout
        for shard, own in stack.enter_context(open_shards(where, form.FORMAT, form.FAMILIES, shards, PARTITIONS)):
            in_one_epoch(shard)
            store = RockstoreStore(shard, own, PARTITIONS)
            stores.append(store)
            servicers.append([_rockstore(store)])
        opened = open_shards(folder / "counters", counters.layout.FORMAT, counters.layout.FAMILIES, 1, PARTITIONS)
        [(shard, own)] = stack.enter_context(opened)
        counts = CountersStore(shard, own, PARTITIONS, clock)
        counts.apply(counted())
        counting: list[list[AddServicer]] = [[lambda server: add_CountersServicer_to_server(Counters(counts), server)]]
        beneath = stack.enter_context(serve_services({"rockstore": servicers, "counters": counting}, PARTITIONS))
        world = World(beneath, folder / "data", clock, stores)
        world.data.mkdir(parents=True)
        bridge = Bridge()
        stack.callback(bridge.close)
        origin = MeshOrigin(bridge, beneath)
        stack.callback(origin.close)
        stack.callback(world.close)
        adds = [[_scorpion(world, origin, ttl_ms)] for _ in range(shards)]
        above = stack.enter_context(serve_services({"scorpion": adds}, PARTITIONS, Waits(world)))
        world.mesh = Mesh(settings=beneath.settings, processes=[*beneath.processes, *above.processes])
        world.publish(pins())
        world.publish(tastes())
        clock.ms += 60_000
        yield world


def _rockstore(store: RockstoreStore) -> AddServicer:
    return lambda server: add_RockstoreServicer_to_server(Rockstore(store), server)


def _scorpion(world: World, origin: MeshOrigin, ttl_ms: int) -> AddServicer:
    feed = ChangeFeed(PARTITIONS)
    loader = PinFeatureLoader(origin, feed, 4 << 20, ttl_ms, world.clock)
    models = Models(world.data, origin.known_datasets, loader.widen)
    changes = pin_changes(loader, feed, OneEpochReader(world.offsets))
    changes.shard.connect(ONE_EPOCH, {}, ())
    changes.shard.positions([(int(Topic.OBJECTS), partition) for partition in range(PARTITIONS)])
    servicer = Scorpion(models, loader, world.clock)
    world.loaders.append(loader)
    world.models.append(models)
    world.changes.append(changes)
    world.servicers.append(servicer)
    return lambda server: add_ScorpionServicer_to_server(servicer, server)
