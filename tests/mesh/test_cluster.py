"""A mesh on two hosts by a cluster file, started as systemd would: the hosts are two addresses of this machine."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.demo import demo
from services.ops.supervisor import LEAVE_S
from services.rpc import mesh as meshes
from tests.mesh.command import FEEDMESH, Up, feedmesh, refused, started, until_gone
from tests.running import READY_WITHIN_S

HOSTS = {"a": "127.0.0.2", "b": "127.0.0.3"}
FIRST_PORT, HTTP_PORT = 21_400, 21_000
USERS = 60


def written(folder: Path, more: str = "") -> Path:
    """The cluster file in a folder."""
    hosts = "".join(
        f'[hosts.{name}]\naddress = "{at}"\nzone = "zone-{name}"\ndata = "{folder / name}"\n'
        for name, at in HOSTS.items()
    )
    path = folder / "cluster.toml"
    draft = path.with_suffix(".draft")
    draft.write_text(
        f"[cluster]\nport = {FIRST_PORT}\n{hosts}[web]\nhttp_port = {HTTP_PORT}\n[learning]\nfirst = false\n"
        f'[prober]\nevery_s = 0.0\n[mesh]\nblobs = "file://{folder / "blobs"}"\n{more}'
    )
    draft.rename(path)
    return path


@contextmanager
def part(folder: Path, host: str) -> Iterator[Up]:
    """`feedmesh up` of a host, killed at the end if it is still there."""
    said, data = folder / f"{host}.said", folder / host
    data.mkdir(exist_ok=True)
    command = [str(FEEDMESH), "up", "--cluster", str(folder / "cluster.toml"), "--host", host]
    with started(command, data, said) as found:
        yield found


def until_ready(*parts: Up) -> None:
    end = time.monotonic() + READY_WITHIN_S
    while not all("Feedmesh is ready" in up.said for up in parts):
        for up in parts:
            assert up.process.poll() is None, f"ended with {up.process.returncode}: {up.said}"
        assert time.monotonic() < end, [up.said for up in parts]
        time.sleep(0.1)


def page(host: str, user: int) -> dict[str, Any]:
    answer = httpx.get(f"http://{HOSTS[host]}:{HTTP_PORT}/v1/feeds/following", params={"user": user}, timeout=20)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def pins(host: str, user: int) -> list[str]:
    return [item["pin"] for item in page(host, user)["items"]]


def processes(folder: Path, host: str) -> dict[str, str]:
    """Name and host of every process, as a host knows them."""
    return {of.name: of.host for of in meshes.load(meshes.mesh_file(folder / host)).processes}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Up]]]:
    folder = tmp_path_factory.mktemp("cluster")
    with socket.create_server((HOSTS["b"], 0)):
        pass  # or this machine has no such addresses
    world = folder / "world"
    demo(users=USERS, pins=500, boards=150, saves=2_000, seed=3, folder=world)
    written(folder)
    with ExitStack() as stack:
        parts = {host: stack.enter_context(part(folder, host)) for host in HOSTS}
        until_ready(*parts.values())
        loaded = feedmesh("load", "parquet", world, "--data", folder / "a")
        assert loaded.returncode == 0, loaded.stderr
        yield folder, parts


def test_either_host_serves_what_was_loaded_at_one(cluster: tuple[Path, dict[str, Up]]) -> None:
    folder, _ = cluster
    assert processes(folder, "a") == processes(folder, "b")
    assert set(processes(folder, "a").values()) == set(HOSTS)
    end = time.monotonic() + 60
    while not (pins("a", 3) and pins("a", 3) == pins("b", 3)):
        assert time.monotonic() < end
        time.sleep(0.2)
    shown = json.loads(feedmesh("status", "--data", folder / "b", "--json").stdout)
    assert {(p["host"], p["zone"]) for p in shown} == {("a", "zone-a"), ("b", "zone-b")}
    assert all(p["ready"] for p in shown)


def test_a_page_of_one_host_goes_on_at_the_other(cluster: tuple[Path, dict[str, Up]]) -> None:
    """They share the secret that signs cursors."""
    first = page("a", 5)
    query = {"user": 5, "cursor": first["cursor"]}
    answer = httpx.get(f"http://{HOSTS['b']}:{HTTP_PORT}/v1/feeds/following", params=query, timeout=20)
    assert answer.status_code == 200, answer.text
    shown = {item["pin"] for item in first["items"]}
    assert not shown & {item["pin"] for item in answer.json()["items"]}


def test_what_the_file_says_later_is_what_runs(cluster: tuple[Path, dict[str, Up]]) -> None:
    folder, parts = cluster
    leaving = json.loads(feedmesh("status", "--data", folder / "b", "--json").stdout)
    pid = next(p["pid"] for p in leaving if (p["service"], p["replica"]) == ("polaris", 1))
    written(folder, "[polaris]\nreplicas = 1\n")
    end = time.monotonic() + 60
    while "polaris-0.1 has left" not in parts["b"].said:
        assert time.monotonic() < end, parts["b"].said
        assert pins("b", 3)
    assert not Path(f"/proc/{pid}").exists()
    assert "polaris-0.1" not in processes(folder, "a")
    assert not page("b", 3)["degraded"], "it asks the other host's from now on"
    written(folder)
    while "polaris-0.1 starts" not in parts["b"].said:
        assert time.monotonic() < end + LEAVE_S, parts["b"].said
        time.sleep(0.1)
    while feedmesh("status", "--data", folder / "a").returncode:
        assert time.monotonic() < end + 60
        time.sleep(0.2)
    (folder / "cluster.toml").write_text("[hosts")
    while "has changed, and what runs has not: " not in parts["a"].said:
        assert time.monotonic() < end + 120, parts["a"].said
        time.sleep(0.1)
    written(folder)


def test_a_roll_over_the_hosts(cluster: tuple[Path, dict[str, Up]]) -> None:
    folder, _ = cluster
    before = json.loads(feedmesh("status", "--data", folder / "a", "--json").stdout)
    rolled = feedmesh("roll", "polaris", "web", "--cluster", folder / "cluster.toml")
    assert rolled.returncode == 0, rolled.stderr
    assert rolled.stderr.count("is ready again") == 4
    after = json.loads(feedmesh("status", "--data", folder / "a", "--json").stdout)
    changed = {b["service"] for b, a in zip(before, after, strict=True) if b["pid"] != a["pid"]}
    assert changed == {"polaris", "web"}
    refused(feedmesh("roll", "wep", "--cluster", folder / "cluster.toml"), 2, "wep: this mesh has no such service")


def test_a_host_that_is_lost_is_not_missed(cluster: tuple[Path, dict[str, Up]]) -> None:
    """It has neither the log nor the probes, which are on one host so far."""
    folder, parts = cluster
    before = pins("a", 3)
    os.killpg(parts["b"].process.pid, signal.SIGKILL)
    until_gone(folder / "b", 30)
    for _ in range(20):
        found = page("a", 3)
        assert not found["degraded"]
        assert [item["pin"] for item in found["items"]] == before
    with part(folder, "b") as again:
        until_ready(again)
        assert pins("b", 3) == before


def test_options_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    refused(feedmesh("up", "--cluster", path), 2, "--cluster and --host: allowed are both of them, or none")
    refused(feedmesh("up", "--host", "a"), 2, "--cluster and --host")
    refused(feedmesh("up", "--cluster", path, "--host", "a", "--port", 1), 2, "leave them out")
    refused(feedmesh("up", "--cluster", path, "--host", "c"), 2, "there is no [hosts.c]; there are a, b")
    refused(
        feedmesh("roll", "--cluster", path, "--data", tmp_path), 2, "--cluster: allowed is that, or --config and --data"
    )
