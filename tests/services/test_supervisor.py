"""A mesh on one machine: its plan, its folder, and its processes through kill -9 of any of them."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from apiary.client import ApiaryClient
from cli.schema import SCHEMA
from roadrunner.client import open_publisher
from services.core import context, settings
from services.core.errors import InvalidArgument, MeshError, NotFound, Unavailable
from services.ops import children, supervisor
from services.ops.probe import Health, Probe
from services.ops.supervisor import DataFolder, Supervisor, plan
from services.rpc import mesh as meshes
from services.rpc.mesh import Mesh
from tests.services.batches import follows
from tests.services.children import child, read_line, until

#: A mesh of two services.
SMALL = {name: SCHEMA[name] for name in ("mesh", "learning", "roadrunner", "apiary")}


def sections(data: Path, **changed: dict[str, Any]) -> settings.Sections:
    """Small."""
    small = {"cache_mb": 1, "memtable_mb": 1}
    base: dict[str, dict[str, Any]] = {
        "mesh": {"data": str(data), "partitions": 4, "min_free_mb": 1},
        "roadrunner": {**small},
        "apiary": {"shards": 2, **small},
    }
    return settings.validated({name: values | changed.get(name, {}) for name, values in base.items()}, "test", SMALL)


def planned(of: settings.Sections) -> Mesh:
    """The mesh alone."""
    made = plan(of)
    made.ports.release()
    return made.mesh


# --- the plan -------------------------------------------------------------------------------------------------------


def test_every_process_has_a_port_of_its_own(tmp_path: Path) -> None:
    mesh = planned(sections(tmp_path, apiary={"shards": 4}))
    assert [(p.service, p.shard, p.shards) for p in mesh.processes] == [
        ("roadrunner", 0, 1),
        *(("apiary", i, 4) for i in range(4)),
    ]
    assert len({p.address for p in mesh.processes}) == 5


def test_ports_of_shards_are_consecutive(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    mesh = planned(sections(tmp_path, apiary={"port": port, "shards": 1}))
    assert mesh.of("apiary")[0].address == f"127.0.0.1:{port}"


def test_a_port_in_use_is_refused_by_setting_and_number(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            Unavailable, match=rf"\[apiary\] port: cannot listen on 127.0.0.1:{port}: Address already in"
        ):
            plan(sections(tmp_path, apiary={"port": port}))


def test_a_free_port_stays_the_meshs_own_from_the_plan_until_it_is_stopped(tmp_path: Path) -> None:
    def take(port: int) -> None:
        with socket.create_server(("127.0.0.1", port)):
            pass

    made = plan(sections(tmp_path))
    ports = [int(p.address.rpartition(":")[2]) for p in made.mesh.processes]
    running = Supervisor(made, lambda line: None)
    for port in ports:
        with pytest.raises(OSError, match="Address already in use"):
            take(port)
    running.start()
    try:
        pids = await_ready(made.mesh, running.watch)
        os.kill(pids[1], signal.SIGKILL)
        until(lambda: gone(pids[1]))
        with pytest.raises(OSError, match="Address already in use"):
            take(ports[1])
        await_ready(made.mesh, running.watch)
    finally:
        running.stop()
    for port in ports:
        take(port)


def test_two_services_on_one_port_are_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(Unavailable, match=rf"\[apiary\] port: cannot listen on 127.0.0.1:{port}"):
        plan(sections(tmp_path, roadrunner={"port": port}, apiary={"port": port}))


def test_ports_end_at_65535(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"\[apiary\] port: cannot listen on 127.0.0.1:6553\d: "):
        plan(sections(tmp_path, apiary={"port": 65535, "shards": 2}))


def test_an_address_that_is_not_this_machines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"\[roadrunner\] port: cannot listen on 192.0.2.1:0: Cannot assign"):
        plan(sections(tmp_path, mesh={"host": "192.0.2.1"}))


def test_more_shards_than_partitions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"\[apiary\] shards = 5: at most one a partition, 4"):
        plan(sections(tmp_path, apiary={"shards": 5}))


# --- the folder -----------------------------------------------------------------------------------------------------


def test_a_folder_has_one_mesh_at_a_time_and_names_it(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    with pytest.raises(Unavailable, match=f"a mesh is running on this data folder already .process {os.getpid()}."):
        DataFolder(tmp_path)
    folder.release()
    DataFolder(tmp_path).release()


def test_a_folder_of_another_format_is_refused_and_let_go(tmp_path: Path) -> None:
    DataFolder(tmp_path).release()
    (tmp_path / "FORMAT").write_text("feedmesh data 99\n")
    for _ in range(2):
        with pytest.raises(
            InvalidArgument, match="was written as 'feedmesh data 99', this version reads 'feedmesh data 1'"
        ):
            DataFolder(tmp_path)


def test_what_cannot_be_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgument, match="file: cannot be the data folder: Not a directory"):
        DataFolder(tmp_path / "file")


def test_a_mesh_file_is_read_as_it_was_written_or_refused(tmp_path: Path) -> None:
    mesh, path = planned(sections(tmp_path)), meshes.mesh_file(tmp_path)
    with pytest.raises(NotFound, match=r"mesh.json: no mesh runs on this data folder; start one with `feedmesh up`"):
        meshes.load(path)
    meshes.save(mesh, path)
    assert meshes.load(path) == mesh
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(NotFound, match=r"mesh.json: is no mesh file: "):
        meshes.load(path)


# --- the processes --------------------------------------------------------------------------------------------------


def health(mesh: Mesh) -> list[Health]:
    async def main() -> list[Health]:
        probe = Probe(mesh)
        try:
            return await probe.ask()
        finally:
            await probe.close()

    return asyncio.run(main())


def pids(mesh: Mesh) -> list[int]:
    """Of every process; 0 of one that is not ready."""
    return [h.status.pid if h.ready and h.status else 0 for h in health(mesh)]


def await_ready(mesh: Mesh, watch: Any = lambda: None) -> list[int]:
    found: list[int] = []

    def look() -> bool:
        watch()
        found[:] = pids(mesh)
        return all(found)

    until(look, 120)
    return found


def followed(mesh: Mesh, user: int, token: bytes) -> set[int]:
    """The page of a reader who has just written."""

    async def main() -> set[int]:
        client = ApiaryClient(mesh)
        try:
            with context.serving(30.0, token):
                return {int(i) for i in (await client.followed(user, 1000, 30)).users}
        finally:
            await client.close()

    return asyncio.run(main())


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def mesh_of_two(tmp_path: Path) -> Iterator[tuple[Supervisor, list[str]]]:
    told: list[str] = []
    running = Supervisor(plan(sections(tmp_path)), told.append)
    running.start()
    try:
        yield running, told
    finally:
        running.stop()


def test_children_come_back_after_kill_9_with_all_that_was_acknowledged(
    mesh_of_two: tuple[Supervisor, list[str]], tmp_path: Path
) -> None:
    running, told = mesh_of_two
    mesh = running.mesh
    first = before = await_ready(mesh, running.watch)
    expected: set[int] = set()
    for turn, victim in enumerate((1, 2, 0)):
        with open_publisher(tmp_path) as publisher:
            batch = follows(20, first_id=1 + 20 * turn, user=turn % 2 + 1)
            token = publisher.publish(batch, 30).token
        expected |= {*batch.target.tolist()} if turn % 2 == 0 else set()
        os.kill(before[victim], signal.SIGKILL)
        until(lambda pid=before[victim]: gone(pid))  # type: ignore[misc]
        running.watch()
        after = await_ready(mesh, running.watch)
        assert [old == new for old, new in zip(before, after, strict=True)] == [i != victim for i in range(3)]
        assert followed(mesh, 1, token) == expected
        before = after
    assert [line.split(" was ")[0] for line in told if "SIGKILL" in line] == ["apiary-0", "apiary-1", "roadrunner-0"]
    assert sum("starts again" in line for line in told) == 3
    assert not set(first) & set(before)
    assert running.stop() == []
    assert all(gone(pid) for pid in before), "all drained by themselves"
    assert not meshes.mesh_file(tmp_path).exists()


SUPERVISOR = """
    import sys
    import time
    from pathlib import Path
    from services.ops import supervisor
    from tests.services.test_supervisor import sections

    folder = supervisor.DataFolder(Path(sys.argv[1]))
    running = supervisor.Supervisor(supervisor.plan(sections(folder.path)), lambda line: None)
    running.start()
    print("started", flush=True)
    while True:
        running.watch()
        time.sleep(0.05)
