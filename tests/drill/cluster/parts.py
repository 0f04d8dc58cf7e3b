"""The mesh on the hosts: `feedmesh up --cluster` on each, its processes as the drill finds, kills and asks them."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from services.ops.probe import Health, asked_once
from services.rpc import mesh as meshes
from services.rpc.mesh import Address, Mesh
from tests.drill.cluster.brokers import Brokers
from tests.drill.cluster.hosts import Host
from tests.mesh.command import FEEDMESH, WIDE
from tests.running import Running

FIRST_PORT, HTTP_PORT = 7400, 8080
VIEWS = ("rockstore", "apiary", "polaris", "aperture", "realpin", "counters", "smartfeed")
FEEDGEN_S, EDGE_S = 2.0, 4.0  # more than the defaults: all hosts share the processors of one machine
HANG_S = 0.0  # never: where others take the processors, processes that only wait would be killed
START_S, STOP_S, COMMAND_S = 420.0, 90.0, 300.0
SPAWNED_S = 20.0  # of a process that the mesh has


def written(folder: Path, on: Sequence[Host], brokers: Brokers, blobs: str, roadrunners: int) -> Path:
    """The cluster file."""
    sections: dict[str, dict[str, Any]] = {
        "cluster": {"port": FIRST_PORT, "insecure": True},
        **{f"hosts.{h.name}": {"address": h.address, "zone": h.name, "data": str(h.data)} for h in on},
        "mesh": {"blobs": blobs, "min_free_mb": 64, "hang_s": HANG_S, **brokers.sections()["mesh"]},
        "kafka": {name: value for name, value in brokers.sections()["kafka"].items() if not isinstance(value, dict)},
        "web": {"http_port": HTTP_PORT, "feed_timeout_s": EDGE_S},
        "feedgen": {"deadline_ms": int(FEEDGEN_S * 1000)},
        "learning": {"first": False},
        "prober": {"every_s": 0.0},
        **{view: {"snapshot_every_s": 120.0} for view in VIEWS},
    }
    if roadrunners > 1:
        sections["roadrunner"] = {"replicas": roadrunners}
    path = folder / "cluster.toml"
    path.write_text("".join(f"[{name}]\n{_lines(section)}" for name, section in sections.items()))
    return path


def _lines(section: dict[str, Any]) -> str:
    return "".join(f"{name} = {_toml(value)}\n" for name, value in section.items())


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)


class Parts(Running):
    """The running mesh, asked from outside of its hosts."""

    def __init__(self, on: Sequence[Host], file: Path) -> None:
        """Begin to start the part of each host."""
        self.hosts, self.file, self.reports = list(on), file, []
        self._up = {host.name: self._started(host) for host in on}

    def _started(self, host: Host) -> "subprocess.Popen[bytes]":
        command = host.inside(FEEDMESH, "up", "--cluster", self.file, "--host", host.name)
        with self.said(host).open("ab") as said:
            return subprocess.Popen(
                command, env=WIDE, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )

    def said(self, host: Host) -> Path:
        """What the part of a host says."""
        return self.file.parent / f"{host.name}.said"

    def host(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    @property
    def mesh(self) -> Mesh:
        """As the first host knows it now."""
        return meshes.load(meshes.mesh_file(self.hosts[0].data))

    @property
    def edges(self) -> list[str]:
        """The URL of every web."""
        return [f"http://{of.http}" for of in self.mesh.of("web")]

    def health(self) -> list[Health]:
        return asyncio.run(asked_once(self.mesh))

    def until_begun(self, report: Callable[[str], None]) -> None:
        """Wait until the part of each host says that it is ready."""
        end = time.monotonic() + START_S
        for host in self.hosts:
            while "Feedmesh is ready" not in self.said(host).read_text():
                for other in self.hosts:
                    assert self._up[other.name].poll() is None, self.said(other).read_text()[-3000:]
                assert time.monotonic() < end, self.said(host).read_text()[-3000:]
                time.sleep(0.3)
            report(f"host {host.name} is ready")

    def pid(self, of: Address) -> int:
        """Of a process of the mesh, by its command line; 0 while there is none."""
        wanted = ["-m", of.service, "--mesh", str(meshes.mesh_file(self.host(of.host).data))]
        wanted += ["--shard", str(of.shard), "--shards", str(of.shards)]
        with suppress(psutil.Error):
            for child in psutil.Process(self._up[of.host].pid).children():
                with suppress(psutil.Error):
                    line = child.cmdline()
                    if any(line[at : at + len(wanted)] == wanted for at in range(len(line))):
                        return child.pid
        return 0

    def on(self, host: str, service: str = "") -> list[Address]:
        """The processes of a host, or those of one service."""
        return [of for of in self.mesh.processes if of.host == host and service in ("", of.service)]

    def signal(self, of: Address, number: int) -> int:
        """Send a signal to a process that runs, or is about to; its id."""
        end = time.monotonic() + SPAWNED_S
        while not (pid := self.pid(of)):
            assert time.monotonic() < end, f"{of.name} is not running"
            time.sleep(0.1)
        os.kill(pid, number)
        return pid

    def begin(self, *words: object) -> "subprocess.Popen[str]":
        """Begin a command of the product on the first host, where nothing is broken."""
        command = self.hosts[0].inside(FEEDMESH, *words)
        return subprocess.Popen(command, env=WIDE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *words: object, within_s: float = COMMAND_S) -> str:
        """Such a command, to its end."""
        return ended(self.begin(*words), within_s)

    def stop(self) -> list[str]:
        """Drain every host; those that had to be killed."""
        for up in self._up.values():
            if up.poll() is None:
                up.send_signal(signal.SIGTERM)
        late, end = [], time.monotonic() + STOP_S
        for name, up in self._up.items():
            try:
                up.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                up.kill()
                up.wait(STOP_S)
                late.append(name)
        return late


def ended(ran: "subprocess.Popen[str]", within_s: float) -> str:
    """What a command says that goes well within so many seconds."""
    try:
        said, wrong = ran.communicate(timeout=within_s)
    finally:
        ran.kill()
    assert ran.returncode == 0, f"{ran.args!r}: {wrong[-2000:]}"
    return said


@contextmanager
def parts(on: Sequence[Host], file: Path) -> Iterator[Parts]:
    """The mesh, until the block ends."""
    running = Parts(on, file)
    try:
        yield running
    finally:
        running.stop()
