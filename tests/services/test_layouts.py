"""Another number of shards while the mesh runs: real processes, readers and writers all the while, and no failed request."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from apiary.client import USER, ApiaryClient
from cli.main import app
from roadrunner.client import open_publisher
from services.blob.opening import open_blobs
from services.core import context
from services.core.columns import ids
from services.core.errors import InvalidArgument, MeshError
from services.ops import layouts
from services.ops.layouts import Layout
from services.ops.planning import plan
from services.ops.supervisor import DataFolder, Supervisor
from services.rpc import mesh as meshes
from services.rpc.membership import Address, MemoryMembership
from services.rpc.mesh import Mesh
from services.rpc.routing import LAYOUT, ReplicaSet
from services.state.manifest import all_of
from tests.services.batches import follows
from tests.services.children import until
from tests.services.test_supervisor import await_ready, followed, sections

USERS = range(1, 13)


@contextmanager
def running(folder: Path, **apiary: Any) -> Iterator[Supervisor]:
    """A mesh of roadrunner and apiary, watched on a thread."""
    data = DataFolder(folder)
    made, stop = (
        Supervisor(plan(sections(folder, mesh={"partitions": 8}, apiary=apiary)), lambda line: None),
        threading.Event(),
    )

    def watch() -> None:
        while not stop.wait(0.05):
            made.watch()

    thread = threading.Thread(target=watch)
    made.start()
    thread.start()
    try:
        await_ready(made.mesh)
        yield made
    finally:
        stop.set()
        thread.join()
        made.stop()
        data.release()


def layout(data: Path, *words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["layout", *map(str, words), "--data", str(data)], env={"COLUMNS": "300"})
    return result.exit_code, " ".join(result.output.split())


def did(data: Path, *words: object) -> str:
    code, said = layout(data, *words)
    assert code == 0, said
    return said


class Readers:
    """Ask without a pause, each reader their own page and what others have; every error and wrong answer is kept."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh, self.stop, self.asked = mesh, threading.Event(), Counter[str]()
        self.wrong: list[str] = []
        self.written: dict[int, tuple[int, bytes]] = dict.fromkeys(
            USERS, (0, b"")
        )  # follows, and the token of the last
        self.thread = threading.Thread(target=lambda: asyncio.run(self.run()))

    async def run(self) -> None:
        client = ApiaryClient(self.mesh)
        try:
            while not self.stop.is_set():
                await asyncio.gather(*(self.ask(client, user) for user in USERS))
        finally:
            await client.close()

    async def ask(self, client: ApiaryClient, user: int) -> None:
        wanted, token = self.written[user]
        try:
            with context.serving(20.0, token):
                found = len((await client.followed(user, 10_000, 20)).users)
            if not min(wanted, 10_000) <= found:
                self.wrong.append(f"user {user} sees {found} of {wanted}")
            followers = int((await client.follower_counts(USER, ids([1]), 20))[0])
            if not (wanted > 0) <= followers <= len(USERS):
                self.wrong.append(f"{followers} followers")
        except MeshError as error:
            self.wrong.append(repr(error))
        self.asked["questions"] += 2

    def __enter__(self) -> "Readers":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()


class Writer:
    """Publishes a follow of each user again and again."""

    def __init__(self, data: Path, readers: Readers) -> None:
        self.data, self.readers, self.stop = data, readers, threading.Event()
        self.thread, self.batches = threading.Thread(target=self.run), 0

    def run(self) -> None:
        with open_publisher(self.data) as publisher:
            while not self.stop.is_set():
                for user in USERS:
                    had, _ = self.readers.written[user]
                    batch = follows(5, first_id=1 + had, user=user)
                    token = publisher.publish(batch.replace(id=batch.id + 1_000_000 * user), 30).token
                    self.readers.written[user] = had + 5, token
                self.batches += 1

    def __enter__(self) -> "Writer":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()


def shards_of(data: Path) -> list[tuple[int, int, bool]]:
    mesh = meshes.load(meshes.mesh_file(data))
    return sorted((p.shards, p.shard, p.asked) for p in mesh.processes if p.service == "apiary")


