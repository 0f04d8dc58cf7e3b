"""Pins in realpin's memory: rockstore is asked for those that are not known or have changed, and for no others."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from protos import rockstore_pb2 as pb
from protos.rockstore_pb2_grpc import add_RockstoreServicer_to_server
from realpin.interests import CachedPins, Interests
from rockstore import layout
from rockstore.client import RockstoreClient
from rockstore.service import Rockstore
from rockstore.store import TOPICS, RockstoreStore
from services.core import context, tokens
from services.core.columns import ids, unpack
from services.core.events import Action, Batch, events
from services.core.topics import Topic
from services.log.memory import MemoryLog
from services.log.protocol import Positions, Record
from services.rpc.bridge import Bridge
from tests.kit import ONE_EPOCH, OneEpochReader, in_one_epoch, open_shards, serve_services

PARTITIONS = 4
WHERE = [(int(Topic.OBJECTS), partition) for partition in range(PARTITIONS)]
A = Action


class Counting(Rockstore):
    """Remembers the pins it was asked for."""

    def __init__(self, store: RockstoreStore) -> None:
        super().__init__(store)
        self.asked: list[list[int]] = []

    def Attributes(self, request: pb.AttributesRequest, context: Any) -> pb.AttributesReply:
        self.asked.append(unpack(request.ids, "<u8", "ids").tolist())
        return super().Attributes(request, context)


class World:
    """A rockstore, and interests that ask it and hear of the log."""

    def __init__(self, folder: Path, stack: ExitStack, shards: int, pins_mb: int = 1) -> None:
        made = stack.enter_context(open_shards(folder, layout.FORMAT, layout.FAMILIES, shards, PARTITIONS))
        in_one_epoch(*(shard for shard, _ in made))
        self.stores = [(RockstoreStore(shard, own, PARTITIONS), own) for shard, own in made]
        self.services = [Counting(store) for store, _ in self.stores]
        self.serving = stack.enter_context(ExitStack())
        adders = [[self._adder(service)] for service in self.services]
        mesh = self.serving.enter_context(serve_services({"rockstore": adders}, PARTITIONS))
        bridge, self.offsets = Bridge(), MemoryLog(PARTITIONS)
        self.cached = CachedPins(OneEpochReader(self.offsets), PARTITIONS, pins_mb << 20)
        self.cached.view.shard.connect(ONE_EPOCH, {}, WHERE)
        self.cached.view.shard.positions(WHERE)
        self.interests = Interests(bridge, bridge.make(lambda: RockstoreClient(mesh)), self.cached)
        stack.callback(self.interests.close)
        self.ends = Positions()

    @staticmethod
    def _adder(service: Rockstore) -> Any:
        return lambda server: add_RockstoreServicer_to_server(service, server)

    def publish(self, batch: Batch, to_rockstore: bool = True, to_realpin: bool = True) -> list[Record]:
        """Apply a batch here and there; its records."""
        records = self.offsets.append(batch, TOPICS)
        self.ends |= {(int(record.topic), record.partition): record.offset for record in records}
        if to_rockstore:
            self.to_rockstore(records)
        if to_realpin:
            self.cached.view.apply(records)
        return records

    def to_rockstore(self, records: list[Record]) -> None:
        for store, own in self.stores:
            store.apply([record for record in records if record.partition in own])

    def known(self, *pins: int, token: bytes = b"") -> tuple[list[tuple[list[int], bool]], bool]:
        """Interests of each pin and whether it was taken down; and whether some could not be asked for."""
        with context.serving(5, token):
            found = self.interests(ids(pins))
        words, rows = found.words.tolist(), []
        while words:
            n, down = divmod(words[0], 2)
            rows.append((words[1 : 1 + n], bool(down)))
            words = words[1 + n :]
        return rows, found.lost

    def asked(self) -> list[int]:
        """Pins that rockstore was asked for since the last time."""
        pins = [pin for service in self.services for asked in service.asked for pin in asked]
        for service in self.services:
            service.asked.clear()
        return sorted(pins)


def created(*pins: int) -> Batch:
    n = len(pins)
    return events(n, action=A.CREATE_PIN, pin=pins, id=range(1, n + 1), interests=[[pin, 100] for pin in pins])


def change(action: Action, pin: int, target: int = 0, interests: list[int] | None = None) -> Batch:
    return events(1, action=action, pin=pin, target=target, interests=[interests or []])


@pytest.fixture(params=[1, 2], ids=["one shard", "two shards"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        made = World(tmp_path, stack, request.param)
        made.publish(created(1, 2, 3))
        yield made


ALL = ([([1, 100], False), ([2, 100], False), ([3, 100], False), ([], False)], False)


def test_what_is_known_and_unchanged_is_not_asked_again(world: World) -> None:
    assert world.known(1, 2, 3, 4) == ALL
    assert world.asked() == [1, 2, 3, 4]
    assert world.known(1, 2, 3, 4) == ALL
    assert world.asked() == []
    world.publish(events(2, action=[A.SAVE, A.IMPRESSION], user=1, pin=[1, 2], board=7))
    assert world.known(4, 2) == ([([], False), ([2, 100], False)], False)
    assert world.asked() == [], "actions on a pin change nothing of it"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (change(A.JOIN_INTEREST, 2, 55), ([2, 100, 55], False)),
        (change(A.LEAVE_INTEREST, 2, 100), ([2], False)),
        (change(A.UPDATE_PIN, 2, interests=[9, 8]), ([2, 100, 9, 8], False)),
        (change(A.TAKEDOWN, 2), ([2, 100], True)),
    ],
    ids=["join", "leave", "update", "takedown"],
)
def test_a_pin_that_changed_is_asked_for_again(world: World, changed: Batch, expected: tuple[list[int], bool]) -> None:
    world.known(1, 2, 3)
    world.asked()
    world.publish(changed)
    for asked in ([2], []):
        assert world.known(1, 2, 3)[0] == [([1, 100], False), expected, ([3, 100], False)]
        assert world.asked() == asked


def test_a_pin_that_comes_to_be_is_known(world: World) -> None:
    assert world.known(4)[0] == [([], False)]
    world.publish(created(4))
    assert world.known(4)[0] == [([4, 100], False)]


def test_an_answer_that_lacks_a_change_heard_of_here_is_not_kept(world: World) -> None:
    records = world.publish(change(A.TAKEDOWN, 2), to_rockstore=False)
    assert world.known(2)[0] == [([2, 100], False)], "rockstore has not heard of it"
    world.to_rockstore(records)
    assert world.known(2)[0] == [([2, 100], True)]
    world.asked()
    assert world.known(2)[0] == [([2, 100], True)]
    assert world.asked() == []


def test_a_read_that_must_see_a_write_does_not_take_what_may_lack_it(world: World) -> None:
    world.known(1, 2)
    world.asked()
    records = world.publish(change(A.JOIN_INTEREST, 2, 55), to_realpin=False)
    token = tokens.encode(world.ends)
    assert world.known(1, 2)[0] == [([1, 100], False), ([2, 100], False)], "not heard of here"
    assert world.known(1, 2, token=token)[0] == [([1, 100], False), ([2, 100, 55], False)]
    assert world.asked() == [1, 2]
    world.cached.view.apply(records)
    for asked in ([2], []):
        assert world.known(1, 2, token=token)[0] == [([1, 100], False), ([2, 100, 55], False)]
        assert world.asked() == asked


def test_without_rockstore_what_is_kept_is_answered(world: World) -> None:
    world.known(1, 2)
    world.serving.close()
    assert world.known(1, 2) == ([([1, 100], False), ([2, 100], False)], False)
    assert world.known(1, 3) == ([([1, 100], False), ([], False)], True)
    world.cached.view.apply(world.offsets.append(change(A.TAKEDOWN, 1), TOPICS))
    assert world.known(1, 2) == ([([], False), ([2, 100], False)], True)


def test_memory_is_bounded(tmp_path: Path) -> None:
    with ExitStack() as stack:
        world = World(tmp_path, stack, 1)
        for first in range(1, 10_001, 1000):
            pins = range(first, first + 1000)
            world.publish(created(*pins))
            assert world.known(*pins)[0][-1] == ([first + 999, 100], False)
        assert world.cached.words.bytes() <= 1 << 20
        assert 4000 < len(world.cached.words) < 10_000
        world.asked()
        world.known(*range(9001, 10_001))
        assert world.asked() == []
