"""The contract of every backend of the membership (services/rpc/membership.py)."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import pytest

from services.core import summed
from services.core.errors import NotFound
from services.core.settings import MeshSettings
from services.rpc import mesh as meshes
from services.rpc.membership import Address, FileMembership, Following, Members, Membership, MemoryMembership
from tests.services.children import until


def at(service: str, shard: int, port: int, shards: int = 1, replica: int = 0, zone: str = "local") -> Address:
    address = f"127.0.0.1:{port}"
    return Address(service=service, shard=shard, shards=shards, address=address, replica=replica, zone=zone)


FIRST = [at("apiary", 0, 1), at("polaris", 1, 3, 2), at("polaris", 0, 2, 2)]
SECOND = [*FIRST[1:], at("apiary", 0, 4)]
THIRD = [*SECOND, at("polaris", 1, 7, 2, 1, "b"), at("polaris", 0, 6, 2, 1, "b")]


class Backend(Protocol):
    """A membership that described FIRST, and how it changes."""

    membership: Membership

    def change(self, processes: Sequence[Address]) -> None:
        """Describe these; watchers have been called when it returns."""
        ...


class Memory:
    def __init__(self, folder: Path) -> None:
        self.membership = MemoryMembership(FIRST)

    def change(self, processes: Sequence[Address]) -> None:
        self.membership.change(processes)


class File:
    """Looked at when a test says so; by itself it would be in an hour."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "mesh.json"
        self._write(FIRST)
        self.membership = FileMembership(self.path, meshes.load(self.path).processes, every_s=3600.0)

    def _write(self, processes: Sequence[Address]) -> None:
        meshes.save(meshes.resolve({"mesh": MeshSettings()}, list(processes)), self.path)

    def change(self, processes: Sequence[Address]) -> None:
        self._write(processes)
        self.membership.look()


BACKENDS = [Memory, File]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    made: Backend = request.param(tmp_path)
    return made


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path)


def test_the_processes_of_a_service_come_by_shard(backend: Backend) -> None:
    members = backend.membership.current()
    assert [p.address for p in members.of("polaris")] == ["127.0.0.1:2", "127.0.0.1:3"]
    with pytest.raises(NotFound, match="this mesh has no pixie; it has apiary, polaris"):
        members.of("pixie")


def test_replicas_come_beside_each_other_each_with_its_zone(backend: Backend) -> None:
    backend.change(THIRD)
    found = backend.membership.current().of("polaris")
    assert [(p.shard, p.replica, p.zone, p.name, p.folder) for p in found] == [
        (0, 0, "local", "polaris-0", "0of2"),
        (0, 1, "b", "polaris-0.1", "0of2.replica1"),
        (1, 0, "local", "polaris-1", "1of2"),
        (1, 1, "b", "polaris-1.1", "1of2.replica1"),
    ]


def test_a_change_is_delivered_once_and_is_current(backend: Backend) -> None:
    seen: list[Members] = []
    stop = backend.membership.watch(seen.append)
    backend.change(FIRST)
    assert seen == [], "it is as it was"
    backend.change(SECOND)
    backend.change(SECOND)
    assert seen == [Members(tuple(SECOND))] == [backend.membership.current()]
    stop()


def test_changes_come_in_order_to_all_watchers_until_they_stop(backend: Backend) -> None:
    one: list[str] = []
    two: list[str] = []
    watch = backend.membership.watch
    stop_one = watch(lambda members: one.append(members.of("apiary")[0].address))
    stop_two = watch(lambda members: two.append(members.of("apiary")[0].address))
    backend.change(SECOND)
    stop_one()
    stop_one()
    backend.change(FIRST)
    stop_two()
    backend.change(SECOND)
    assert (one, two) == (["127.0.0.1:4"], ["127.0.0.1:4", "127.0.0.1:1"])