def test_layouts_change_under_load_without_a_failed_request(tmp_path: Path) -> None:
    """2 -> 3 -> 5 shards, each filled from snapshots of the one before, while everybody reads and writes."""
    with (
        running(tmp_path, shards=2, snapshot_every_s=0.5) as mesh,
        Readers(mesh.mesh) as readers,
        Writer(tmp_path, readers) as writer,
    ):
        before = 2
        for after in (3, 5):
            since = writer.batches
            until(lambda since=since: writer.batches > since + 3, 120)  # type: ignore[misc]
            until(lambda n=before: all(of.ids() for of in all_of(open_blobs(tmp_path), "apiary") if of.shards == n), 60)  # type: ignore[misc]
            did(tmp_path, "add", "apiary", "--shards", after)
            assert layout(tmp_path, "add", "apiary", "--shards", 4)[0] == 1
            did(tmp_path, "switch", "apiary", "--wait", 120)
            assert shards_of(tmp_path) == [(before, i, False) for i in range(before)] + [
                (after, i, True) for i in range(after)
            ]
            asked = readers.asked["questions"]
            until(lambda asked=asked: readers.asked["questions"] > asked + 200, 60)  # type: ignore[misc]
            did(tmp_path, "retire", "apiary")
            assert shards_of(tmp_path) == [(after, i, True) for i in range(after)]
            assert not [path for path in (tmp_path / "apiary").iterdir() if path.name.endswith(f"of{before}")]
            logs = [(tmp_path / "logs" / f"apiary-{i}of{after}.log").read_text() for i in range(after)]
            assert all("made of apiary/" in log for log in logs), "from snapshots, not from the log"
            before = after
        asked = readers.asked["questions"]
        until(lambda: readers.asked["questions"] > asked + 200, 60)
    assert readers.wrong == []
    assert readers.asked["questions"] > 600
    assert layouts.load(tmp_path)["apiary"].serves == 5
    with running(tmp_path, shards=2) as again:
        assert len(again.mesh.of("apiary")) == 5, "the data folder remembers, whatever the settings say"
        token = readers.written[1][1]
        assert len(followed(again.mesh, 1, token)) == min(1_000, readers.written[1][0]), (
            "tokens hold; of many the newest 1,000"
        )


def test_a_switch_waits_for_every_shard_and_goes_back(tmp_path: Path) -> None:
    with running(tmp_path, shards=1) as mesh:
        with open_publisher(tmp_path) as publisher:
            token = publisher.publish(follows(10), 30).token
        code, said = layout(tmp_path, "switch", "apiary")
        assert (code, "has no layout beside its 1 shards" in said) == (1, True), said
        did(tmp_path, "add", "apiary", "--shards", 3)
        state = json.loads(did(tmp_path, "status", "--json"))
        assert [(one["shard"], one["shards"], one["asked"]) for one in state if one["service"] == "apiary"] == [
            (0, 1, True), (0, 3, False), (1, 3, False), (2, 3, False),
        ]  # fmt: skip
        stopped = next(child for child in mesh.children if child.name == "apiary-2of3")
        until(lambda: stopped.process is not None)
        assert stopped.process is not None
        stopped.process.send_signal(19)
        try:
            code, said = layout(tmp_path, "switch", "apiary")
            assert (code, "the layout of 3 shards is not ready" in said) == (1, True), said
            assert len(mesh.mesh.of("apiary")) == 1
        finally:
            stopped.process.send_signal(18)
        did(tmp_path, "switch", "apiary", "--wait", 60)
        assert len(followed(mesh.mesh, 1, token)) == 10
        did(tmp_path, "switch", "apiary", "--wait", 60)
        assert shards_of(tmp_path) == [(1, 0, True), (3, 0, False), (3, 1, False), (3, 2, False)]
        assert len(followed(mesh.mesh, 1, token)) == 10
        did(tmp_path, "retire", "apiary")
        assert shards_of(tmp_path) == [(1, 0, True)]
        assert sorted(path.name for path in (tmp_path / "apiary").iterdir()) == ["0of1"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ("add", "apiary", "--shards", 2),
            2,
            "--shards 2: allowed is another number than 2, at most one a partition, 4",
        ),
        (("add", "apiary", "--shards", 5), 2, "at most one a partition, 4"),
        (("add", "apiary", "--shards", 0), 2, "--shards"),
        (("add", "roadrunner", "--shards", 2), 2, "service = 'roadrunner' has no shards; those that do are apiary"),
        (("add", "apary", "--shards", 3), 2, "service = 'apary' has no shards"),
        (("retire", "apiary"), 1, "has no layout beside its 2 shards; `feedmesh layout add apiary --shards N"),
    ],
)
def test_what_can_not_be_is_refused(tmp_path: Path, words: tuple[Any, ...], code: int, said: str) -> None:
    made = plan(sections(tmp_path))
    made.ports.release()
    meshes.save(made.mesh, meshes.mesh_file(tmp_path))
    found = layout(tmp_path, *words)
    assert (found[0], said in found[1]) == (code, True), found
    assert not layouts.layouts_file(tmp_path).exists()


