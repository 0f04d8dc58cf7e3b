"""The price of calls that leave the machine: CPU of a home page by Unix sockets, by streams of gRPC, and by those under mTLS.

One mesh on one machine, started again over the same data for each way and round, in turn. By streams every call between two
processes goes over TCP as between hosts, through the loopback. CPU is counted as in stages.py, of all processes but the client.
"""

import statistics
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from bench import stages
from bench.mesh import LEAVES, SETTINGS, TREES, USERS, fill, promote, until_served
from bench.readers import read
from bench.report import Figure
from cli.authority import CA, Store, Validity, authority, issued
from cli.certs import NAMES
from tests.running import running_mesh

PART = "between"
RATE, WARM_S, SECONDS, ROUNDS = 100, 8, 20, 3
UNIX, STREAMS, MTLS = "Unix sockets", "streams of gRPC", "streams of gRPC under mTLS"
MOST_MS = 11.0  # a home page under mTLS


class Cost(NamedTuple):
    """Of a home page by one way. cpu_ms: by process; rpcs: by service."""

    cpu_ms: Mapping[str, float]
    rpcs: Mapping[str, float]

    @property
    def total_ms(self) -> float:
        """Of all processes but the client."""
        return sum(ms for name, ms in self.cpu_ms.items() if name != stages.CLIENT)


def measure(data: str | None) -> list[Figure]:
    """Make a world once; then count, each way in turn."""
    found: dict[str, list[Cost]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as folder:
        home = Path(folder)
        with running_mesh(home / "data", SETTINGS) as running:
            name = fill(running, home, data)
            promote(home, running)
        ways = {UNIX: {}, STREAMS: _streams(), MTLS: {**_streams(), "tls": _certificates(home / "certs")}}
        for _ in range(ROUNDS):
            for way, settings in ways.items():
                with running_mesh(home / "data", {**SETTINGS, **settings}) as running:
                    until_served(running)
                    uvloop.run(read(running.url, "home", USERS, RATE, WARM_S))
                    found[way].append(Cost(*stages.cost(running, USERS, RATE, SECONDS)))
    return figures(found, f"{name}, {TREES} trees of {LEAVES} leaves, {RATE} home pages a second")


def _streams() -> dict[str, dict[str, Any]]:
    return {"mesh": {"unix_sockets": False}}


def _certificates(folder: Path) -> dict[str, Any]:
    """The section [tls] with new certificates for every process."""
    folder.mkdir(mode=0o700)
    store = Store(folder)
    store.write(CA, authority("mesh", Validity.of_days(1)))
    for service in NAMES:
        store.write(service, issued(store.pair(CA), "mesh", service, Validity.of_days(1)))
    each = {"certificate": str(folder / "{service}.pem"), "key": str(folder / "{service}.key")}
    return {"ca": str(folder / "ca.pem"), **each, "loopback": True}


def figures(found: Mapping[str, Sequence[Cost]], note: str) -> list[Figure]:
    """Totals first, then processes by each way, then the RPCs."""
    rows: list[Figure] = []
    for way, rounds in found.items():
        totals = [one.total_ms for one in rounds]
        target = MOST_MS if way == MTLS else None
        spread = (min(totals), max(totals))
        rows.append(
            Figure(PART, f"CPU of a home page by {way}", statistics.median(totals), "ms", target, True, note, spread)
        )
        note = ""
    for way, rounds in found.items():
        for process, ms in sorted(_median([one.cpu_ms for one in rounds]).items(), key=lambda of: -of[1]):
            rows.append(Figure(PART, f"CPU of a home page by {way}, {process}", ms, "ms"))
    rpcs = _median([one.rpcs for one in found[UNIX]])
    return [*rows, *(Figure(PART, f"RPCs of a home page, {name}", n, "calls") for name, n in rpcs.items())]


def _median(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: statistics.median(one.get(name, 0.0) for one in rounds) for name in rounds[0]}
