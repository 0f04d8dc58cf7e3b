"""Two hosts of a cluster file as two machines, and the cable between them is cut: each goes on, and both agree afterwards."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from cli.demo import demo
from tests.mesh.command import FEEDMESH, WIDE, Up, until_gone
from tests.mesh.conftest import EDGE_S, FEEDGEN_S
from tests.mesh.test_cluster import FIRST_PORT, HTTP_PORT, until_ready
from tests.services.machines import dark, lit, machines, started

ADDRESSES = ("10.211.7.1", "10.211.7.2")
USERS, DARK_S, LONGEST_S = 60, 8.0, 3.0
#: Reads pages until a line comes, and then says how each went: seconds since the reading began, seconds, status, degraded.
READER = """
import json
import sys
import time
from tests.mesh.readers import Readers
readers = Readers([sys.argv[1]], list(range(1, int(sys.argv[2]))), 2)
began = time.monotonic()
readers.start()
print("reads", flush=True)
sys.stdin.readline()
readers.stop()
print(json.dumps([[p.began - began, p.took, p.status, p.degraded] for p in readers.pages]))
"""


@contextmanager
def host(folder: Path, name: str, namespace: str) -> Iterator[Up]:
    said, data = folder / f"{name}.said", folder / name
    data.mkdir()
    command = ["ip", "netns", "exec", namespace, str(FEEDMESH), "up", "--cluster", str(folder / "cluster.toml")]
    with said.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--host", name],
            env=WIDE,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield Up(process, data, said)
    finally:
        process.terminate()
        process.wait(60)
        until_gone(data, 60)


def inside(namespace: str, *words: object) -> str:
    command = ["ip", "netns", "exec", namespace, str(FEEDMESH), *map(str, words)]
    ran = subprocess.run(command, env=WIDE, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, tuple[str, str]]]:
    folder = tmp_path_factory.mktemp("cable")
    described = "".join(
        f'[hosts.{name}]\naddress = "{at}"\nzone = "zone-{name}"\ndata = "{folder / name}"\n'
        for name, at in zip("ab", ADDRESSES, strict=True)
    )
    (folder / "cluster.toml").write_text(
        f"[cluster]\nport = {FIRST_PORT}\ninsecure = true\n{described}[web]\nhttp_port = {HTTP_PORT}\n"
        f"feed_timeout_s = {EDGE_S}\n[feedgen]\ndeadline_ms = {FEEDGEN_S * 1000:.0f}\n[learning]\nfirst = false\n"
        f'[prober]\nevery_s = 0.0\n[mesh]\nblobs = "file://{folder / "blobs"}"\n'
    )
    world = folder / "world"
    demo(users=USERS, pins=500, boards=150, saves=2_000, seed=3, folder=world)
    with machines() as namespaces, ExitStack() as stack:
        parts = [stack.enter_context(host(folder, name, at)) for name, at in zip("ab", namespaces, strict=True)]
        until_ready(*parts)
        inside(namespaces[0], "load", "parquet", world, "--data", folder / "a")
        until_all_ready(folder, namespaces[0])
        inside(namespaces[0], "graph", "build", "--data", folder / "a")
        yield folder, namespaces


def until_all_ready(folder: Path, namespace: str) -> float:
    """Seconds until every process answers and is ready and has applied the log."""
    began = time.monotonic()
    while True:
        command = ["ip", "netns", "exec", namespace, str(FEEDMESH), "status", "--data", str(folder / "a"), "--json"]
        ran = subprocess.run(command, env=WIDE, capture_output=True, text=True, timeout=60, check=False)
        found = json.loads(ran.stdout or "[]")
        if found and all(p["ready"] and not p["behind"] for p in found):
            return time.monotonic() - began
        assert time.monotonic() - began < 120, ran.stderr
        time.sleep(0.2)


def test_each_side_goes_on_while_the_cable_is_cut_and_both_agree_afterwards(
    hosts: tuple[Path, tuple[str, str]],
) -> None:
    folder, namespaces = hosts
    with ExitStack() as stack:
        readers = [
            stack.enter_context(started(namespace, READER, f"http://{at}:{HTTP_PORT}", str(USERS)))
            for namespace, at in zip(namespaces, ADDRESSES, strict=True)
        ]
        for reader in readers:
            assert reader.stdout
            assert reader.stdout.readline().strip() == "reads"
        began = time.monotonic()
        time.sleep(4.0)  # of load before the fault, the fault, and load after it
        dark(namespaces[1])
        cut = time.monotonic() - began
        time.sleep(DARK_S)
        lit(namespaces[1])
        healed = time.monotonic() - began
        took = until_all_ready(folder, namespaces[0])
        pages: list[list[list[Any]]] = []
        for reader in readers:
            said, _ = reader.communicate("enough\n", timeout=60)
            pages.append(json.loads(said))
    for name, found in zip("ab", pages, strict=True):
        while_dark = [page for page in found if cut < page[0] < healed]
        print(
            f"host {name}: {len(found)} pages, {len(while_dark)} while dark, longest {max(page[1] for page in found):.2f} s, "
            f"{sum(bool(page[3]) for page in found)} degraded; all ready and caught up {took:.1f} s after"
        )
        assert len(while_dark) > 10
        assert all(page[2] == 200 for page in found), [page for page in found if page[2] != 200][:3]
        degraded = [page for page in found if page[3]]
        assert len(degraded) <= len(found) // 100, degraded[:3]
        assert max(page[1] for page in found) < LONGEST_S