"""


def test_children_end_by_themselves_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    with child(SUPERVISOR, tmp_path) as running:
        assert read_line(running) == "started"
        mesh = meshes.load(meshes.mesh_file(tmp_path))
        children = await_ready(mesh)
        with pytest.raises(Unavailable, match=f"already .process {running.pid}."):
            DataFolder(tmp_path)
        running.kill()
        running.wait()
        until(lambda: all(gone(pid) for pid in children), 30)
    DataFolder(tmp_path).release()
    for process in mesh.processes:
        assert "drained" in (tmp_path / "logs" / f"{process.service}-{process.shard}.log").read_text()


def test_a_child_that_cannot_start_is_given_up_with_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "roadrunner" / "0of1").parent.mkdir(parents=True)
    (tmp_path / "roadrunner" / "0of1").write_text("no folder")
    running = Supervisor(plan(sections(tmp_path)), lambda line: None)
    for one in running.children:
        one.backoff_s = supervisor.MAX_BACKOFF_S / 2  # as after the first three deaths
        one.restarts = 3
    running.start()
    end = time.monotonic() + 60
    try:
        with pytest.raises(Unavailable, match="roadrunner-0 does not start: .*0of1.*; log: .*roadrunner-0.log"):
            while time.monotonic() < end:
                running.watch()
                running.fail_fast()
                time.sleep(0.01)
    finally:
        running.stop()


def test_a_process_that_is_away_is_told_as_such(tmp_path: Path) -> None:
    for h in health(planned(sections(tmp_path))):
        assert not h.ready
        assert h.why.startswith(h.of.service)
    with pytest.raises(MeshError), open_publisher(tmp_path):
        pass


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_why_a_child_was_started_again_is_written_down(tmp_path: Path, how: signal.Signals) -> None:
    """A child that hangs is stopped here: it neither dies nor answers, as in a deadlock."""
    running = Supervisor(plan(sections(tmp_path, mesh={"hang_s": 1.0})), lambda line: None)
    running.children[1].log.write_text("error: said by one that ran last week\n")
    running.start()
    try:
        before = await_ready(running.mesh, running.watch)
        until(lambda: running._heartbeat.silent_s(running.children[1].of.address, before[1]) == 0.0, 60)
        os.kill(before[1], how)

        def started_again() -> bool:
            running.watch()
            return running.children[1].restarts > 0

        until(started_again, 60)
        after = await_ready(running.mesh, running.watch)
        assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]
        fates = children.load(children.children_file(tmp_path))
        assert {name: fate.restarts for name, fate in fates.items()} == {
            "roadrunner-0": 0,
            "apiary-0": 1,
            "apiary-1": 0,
        }
        words = {signal.SIGSTOP: "gave no answer for 1 s and was killed", signal.SIGKILL: "was killed by SIGKILL"}
        [found] = fates["apiary-0"].exits
        assert found.why == words[how]
        assert found.log.endswith(": ready"), "its own last line, since it said nothing of an error"
    finally:
        running.stop()


def test_a_child_that_hangs_before_its_first_answer_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "START_HANG_S", 2.0)
    running = Supervisor(plan(sections(tmp_path, mesh={"hang_s": 1.0})), lambda line: None)
    running.start()
    try:
        started = running.children[1].process
        assert started
        os.kill(started.pid, signal.SIGSTOP)

        def started_again() -> bool:
            running.watch()
            return running.children[1].restarts > 0

        until(started_again, 60)
        assert running.children[1].exits[0].why == "gave no answer for 2 s and was killed"
        assert await_ready(running.mesh, running.watch)[1] != started.pid
    finally:
        running.stop()


def test_a_supervisor_that_was_stopped_itself_takes_no_child_for_hung(tmp_path: Path) -> None:
    with child(SUPERVISOR, tmp_path) as running:
        assert read_line(running) == "started"
        mesh = meshes.load(meshes.mesh_file(tmp_path))
        before = await_ready(mesh)
        stopped = [running.pid, *before]  # the whole machine sleeps
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in stopped:
                os.kill(pid, number)
        assert await_ready(mesh) == before
    until(lambda: all(gone(pid) for pid in before), 30)


def test_what_is_no_file_of_children_is_none(tmp_path: Path) -> None:
    path = tmp_path / "children.json"
    assert children.load(path) == {}
    for content in (b"", b"[]", b'{"apiary-0": 3}', b"\xff"):
        path.write_bytes(content)
        assert children.load(path) == {}