@pytest.mark.parametrize(
    "of",
    [
        [Address(service="apiary", shard=0, shards=1, address="127.0.0.1:1", host="a")],
        [Address(service="apiary", shard=0, shards=1, replica=i, address=f"apiary-{i}.mesh:1") for i in (0, 1)],
    ],
    ids=["hosts", "a rule"],
)
def test_several_machines_have_their_layouts_by_the_cluster_file(of: list[Address], tmp_path: Path) -> None:
    meshes.save(meshes.resolve(sections(tmp_path), of), meshes.mesh_file(tmp_path))
    for words in (("add", "apiary", "--shards", 2), ("switch", "apiary"), ("retire", "apiary")):
        code, said = layout(tmp_path, *words)
        assert (code, "a mesh on several machines has its layouts by its cluster file" in said) == (2, True), said
    assert not layouts.layouts_file(tmp_path).exists()


def test_without_a_mesh_there_is_nothing_to_change(tmp_path: Path) -> None:
    code, said = layout(tmp_path, "status")
    assert (code, "no mesh runs on this data folder" in said) == (1, True), said


@pytest.mark.parametrize(
    "content", [b"{", b'{"apiary": {"serves": 0}}', b'{"apiary": {"serves": 2, "beside": 2}}', b"[]"]
)
def test_a_file_of_layouts_that_can_not_be_right_is_refused(tmp_path: Path, content: bytes) -> None:
    layouts.layouts_file(tmp_path).write_bytes(content)
    with pytest.raises(InvalidArgument, match="layouts.json: "):
        plan(sections(tmp_path))


def test_a_setting_that_differs_is_reported_and_does_not_count(tmp_path: Path) -> None:
    layouts.save(tmp_path, {"apiary": Layout(3), "gone": Layout(2)})
    made = plan(sections(tmp_path))
    made.ports.release()
    assert len(made.mesh.of("apiary")) == 3
    assert made.notes[0].startswith(
        "[apiary] shards = 2 in the settings, and the layout of this data folder has 3 shards"
    )


# --- routing ----------------------------------------------------------------------------------------------------------


def at(shards: int, first: int, asked: bool = True, replicas: int = 1) -> list[Address]:
    """Of each shard the replicas have the same last digit."""
    return [
        Address(
            service="apiary", shard=i, shards=shards, address=f"127.0.0.1:{first + i}{r or ''}", replica=r, asked=asked
        )
        for i in range(shards)
        for r in range(replicas)
    ]


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_question_that_began_on_a_layout_ends_there(replicas: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards that were named before a switch are those of before, and keys are asked of the new ones from then on."""
    from services.rpc import routing

    asked: list[str] = []

    class Answering:
        def __init__(self, address: str) -> None:
            self.address, self.retired = address, False

        async def call(self, method: str, request: Any, timeout: float) -> str:
            assert not self.retired
            asked.append(self.address)
            return self.address

        async def retire(self) -> None:
            self.retired = True

        async def close(self) -> None:
            self.retired = True

    monkeypatch.setattr(routing, "open_replica", lambda mesh, process: Answering(process.address))
    old, new = at(2, 10, replicas=replicas), at(3, 20, replicas=replicas)
    beside = [[msgspec.structs.replace(p, asked=False) for p in of] for of in (old, new)]
    membership = MemoryMembership([*old, *beside[1]])

    def shard_at(address: str) -> str:
        return address.rpartition(":")[2][:2]

    async def main() -> None:
        made = plan_of(membership)
        of = ReplicaSet(made, "apiary")

        async def call(shard: int) -> str:
            return shard_at(await of.call(shard, "Followed", None, 1))

        assert {of.shard_of(key) for key in range(100)} == {0, 1}
        membership.change([*beside[0], *new])
        assert {of.shard_of(key) for key in range(100)} == {LAYOUT, LAYOUT + 1, LAYOUT + 2}
        assert [await call(shard) for shard in (0, 1, LAYOUT + 2)] == ["10", "11", "22"]
        assert [shard_at(one) for one in await of.all("Followed", None, 1)] == ["20", "21", "22"]
        assert len(await of.every("Followed", None, 1)) == 3 * replicas, "every process of the layout that is asked"
        membership.change([*old, *beside[1]])
        assert {of.shard_of(key) for key in range(100)} == {2 * LAYOUT, 2 * LAYOUT + 1}
        assert await call(LAYOUT + 2) == "22"
        with pytest.raises(MeshError, match="has no shard 0 any more"):
            await call(0)
        await of.close()

    asyncio.run(main())
    assert asked


def plan_of(membership: MemoryMembership) -> Mesh:
    from services.core.settings import MeshSettings

    made = meshes.resolve({"mesh": MeshSettings(partitions=12)}, list(membership.current().processes))
    made.follow(membership)
    return made
