"""Processes of two zones, each started by itself as in a pod, find each other by the rule of a cluster file.

The rule gives them addresses of this machine in place of names in DNS: 127.0.1<ordinal>.<zone>.
"""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from apiary.client import ApiaryClient
from services.core.errors import MeshError
from services.rpc import mesh as meshes
from services.rpc.mesh import Mesh, mesh_file
from services.rpc.server import ALIVE
from tests.mesh.command import FEEDMESH, WIDE, feedmesh, refused
from tests.running import READY_WITHIN_S

ZONES = ("2", "3")
FIRST_PORT, HTTP_PORT = 22_400, 22_000
#: A part of a mesh: what an event passes, the edge that takes it, and a view with two shards that shows it.
RUN = [("roadrunner", "2", 0), ("rockstore", "2", 0), ("web", "2", 0)] + [
    ("apiary", z, n) for z in ZONES for n in (0, 1)
]


def written(folder: Path) -> Path:
    path = folder / "cluster.toml"
    path.write_text(
        f"[cluster]\nport = {FIRST_PORT}\n"
        f'[rule]\nzones = {list(ZONES)}\nhost = "127.0.1{{ordinal}}.{{zone}}"\nscaled_host = "127.0.100.{{zone}}"\nlisten = ""\n'
        f'[mesh]\nblobs = "file://{folder / "blobs"}"\nunix_sockets = false\n[web]\nhttp_port = {HTTP_PORT}\n'
        "[apiary]\nshards = 2\n"
    )
    return path


class Pod:
    """One process, which is started again as a kubelet would, when the test says so."""

    def __init__(self, folder: Path, service: str, zone: str, ordinal: int) -> None:
        self.name, self._folder = f"{service}-{zone}-{ordinal}", folder
        self._command = [str(FEEDMESH), "serve", "--cluster", str(folder / "cluster.toml"), "--service", service]
        self._command += ["--data", str(folder / self.name)]
        self._command += ["--address", f"127.0.100.{zone}"] if service == "web" else ["--ordinal", str(ordinal)]
        self._env = WIDE | {"FEEDMESH_ZONE": zone}
        self.start()

    def start(self) -> None:
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def said(self) -> str:
        return (self._folder / f"{self.name}.log").read_text()

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@contextmanager
def running(folder: Path, service: str, zone: str, ordinal: int) -> Iterator[Pod]:
    pod = Pod(folder, service, zone, ordinal)
    try:
        yield pod
    finally:
        pod.process.kill()
        pod.process.wait()


def health(address: str, name: str = "") -> int:
    """As the kubelet asks."""
    with grpc.insecure_channel(address) as channel:
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            return int(stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=1).status)
        except grpc.RpcError:
            return 0


def until_ready(mesh: Mesh, pods: list[Pod]) -> None:
    end = time.monotonic() + READY_WITHIN_S
    for of in mesh.processes:
        if f"{of.service}-{of.zone}-{of.shard}" in {pod.name for pod in pods}:
            while health(of.address) != health_pb2.HealthCheckResponse.SERVING:
                for pod in pods:
                    assert pod.process.poll() is None, f"{pod.name}: {pod.said}"
                assert time.monotonic() < end, f"{of.name} at {of.address}: {[pod.said for pod in pods]}"
                time.sleep(0.1)


def followed(mesh: Mesh, user: int) -> list[int]:
    async def ask() -> list[int]:
        client = ApiaryClient(mesh)
        try:
            return [int(one) for one in (await client.followed(user, 10, 5)).users]
        finally:
            await client.close()

    return asyncio.run(ask())


def until_followed(mesh: Mesh, user: int, wanted: list[int]) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            found = followed(mesh, user)
        except MeshError as error:
            found = [str(error)]  # type: ignore[list-item]
        if found == wanted:
            return
        assert time.monotonic() < end, found
        time.sleep(0.1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Pod]]]:
    folder = tmp_path_factory.mktemp("rule")
    path = written(folder)
    for zone in ZONES:
        described = feedmesh("describe", "--cluster", path, "--zone", zone, "--data", folder / f"beside-{zone}")
        assert described.returncode == 0, described.stderr
    with ExitStack() as stack:
        pods = [stack.enter_context(running(folder, *one)) for one in RUN]
        until_ready(meshes.load(mesh_file(folder / "beside-2")), pods)
        yield folder, {pod.name: pod for pod in pods}


