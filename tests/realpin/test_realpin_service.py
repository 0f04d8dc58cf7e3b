"""Realpin asked over real RPCs, with a rockstore that knows the pins: one shard and several give the same answers."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protos.realpin_pb2_grpc import add_RealpinServicer_to_server
from protos.rockstore_pb2_grpc import add_RockstoreServicer_to_server
from realpin import layout
from realpin.client import RealpinClient, Signals
from realpin.interests import Interests
from realpin.layout import MINUTE_MS
from realpin.service import Realpin
from realpin.settings import Settings
from realpin.signals import decay_of
from realpin.store import TOPICS, RealpinStore
from rockstore import layout as rockstore_layout
from rockstore.client import RockstoreClient
from rockstore.service import Rockstore
from rockstore.store import TOPICS as OBJECTS
from rockstore.store import RockstoreStore
from services.core.clock import DAY_MS
from services.core.errors import InvalidArgument
from services.core.events import Action, Batch, events
from services.log.memory import MemoryLog
from services.rpc.bridge import Bridge
from services.rpc.local import LocalMesh
from services.rpc.mesh import Mesh
from services.rpc.server import AddServicer
from tests.kit import asked, open_shards, serve_services

PARTITIONS = 6
NOW = 1_700_000_000_000
A = Action


def a_world() -> Batch:
    """Pin p is of interest p // 10 (and those from 50 on of 900 too); user 1 likes 10s, hid a 20, pin 31 is taken down."""
    pins = range(10, 60)
    interests = [[p // 10] if p < 50 else [p // 10, 900] for p in pins]
    made = events(50, action=A.CREATE_PIN, pin=pins, at_ms=NOW - 9 * DAY_MS, id=range(1, 51), interests=interests)
    rows = [
        (A.SAVE, 1, 11, 70, NOW - 30 * DAY_MS),
        (A.SAVE, 1, 12, 71, NOW - 3000),
        (A.CLOSEUP, 1, 12, 0, NOW - 2000),
        (A.SAVE, 1, 21, 72, NOW - 5000),
        (A.HIDE, 1, 21, 0, NOW - 4000),
        (A.CLICK, 1, 31, 0, NOW - 1000),
        (A.SAVE, 1, 51, 73, NOW),
        (A.IMPRESSION, 1, 22, 0, NOW - 20 * MINUTE_MS),
        *((A.SAVE, user, user + 8, 70, NOW - user) for user in range(2, 20)),
    ]
    action, user, pin, board, at_ms = zip(*rows, strict=True)
    n = len(rows)
    done = events(n, action=action, user=user, pin=pin, board=board, at_ms=at_ms, id=range(100, 100 + n))
    return Batch.concat([made, done, events(1, action=A.TAKEDOWN, pin=31, at_ms=NOW, id=999)])


@contextmanager
def rockstores(folder: Path, shards: int) -> Iterator[list[list[AddServicer]]]:
    """The servicers of a rockstore that has applied the world."""
    records = MemoryLog(PARTITIONS).append(a_world(), OBJECTS)
    form, families = rockstore_layout.FORMAT, rockstore_layout.FAMILIES
    with open_shards(folder / "rockstore", form, families, shards, PARTITIONS) as opened:
        yield [[rockstore(RockstoreStore(shard, own, PARTITIONS), own, records)] for shard, own in opened]


def rockstore(store: RockstoreStore, own: range, records: list[Any]) -> AddServicer:
    store.apply([record for record in records if record.partition in own])
    return lambda server: add_RockstoreServicer_to_server(Rockstore(store), server)


@contextmanager
def realpin(folder: Path, shards: int, knows: Mesh, settings: Settings) -> Iterator[Mesh]:
    """A realpin of several shards that has applied the world, and asks the rockstore of a mesh."""
    records = MemoryLog(PARTITIONS).append(a_world(), TOPICS)
    with ExitStack() as stack:
        opened = stack.enter_context(
            open_shards(folder / "realpin", layout.FORMAT, layout.FAMILIES, shards, PARTITIONS)
        )
        servicers = []
        for shard, own in opened:
            store = RealpinStore(shard, PARTITIONS, lambda: NOW, settings.actions_kept, settings.impression_weight != 0)
            store.apply([record for record in records if record.partition in own])
            interests = interests_of(knows, stack)
            servicers.append([servicer(Realpin(store, decay_of(settings), interests, settings.pins_looked_at))])
        yield stack.enter_context(serve_services({"realpin": servicers}, PARTITIONS))


def interests_of(mesh: Mesh, stack: ExitStack) -> Interests:
    bridge = Bridge()
    interests = Interests(bridge, bridge.make(lambda: RockstoreClient(mesh)))
    stack.callback(interests.close)
    return interests


def servicer(service: Realpin) -> AddServicer:
    return lambda server: add_RealpinServicer_to_server(service, server)


@contextmanager
def a_mesh(folder: Path, shards: int = 1, settings: Settings | None = None) -> Iterator[Mesh]:
    with (
        rockstores(folder, shards) as servicers,
        serve_services({"rockstore": servicers}, PARTITIONS) as knows,
        realpin(folder, shards, knows, settings or Settings()) as mesh,
    ):
        yield mesh


def signals(mesh: Mesh, user: int = 1, pins: int = 100, interests: int = 100, now_ms: int = 0) -> Signals:
    async def ask(client: RealpinClient) -> Signals:
        return await client.signals(user, pins=pins, interests=interests, now_ms=now_ms, timeout=5)

    return asked(RealpinClient, mesh, ask)


def about(found: Signals) -> tuple[dict[int, float], dict[int, float]]:
    """Weights by pin and affinities by interest."""
    pins = dict(zip(found.pins.tolist(), found.weights.tolist(), strict=True))
    return pins, dict(zip(found.interests.tolist(), found.affinities.tolist(), strict=True))


@pytest.mark.parametrize("shards", [1, 2])
def test_what_a_user_is_about(tmp_path: Path, shards: int) -> None:
    with a_mesh(tmp_path, shards) as mesh:
        found = signals(mesh)
        others = [signals(mesh, user) for user in range(2, 20)]
    weights, affinities = about(found)
    assert list(weights) == [12, 51, 11], "greatest weight first; hidden and taken down pins are not among them"
    assert weights == pytest.approx({12: 5, 51: 4, 11: 2}, rel=1e-3)
    assert found.boards.tolist() == [0, 73, 70], "of the last action"
    assert found.at_ms.tolist() == [NOW - 2000, NOW, NOW - 30 * DAY_MS]
    root = 2**0.5
    assert list(affinities) == [1, 5, 900, 3, 2], "greatest affinity first"
    assert affinities == pytest.approx({1: 7, 5: 4 / root, 900: 4 / root, 3: 2, 2: -8}, rel=1e-3)
    assert found.windows_ms.tolist() == [600_000, 3_600_000, 86_400_000]
    assert found.counts.tolist() == [[0, 1, 1, 3, 1], [1, 1, 1, 3, 1], [1, 1, 1, 3, 1]]
    assert found.newest_ms == NOW
    assert not found.interests_lost
    assert [about(other)[0] for other in others] == [{user + 8: 4.0} for user in range(2, 20)]
    assert [list(about(other)[1]) for other in others] == [[(user + 8) // 10] for user in range(2, 20)]


def test_as_many_as_asked_for_and_as_of_then(tmp_path: Path) -> None:
    with a_mesh(tmp_path) as mesh:
        few, nothing = signals(mesh, pins=1, interests=2), signals(mesh, pins=0, interests=0)
        then, before = signals(mesh, now_ms=NOW - 4500), signals(mesh, now_ms=NOW - 40 * DAY_MS)
    assert few.pins.tolist() == [12]
    assert few.interests.tolist() == [1, 2], "one of each sign, however many a user hides"
    assert (len(nothing.pins), len(nothing.interests)) == (0, 0)
    assert nothing.counts[2].tolist() == [1, 1, 1, 3, 1]
    weights, affinities = about(then)
    assert weights == pytest.approx({21: 4, 11: 2}, rel=1e-3), "pin 21 was not hidden yet"
    assert list(affinities) == [2, 1]
    assert then.newest_ms == NOW - 5000
    assert (len(before.pins), len(before.interests), before.newest_ms, before.counts.sum()) == (0, 0, 0, 0)


def test_an_unknown_user_has_empty_signals(tmp_path: Path) -> None:
    with a_mesh(tmp_path, 2) as mesh:
        found = signals(mesh, user=12345)
    assert about(found) == ({}, {})
    assert (found.newest_ms, found.interests_lost, found.counts.tolist()) == (0, False, [[0] * 5] * 3)


def test_settings_change_what_counts(tmp_path: Path) -> None:
    given = Settings(closeup_weight=0, save_weight=1, save_half_life_days=10, hide_weight=0, impression_weight=-2)
    with a_mesh(tmp_path, 1, given) as mesh:
        weights, affinities = about(signals(mesh))
    assert weights == pytest.approx({12: 1, 51: 1, 11: 1 / 8}, rel=1e-3)
    assert affinities[2] == pytest.approx(-2, rel=0.02), "an impression of pin 22; hides weigh nothing"


def test_only_the_pins_looked_at_count(tmp_path: Path) -> None:
    with a_mesh(tmp_path, 1, Settings(pins_looked_at=2)) as mesh:
        found = signals(mesh)
    assert found.pins.tolist() == [12]
    assert found.interests.tolist() == [1, 2]


def test_without_rockstore_pins_are_answered_without_interests(tmp_path: Path) -> None:
    with ExitStack() as stack:
        with rockstores(tmp_path, 1) as servicers, serve_services({"rockstore": servicers}, PARTITIONS) as knows:
            mesh = stack.enter_context(realpin(tmp_path, 1, knows, Settings()))
            assert not signals(mesh).interests_lost
        found, unknown = signals(mesh), signals(mesh, user=12345)
    assert found.interests_lost
    assert found.pins.tolist() == [12, 51, 11, 31], "not known to be taken down"
    assert len(found.interests) == 0
    assert found.counts[0].tolist() == [0, 1, 1, 3, 1]
    assert not unknown.interests_lost, "there is nothing to ask of"


def test_a_rockstore_that_hangs_leaves_time_for_the_answer(tmp_path: Path) -> None:
    ended = threading.Event()

    def hang(*_: object) -> None:
        ended.wait(30)

    with (
        rockstores(tmp_path, 1) as servicers,
        serve_services({"rockstore": servicers}, PARTITIONS, wait=hang) as knows,
        realpin(tmp_path, 1, knows, Settings()) as mesh,
    ):
        found = asked(RealpinClient, mesh, lambda client: client.signals(1, pins=9, interests=9, timeout=1))
        ended.set()
    assert found.interests_lost
    assert found.pins.tolist() == [12, 51, 11, 31]


def test_a_local_mesh_gives_the_same_answers(tmp_path: Path) -> None:
    with a_mesh(tmp_path / "served") as mesh:
        served = signals(mesh)
    with ExitStack() as stack:
        form, families = rockstore_layout.FORMAT, rockstore_layout.FAMILIES
        [(known, own)] = stack.enter_context(open_shards(tmp_path / "a", form, families, 1, PARTITIONS))
        objects = RockstoreStore(known, own, PARTITIONS)
        objects.apply(MemoryLog(PARTITIONS).append(a_world(), OBJECTS))
        [(shard, _)] = stack.enter_context(open_shards(tmp_path / "b", layout.FORMAT, layout.FAMILIES, 1, PARTITIONS))
        store = RealpinStore(shard, PARTITIONS, lambda: 0)
        store.apply(MemoryLog(PARTITIONS).append(a_world(), TOPICS))
        mesh_settings = {"mesh": {"partitions": PARTITIONS}}
        local = LocalMesh(settings=mesh_settings, processes=[], servicers={"rockstore": Rockstore(objects)})
        service = Realpin(store, decay_of(Settings()), interests_of(local, stack), Settings().pins_looked_at)
        local.servicers["realpin"] = service
        replayed = signals(local, now_ms=NOW)
    assert [np.asarray(one).tolist() for one in served] == [np.asarray(one).tolist() for one in replayed]


def test_nonsense_is_refused_by_name(tmp_path: Path) -> None:
    with a_mesh(tmp_path) as mesh:
        with pytest.raises(InvalidArgument, match="user = 0: a user's id is 1 to 18446744073709551615"):
            signals(mesh, user=0)
        with pytest.raises(InvalidArgument, match="pins = 1001: allowed are 0 to 1000"):
            signals(mesh, pins=1001)
        with pytest.raises(InvalidArgument, match="interests = 4294967295: allowed are 0 to 1000"):
            signals(mesh, interests=2**32 - 1)
        with pytest.raises(InvalidArgument, match="now_ms = -1: allowed are Unix milliseconds from 0"):
            signals(mesh, now_ms=-1)


def test_many_at_once(tmp_path: Path) -> None:
    async def ask(client: RealpinClient) -> list[Signals]:
        return list(await asyncio.gather(*(client.signals(1, pins=9, interests=9, timeout=10) for _ in range(50))))

    with a_mesh(tmp_path, 2) as mesh:
        found = asked(RealpinClient, mesh, ask)
    assert {tuple(each.interests.tolist()) for each in found} == {(1, 5, 900, 3, 2)}