def test_what_a_watcher_raises_harms_no_other(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    def fail(members: Members) -> None:
        raise RuntimeError("lost")

    seen: list[Members] = []
    stops = [backend.membership.watch(fail), backend.membership.watch(seen.append)]
    backend.change(SECOND)
    assert len(seen) == 1
    assert "RuntimeError: lost" in caplog.text
    for stop in stops:
        stop()


def test_a_watcher_may_stop_itself_and_others(backend: Backend) -> None:
    calls: list[str] = []

    def first(members: Members) -> None:
        calls.append("first")
        stop_first()
        stop_second()

    stop_first = backend.membership.watch(first)
    stop_second = backend.membership.watch(lambda members: calls.append("second"))
    backend.change(SECOND)
    backend.change(FIRST)
    assert calls == ["first"]


def test_a_reader_without_a_watch_sees_the_newest(backend: Backend) -> None:
    following = Following(backend.membership)
    assert following.members == Members(tuple(FIRST))
    assert following.news() is None
    backend.change(SECOND)
    backend.change(FIRST)
    backend.change(SECOND)
    assert following.news() == following.members == Members(tuple(SECOND))
    assert following.news() is None
    following.close()
    backend.change(FIRST)
    assert following.news() is None


def test_a_layout_is_whole_with_a_process_of_every_shard() -> None:
    def whole(*processes: Address) -> bool:
        return Members(processes).has_whole("polaris")

    assert whole(*FIRST)
    assert not whole()
    assert not whole(at("polaris", 0, 1, 2))
    assert not whole(at("polaris", 0, 1, 2), at("polaris", 0, 2, 2))
    assert not whole(at("polaris", 0, 1, 1), at("polaris", 1, 2, 2))
    assert whole(*THIRD)
    assert whole(*THIRD[:-1]), "shards may have different numbers of replicas"
    assert whole(at("polaris", 0, 1, 1, 3)), "and a shard need not have the first one"
    assert not whole(at("polaris", 0, 1, 2), at("polaris", 0, 2, 2, 1))
    assert not whole(at("polaris", 0, 1), at("polaris", 0, 2)), "two that are the same replica"


def test_clients_know_the_layout_that_is_asked_and_names_tell_layouts_apart() -> None:
    beside = [msgspec.structs.replace(at("polaris", shard, 20 + shard, 3), asked=False) for shard in range(3)]
    members = Members((*THIRD, *beside))
    assert members.of("polaris") == Members(tuple(THIRD)).of("polaris")
    assert members.has_whole("polaris")
    assert [p.name for p in beside] == ["polaris-0of3", "polaris-1of3", "polaris-2of3"]
    assert not Members((*THIRD, *(msgspec.structs.replace(p, asked=True) for p in beside))).has_whole("polaris")
    with pytest.raises(NotFound, match="this mesh has no polaris"):
        Members(tuple(beside)).of("polaris")


def test_a_file_of_before_replicas_has_one_of_each(tmp_path: Path) -> None:
    path = tmp_path / "mesh.json"
    process = {"service": "apiary", "shard": 0, "shards": 1, "address": "127.0.0.1:1", "zone": "local"}
    path.write_bytes(summed.encoded({"settings": {"mesh": {}}, "processes": [process]}))
    assert meshes.load(path).of("apiary") == [at("apiary", 0, 1)]


@pytest.mark.parametrize("content", [b"", b'{"processes": [', b'{"processes": 7}', b"\xff"])
def test_a_file_that_cannot_be_read_changes_nothing(
    file: File, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file.membership.look()
    file.path.write_bytes(content)
    file.membership.look()
    file.membership.look()
    assert file.membership.current() == Members(tuple(FIRST))
    assert caplog.text.count("can't be read") == 1
    file.path.unlink()
    file.membership.look()
    assert file.membership.current() == Members(tuple(FIRST)), "a mesh that ends removes its file"
    file.change(SECOND)
    assert file.membership.current() == Members(tuple(SECOND))


def test_a_file_is_looked_at_as_long_as_it_is_watched(file: File) -> None:
    membership, changed = FileMembership(file.path, FIRST, every_s=0.01), threading.Event()
    stops = [membership.watch(lambda members: changed.set()), membership.watch(lambda members: None)]
    meshes.save(meshes.resolve({"mesh": MeshSettings()}, SECOND), file.path)
    assert changed.wait(60)
    assert membership.current() == Members(tuple(SECOND))
    before = {thread for thread in threading.enumerate() if thread.name == "membership"}
    for stop in stops:
        stop()
    until(lambda: not any(thread.is_alive() for thread in before))
    changed.clear()
    again = membership.watch(lambda members: changed.set())
    meshes.save(meshes.resolve({"mesh": MeshSettings()}, FIRST), file.path)
    assert changed.wait(60), "and again by those who come later"
    again()


def test_a_mesh_that_is_read_follows_its_file(file: File) -> None:
    assert isinstance(meshes.load(file.path).membership, FileMembership)
    made = meshes.resolve({"mesh": MeshSettings()}, list(FIRST))
    assert made == meshes.load(file.path)
    assert made.membership.current() == Members(tuple(FIRST))
    made.processes.pop()
    assert made.membership.current() == Members(tuple(FIRST[:-1])), "one that is made is as it is"
