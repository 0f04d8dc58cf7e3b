"""Two network namespaces that stand for two machines with a cable between them, which can be cut."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
MISSING = (
    "NOT TESTED: what happens when a machine vanishes. It takes root, `ip` and `iptables` (apt-get install "
    "iptables), and a kernel with network namespaces"
)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@contextmanager
def machines() -> Iterator[tuple[str, str]]:
    """Two namespaces with a cable between them; addresses 10.211.7.1 and 10.211.7.2. Skips the test where they can't be had."""
    if os.geteuid() or not shutil.which("ip") or not shutil.which("iptables"):
        pytest.skip(MISSING)
    a, b = f"fm-a-{os.getpid()}", f"fm-b-{os.getpid()}"
    try:
        for name in (a, b):
            if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
                pytest.skip(MISSING)
        _run("ip", "-n", a, "link", "add", "va", "type", "veth", "peer", "name", "vb", "netns", b)
        for name, device, address in ((a, "va", "10.211.7.1/24"), (b, "vb", "10.211.7.2/24")):
            _run("ip", "-n", name, "addr", "add", address, "dev", device)
            _run("ip", "-n", name, "link", "set", device, "up")
            _run("ip", "-n", name, "link", "set", "lo", "up")
        yield a, b
    finally:
        for name in (a, b):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@contextmanager
def started(namespace: str, code: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command = ["ip", "netns", "exec", namespace, sys.executable, "-c", code, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, cwd=ROOT, stdin=pipe, stdout=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


def dark(namespace: str) -> None:
    """Drop what comes through the cable to the second machine, and what it sends; within the machine all is well."""
    for chain, at in (("INPUT", "-i"), ("OUTPUT", "-o")):
        _run("ip", "netns", "exec", namespace, "iptables", "-A", chain, at, "vb", "-p", "tcp", "-j", "DROP")


def lit(namespace: str) -> None:
    """Heal the cable."""
    _run("ip", "netns", "exec", namespace, "iptables", "-F")
