"""Three hosts: network namespaces on one bridge, each with a disk of its own, and what may happen to their cables and disks.

The bridge and the client are on the machine itself. All names hold the process id of the drill, so that a drill which was
killed leaves names that the next one recognizes, and removes.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

NAMES = ("a", "b", "c")
PREFIX, NETWORK = "fmd", "10.212.8"
OUTSIDE = f"{NETWORK}.254"  # the machine itself, where the client and the object store are
MESH_PORTS = "7400:8999"  # of the processes of the mesh; brokers listen elsewhere
DISK_MB, WITHIN_S = 3_000, 30.0


def missing() -> list[str]:
    """What this machine lacks for hosts, each with its remedy; empty when all is there."""
    found = [] if os.geteuid() == 0 else ["root: namespaces, bridges and mounts are made; run it as root"]
    programs = {"ip": "iproute2", "iptables": "iptables", "mkfs.ext4": "e2fsprogs", "mount": "mount"}
    return found + [f"{name}: apt-get install {of}" for name, of in programs.items() if not shutil.which(name)]


def run(*words: object, check: bool = True) -> "subprocess.CompletedProcess[str]":
    """Run a program of the system to its end."""
    return subprocess.run([*map(str, words)], check=check, capture_output=True, text=True, timeout=WITHIN_S)


@dataclass(frozen=True)
class Host:
    """One host. cable: its end of the cable on the bridge; folder: where its disk is mounted."""

    name: str
    namespace: str
    cable: str
    address: str
    folder: Path

    @property
    def data(self) -> Path:
        """The data folder of its part of the mesh."""
        return self.folder / "data"

    def inside(self, *words: object) -> list[str]:
        """A command line that runs there."""
        return ["ip", "netns", "exec", self.namespace, *map(str, words)]

    def unplug(self) -> None:
        """Take the link of the host down."""
        run("ip", "link", "set", self.cable, "down")

    def plug(self) -> None:
        """Take the link up again."""
        run("ip", "link", "set", self.cable, "up")

    def drop(self, share: float = 1.0) -> None:
        """Lose this share of the packets that come in and go out through the cable, without a reset."""
        random = ["-m", "statistic", "--mode", "random", "--probability", share] if share < 1 else []
        for chain, at in (("INPUT", "-i"), ("OUTPUT", "-o")):
            run(*self.inside("iptables", "-A", chain, at, "eth0", *random, "-j", "DROP"))

    def heal(self) -> None:
        """Lose nothing any more."""
        run(*self.inside("iptables", "-F"))

    def moved(self) -> int:
        """Bytes that calls between its processes and those of the other hosts have taken, in packets, as far as it was called."""
        lines = [line for chain in _COUNTED for line in self._counters(chain)]
        return sum(int(line.split()[1]) for line in lines if MESH_PORTS in line)

    def _counters(self, chain: str) -> list[str]:
        return run(*self.inside("iptables", "-t", "mangle", "-nvxL", chain)).stdout.splitlines()

    def fill(self) -> None:
        """Fill the disk to its last block."""
        free = os.statvfs(self.folder)
        for part in (free.f_bavail * free.f_frsize, 1 << 20, 1 << 16, 1 << 12):
            while not run("fallocate", "-l", part, self.folder / f"full.{time.monotonic_ns()}", check=False).returncode:
                pass

    def empty(self) -> None:
        """Give the space back."""
        for file in self.folder.glob("full.*"):
            file.unlink()


_COUNTED = {"INPUT": ("-s", "--dport"), "OUTPUT": ("-d", "--sport")}


@contextmanager
def hosts(folder: Path) -> Iterator[list[Host]]:
    """The hosts, until the block ends: whatever still runs on them is killed then, and all is removed."""
    remove_leftovers()
    bridge = f"{PREFIX}{os.getpid()}"
    made: list[Host] = []
    try:
        run("ip", "link", "add", bridge, "type", "bridge")
        run("ip", "addr", "add", f"{OUTSIDE}/24", "dev", bridge)
        run("ip", "link", "set", bridge, "up")
        for number, name in enumerate(NAMES, 1):
            made.append(
                Host(name, f"{bridge}-{name}", f"{bridge}{name}", f"{NETWORK}.{number}", folder / f"host-{name}")
            )
            _make(made[-1], bridge)
        yield made
    finally:
        for host in made:
            _remove(host.namespace)
            run("ip", "link", "del", host.cable, check=False)  # if something holds the namespace yet
            _unmount(host.folder)
        run("ip", "link", "del", bridge, check=False)


def _make(host: Host, bridge: str) -> None:
    run("ip", "netns", "add", host.namespace)
    run("ip", "link", "add", host.cable, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
    run("ip", "link", "set", host.cable, "master", bridge, "up")
    run("ip", "-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
    for device in ("eth0", "lo"):
        run("ip", "-n", host.namespace, "link", "set", device, "up")
    for chain, (other, port) in _COUNTED.items():  # rules that only count
        run(
            *host.inside(
                "iptables", "-t", "mangle", "-A", chain, other, f"{NETWORK}.0/30", "-p", "tcp", port, MESH_PORTS
            )
        )
    host.folder.mkdir()
    image = host.folder.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(DISK_MB << 20)
    run("mkfs.ext4", "-q", "-m", "0", image)
    run("mount", "-o", "loop", image, host.folder)


def _remove(namespace: str) -> None:
    end = time.monotonic() + WITHIN_S
    while (left := processes_of(namespace)) and time.monotonic() < end:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    run("ip", "netns", "del", namespace, check=False)


def _unmount(folder: Path) -> None:
    """Now, or once nothing holds it any more."""
    if run("umount", folder, check=False).returncode:
        run("umount", "--lazy", folder, check=False)


def processes_of(namespace: str) -> Sequence[int]:
    """The ids of the processes that run in a namespace."""
    return [int(pid) for pid in run("ip", "netns", "pids", namespace, check=False).stdout.split()]


def remove_leftovers() -> None:
    """Remove the hosts of drills that were killed before they could."""
    bridges = set()
    for line in run("ip", "netns", "list").stdout.splitlines():
        namespace = line.split()[0] if line else ""
        bridge, _, name = namespace.partition("-")
        number = bridge.removeprefix(PREFIX)
        if bridge.startswith(PREFIX) and name in NAMES and number.isdigit() and not Path("/proc", number).exists():
            _remove(namespace)
            run("ip", "link", "del", f"{bridge}{name}", check=False)
            bridges.add(bridge)
    for bridge in bridges:
        run("ip", "link", "del", bridge, check=False)