def test_what_is_written_at_one_is_read_in_either_zone(cluster: tuple[Path, dict[str, Pod]]) -> None:
    folder, _ = cluster
    for user in range(1, 9):  # of both shards
        done = feedmesh("event", "follow_user", "--user", user, "--target", user + 1, "--data", folder / "beside-2")
        assert done.returncode == 0, done.stderr
    for zone in ZONES:
        mesh = meshes.load(mesh_file(folder / f"beside-{zone}"))
        assert mesh.common.zone == zone
        for user in range(1, 9):
            until_followed(mesh, user, [user + 1])


def test_a_process_has_the_place_that_its_zone_and_ordinal_give_it(cluster: tuple[Path, dict[str, Pod]]) -> None:
    folder, pods = cluster
    mesh = meshes.load(mesh_file(folder / "apiary-3-1"))
    own = next(of for of in mesh.of("apiary") if of.address == f"127.0.11.3:{FIRST_PORT + 200}")
    assert (own.shard, own.shards, own.replica, own.zone) == (1, 2, 1, "3")
    assert (folder / "apiary-3-1" / "apiary" / "1of2.replica1").is_dir()
    assert "apiary-1.1 at 127.0.11.3" in pods["apiary-3-1"].said
    assert health(own.address, ALIVE) == health_pb2.HealthCheckResponse.SERVING


def test_a_zone_that_is_away_is_answered_for_by_the_other(cluster: tuple[Path, dict[str, Pod]]) -> None:
    folder, pods = cluster
    done = feedmesh("event", "follow_user", "--user", 21, "--target", 22, "--data", folder / "beside-2")
    assert done.returncode == 0, done.stderr
    near = meshes.load(mesh_file(folder / "beside-3"))
    until_followed(near, 21, [22])
    for number in (0, 1):
        assert pods[f"apiary-3-{number}"].end(signal.SIGKILL) == -signal.SIGKILL
    until_followed(near, 21, [22])
    for number in (0, 1):
        pods[f"apiary-3-{number}"].start()
    until_ready(near, list(pods.values()))


def test_a_process_drains_when_it_is_asked_to_end(cluster: tuple[Path, dict[str, Pod]]) -> None:
    folder, pods = cluster
    pod = pods["apiary-2-1"]
    assert pod.end(signal.SIGTERM) == 0
    assert pod.said.splitlines()[-1].endswith("drained")
    pod.start()
    until_ready(meshes.load(mesh_file(folder / "beside-2")), list(pods.values()))


def test_what_can_not_start_says_why(cluster: tuple[Path, dict[str, Pod]], tmp_path: Path) -> None:
    folder, _ = cluster
    path = folder / "cluster.toml"
    serve = ("serve", "--cluster", path, "--service", "apiary", "--data", tmp_path)
    refused(feedmesh(*serve, "--zone", "9", "--ordinal", 0), 2, "--zone 9: there is none such; there are 2, 3")
    refused(feedmesh(*serve, "--zone", "2", "--ordinal", 2), 2, "--ordinal 2: apiary has the ordinals 0 to 1 in zone 2")
    refused(feedmesh(*serve, "--ordinal", 0), 2, "--zone")
    if not os.uname().nodename.rpartition("-")[2].isdigit():
        refused(feedmesh(*serve, "--zone", "2"), 2, "--ordinal: is missing, and this host's name")
    used = feedmesh(*serve[:-1], folder / "apiary-2-0", "--zone", "2", "--ordinal", 0)
    refused(used, 1, "a mesh is running on this data folder already")
    busy = feedmesh(*serve, "--zone", "2", "--ordinal", 0)
    assert busy.returncode == 1
    assert f"cannot listen on 127.0.10.2:{FIRST_PORT + 200}: the port is in use" in busy.stderr
    refused(feedmesh("up", "--cluster", path, "--host", "a"), 2, "has a [rule] and no hosts")
