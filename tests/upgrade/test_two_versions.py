"""A rolling upgrade from the last release to this version, and back: processes of both work together, under load.

Each step replaces some processes of a running mesh by those of the other version, on the same folders. Afterwards every
acknowledged event is in the log once, and every view equals a recount of the log.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import pytest

from cli.demo import demo
from cli.load import load
from cli.schema import SERVICES
from services.core.installation import program
from services.ops.starting import Starter
from tests.drill.__main__ import one_round
from tests.running import Running, get, running_mesh
from tests.upgrade.released import released

#: The order of docs/operations.md: those that answer first, those that ask last.
STEPS = (
    ("rockstore", "apiary", "polaris", "aperture"),
    ("realpin", "counters", "smartfeed"),
    ("pixie", "scorpion", "prober", "feedgen"),
    ("roadrunner",),
)
AS_RELEASED = Path(__file__).parent / "as_released.py"
FEEDS = ("following", "interest", "picked", "home")


@dataclass
class Versions:
    """Which services run as the release has them; a process that starts again starts as its service is here."""

    folder: Path
    old: set[str] = field(default_factory=set)

    def program(self, service: str) -> list[str]:
        """The command line of a process."""
        if service not in self.old:
            return program(service)
        return [sys.executable, str(AS_RELEASED), str(self.folder), service]

    def check(self, running: Running) -> None:
        """Every process runs the code that it should."""
        for child in running.supervisor.children:
            assert child.process is not None
            variables = Path(f"/proc/{child.process.pid}/environ").read_bytes().split(b"\0")
            is_old = f"PYTHONPATH={self.folder}".encode() in variables
            assert is_old == (child.of.service in self.old), child.name


@contextmanager
def _mesh(folder: Path, versions: Versions) -> Iterator[Running]:
    """A mesh of the release with people in it."""
    world = folder / "world"
    demo(users=120, pins=1_000, boards=300, saves=4_000, seed=3, folder=world)
    # each process by its own command line: a fork server has the packages of one version
    alone = patch.object(Starter, "begin"), patch("services.ops.starting.program", versions.program)
    with alone[0], alone[1], running_mesh(folder / "data") as running:
        versions.check(running)
        load("parquet", world, data=folder / "data")
        running.until_caught_up()
        yield running


def _replace(running: Running, services: tuple[str, ...], number: int) -> None:
    """Kill these processes under load; they come back as the other version."""
    for service in services[1:]:
        running.kill(service)
    assert one_round(running, number, services[0], seed=11), services


def test_the_code_of_the_release_is_what_runs() -> None:
    """Or the test below would compare this version with itself."""
    folder = released()
    command = [
        "/usr/bin/env",
        f"PYTHONPATH={folder}",
        sys.executable,
        "-P",
        "-c",
        "import services; print(services.__file__)",
    ]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith(str(folder))


@pytest.mark.long  # four minutes, most of which compile the kernels of the release
def test_processes_of_both_versions_work_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    versions = Versions(released(), set(SERVICES))
    with _mesh(tmp_path, versions) as running:
        for number, (services, old) in enumerate([(s, False) for s in STEPS] + [(s, True) for s in reversed(STEPS)], 1):
            (versions.old.update if old else versions.old.difference_update)(services)
            _replace(running, services, number)
            versions.check(running)
            running.kill("web")  # which the load asks, so it is replaced after it, at each step
            running.until(lambda health: not all(h.ready for h in health), "noticed", 20)
            running.until_ready()
            for feed in FEEDS:
                answer = get(running, f"/v1/feeds/{feed}", user=7)
                assert answer.status_code == 200, answer.text
