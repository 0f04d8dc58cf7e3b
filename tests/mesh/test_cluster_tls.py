"""Two hosts of a cluster file with TLS between them: pages, commands, and certificates that are replaced under readers."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cli.demo import demo
from services.rpc import mesh as meshes
from tests.mesh.command import FEEDMESH, Up, feedmesh, refused, started
from tests.mesh.readers import Readers
from tests.mesh.test_cluster import until_ready

HOSTS = {"a": "127.0.0.4", "b": "127.0.0.5"}
FIRST_PORT, HTTP_PORT = 23_400, 23_000
USERS = 60


def written(folder: Path, tls: str, first_port: int = FIRST_PORT) -> None:
    """The cluster file in a folder. Without Unix sockets processes of one host, too, call each other over TCP."""
    hosts = "".join(
        f'[hosts.{name}]\naddress = "{at}"\nzone = "zone-{name}"\ndata = "{folder / name}"\n'
        for name, at in HOSTS.items()
    )
    http_port = first_port - FIRST_PORT + HTTP_PORT
    (folder / "cluster.toml").write_text(
        f"[cluster]\nport = {first_port}\n{hosts}[web]\nhttp_port = {http_port}\n[learning]\nfirst = false\n"
        f'[prober]\nevery_s = 0.0\n[mesh]\nunix_sockets = false\nblobs = "file://{folder / "blobs"}"\n[tls]\n{tls}'
    )


@contextmanager
def part(folder: Path, host: str) -> Iterator[Up]:
    data = folder / host
    data.mkdir(exist_ok=True)
    command = [str(FEEDMESH), "up", "--cluster", str(folder / "cluster.toml"), "--host", host]
    with started(command, data, folder / f"{host}.said") as found:
        yield found


def made(folder: Path) -> str:
    """The section [tls] with certificates in this folder."""
    for words in (("init",), ("issue",)):
        ran = feedmesh("certs", *words, "--dir", folder)
        assert ran.returncode == 0, ran.stderr
    files = {"ca": "ca.pem", "certificate": "{service}.pem", "key": "{service}.key"}
    return "loopback = true\n" + "".join(f'{name} = "{folder / file}"\n' for name, file in files.items())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("tls")
    world = folder / "world"
    demo(users=USERS, pins=500, boards=150, saves=2_000, seed=3, folder=world)
    written(folder, made(folder / "certs"))
    with ExitStack() as stack:
        until_ready(*[stack.enter_context(part(folder, host)) for host in HOSTS])
        for words in (("load", "parquet", world), ("graph", "build")):
            ran = feedmesh(*words, "--data", folder / "a")
            assert ran.returncode == 0, ran.stderr
        yield folder


def page(host: str, user: int) -> list[str]:
    answer = httpx.get(f"http://{HOSTS[host]}:{HTTP_PORT}/v1/feeds/following", params={"user": user}, timeout=20)
    assert answer.status_code == 200, answer.text
    return [item["pin"] for item in answer.json()["items"]]


def test_both_hosts_serve_what_was_loaded_at_one(cluster: Path) -> None:
    end = time.monotonic() + 60
    while not (page("a", 3) and page("a", 3) == page("b", 3)):
        assert time.monotonic() < end
        time.sleep(0.2)
    shown = json.loads(feedmesh("status", "--data", cluster / "b", "--json").stdout)
    assert all(process["ready"] for process in shown)
    assert {process["host"] for process in shown} == set(HOSTS)


def test_no_port_between_processes_answers_without_a_certificate(cluster: Path) -> None:
    for process in meshes.load(meshes.mesh_file(cluster / "a")).processes:
        with grpc.insecure_channel(process.address) as channel, pytest.raises(grpc.RpcError) as refusal:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE, process.name


def until_taken(folder: Path, times: int) -> None:
    """Wait until every process has said that it took other files so often."""
    logs = [log for host in HOSTS for log in (folder / host / "logs").glob("*-[0-9]*.log")]
    assert len(logs) > 10
    end = time.monotonic() + 60
    while late := [log.name for log in logs if log.read_text().count("another certificate") < times]:
        assert time.monotonic() < end, f"certificates of before: {late}"
        time.sleep(0.1)


def test_certificates_and_the_ca_are_replaced_under_readers(cluster: Path) -> None:
    at = [f"http://{host}:{HTTP_PORT}" for host in HOSTS.values()]
    readers = Readers(at, list(range(1, USERS)), 4)
    readers.start()
    times = 0
    try:
        for words in ((), ("--ca",), ("--ca",), ("--ca",)):
            ran = feedmesh("certs", "rotate", *words, "--dir", cluster / "certs")
            assert ran.returncode == 0, ran.stderr
            times += 1
            until_taken(cluster, times)
        rolled = feedmesh("roll", "polaris", "--cluster", cluster / "cluster.toml")
        assert rolled.returncode == 0, rolled.stderr
    finally:
        readers.stop()
    assert len(readers.pages) > 50
    assert not [page for page in readers.pages if page.status != 200 or page.degraded][:3]


def test_a_process_without_its_certificate_says_so_and_does_not_start(tmp_path: Path) -> None:
    tls = made(tmp_path / "certs")
    written(tmp_path, tls.replace("{service}", "web"), first_port=FIRST_PORT + 2_000)
    with part(tmp_path, "a") as up:
        assert up.ended(120) == 1
        assert "is not of roadrunner: needed is the name" in up.said, up.said
    written(tmp_path, tls.replace("ca.pem", "nowhere.pem"), first_port=FIRST_PORT + 2_000)
    refused(feedmesh("roll", "--cluster", tmp_path / "cluster.toml"), 2, "nowhere.pem: there is no such file")
