"""The time of one home page: CPU by process, wall time by stage, RPCs by service, and the pages that two cores can make.

CPU is counted by the kernel's scheduler for every thread of a process (/proc/PID/task/*/schedstat, to the nanosecond)
while readers came at a fixed rate, less that of the idle mesh. A stage's time is its wall time in the
page's X-ray, one page at a time, the cost of explaining included. RPCs are the calls that each process counted, those of
HTTP too.
"""

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import matplotlib as mpl
import uvloop

from bench.mesh import LEAVES, TREES, USERS, promote, world
from bench.readers import read
from bench.report import Figure
from tests.running import Running

mpl.use("Agg")
from matplotlib import pyplot as plt

PART = "stages"
RATE, WARM_S, SECONDS, IDLE_S = 20, 8, 20, 5
PAGES = 200  # whose X-rays are read
CORES = 2
IMAGE = Path(__file__).resolve().parent.parent / "docs" / "images" / "stages.png"
CLIENT = "client"
LEAST_RPCS = 0.01  # a page: the mesh makes fewer by itself
NOT_PAGES = ("Status", "grpc.health", "channelz")  # methods that watch, and serve no page


class Stage(NamedTuple):
    """One stage of a page: its median milliseconds, and those of the page without it."""

    name: str
    kind: str
    took_ms: float


class PageCost(NamedTuple):
    """Of one home page. cpu_ms: by process; rpcs: by service."""

    cpu_ms: Mapping[str, float]
    stages: Sequence[Stage]
    rpcs: Mapping[str, float]


def measure(data: str | None) -> list[Figure]:
    """Load a world, build its graph, promote a model; then count."""
    with world(data) as (running, home, name):
        promote(home, running)
        uvloop.run(read(running.url, "home", USERS, RATE, WARM_S))
        measured = _measured(running, USERS)
    draw(measured, f"{name}, {TREES} trees of {LEAVES} leaves, {RATE} home pages a second")
    return figures(measured, name)


def _measured(running: Running, users: Sequence[str]) -> PageCost:
    cpu, rpcs = cost(running, users, RATE, SECONDS)
    return PageCost(cpu, stages(running.url, users[:PAGES]), rpcs)


def cost(
    running: Running, users: Sequence[str], rate: float, seconds: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds of CPU of a home page by process, and its RPCs by service, at so many pages a second."""
    processes = pids(running)

    def meter() -> dict[str, float]:
        cpu = {f"cpu {name}": ms for name, ms in cpu_ms(processes).items()}
        return cpu | {f"rpcs {service}": float(n) for service, n in _calls(running).items()}

    def ask() -> int:
        found = uvloop.run(read(running.url, "home", list(users), rate, seconds))
        if found.failed:
            raise RuntimeError(f"{found.failed} of {len(found.waited)} pages failed")
        return len(found.waited)

    found = of_a_page(meter, ask)
    cpu = {name.removeprefix("cpu "): ms for name, ms in found.items() if name.startswith("cpu ")}
    rpcs = {name.removeprefix("rpcs "): n for name, n in found.items() if name.startswith("rpcs ") and n >= LEAST_RPCS}
    return cpu, rpcs


def pids(running: Running) -> dict[str, int]:
    """The processes of a mesh, and this one, which is the client."""
    found = {c.of.service: c.process.pid for c in running.supervisor.children if c.process is not None}
    return {**found, CLIENT: os.getpid()}


def of_a_page(
    meter: Callable[[], Mapping[str, float]], ask: Callable[[], int], idle_s: float = IDLE_S
) -> dict[str, float]:
    """By how much each of the meter's readings grows with a page. ask: reads pages, and says how many.

    Their growth in an idle mesh is measured for `idle_s` seconds before, and taken off.
    """
    first, began = meter(), time.monotonic()
    time.sleep(idle_s)
    before, middle = meter(), time.monotonic()
    pages = ask()
    after, ended = meter(), time.monotonic()
    times = (ended - middle) / (middle - began)  # as long as it was idle
    return {
        name: max(0.0, value - before[name] - times * (before[name] - first[name])) / pages
        for name, value in after.items()
        if name in before and name in first
    }


def cpu_ms(processes: Mapping[str, int]) -> dict[str, float]:
    """Milliseconds on a core of each process so far."""
    return {name: _of_process(pid) for name, pid in processes.items()}


def _of_process(pid: int) -> float:
    """Of the threads that it has."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # a thread that has just ended
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e6


def _calls(running: Running) -> dict[str, int]:
    """Calls served by each service so far, those that watch it left out."""
    total: dict[str, int] = defaultdict(int)
    for health in running.health():
        for method in health.status.methods if health.status else []:
            if not any(name in method.method for name in NOT_PAGES):
                total[health.of.service] += method.calls
    return total


def stages(url: str, users: Sequence[str]) -> list[Stage]:
    """The stages of home in their order, one page after the other."""
    took: dict[tuple[str, str], list[float]] = defaultdict(list)
    with httpx.Client(timeout=20) as http:
        for user in users:
            page: dict[str, Any] = http.get(f"{url}/v1/feeds/home", params={"user": user, "explain": "true"}).json()
            for stage in page["xray"]["stages"]:
                took[stage["stage"], stage["kind"]].append(stage["took_ms"])
    return [Stage(*of, statistics.median(times)) for of, times in took.items()]


def figures(measured: PageCost, world: str) -> list[Figure]:
    """The table."""
    total = sum(measured.cpu_ms.values())
    by_cpu = sorted(measured.cpu_ms.items(), key=lambda of: -of[1])
    found = [Figure(PART, f"CPU of a home page, {name}", ms, "ms", note=world if not i else "")
             for i, (name, ms) in enumerate(by_cpu)]  # fmt: skip
    found.append(Figure(PART, "CPU of a home page, all processes and the client", total, "ms"))
    note = f"{CORES} cores have {CORES * 1_000} ms of CPU a second; P99 ends sooner than that"
    found.append(
        Figure(PART, f"home pages a second that {CORES} cores leave room for", CORES * 1_000 / total, "", note=note)
    )
    found += [Figure(PART, f"wall time of the {s.kind} {s.name}", s.took_ms, "ms") for s in measured.stages]
    by_calls = sorted(measured.rpcs.items(), key=lambda of: -of[1])
    found += [Figure(PART, f"RPCs of a home page, {name}", n, "calls") for name, n in by_calls]
    return [*found, Figure(PART, "RPCs of a home page, all services", sum(measured.rpcs.values()), "calls")]


def draw(measured: PageCost, title: str, path: Path = IMAGE) -> Path:
    """Bars: CPU by process with the rest of the cores, wall time by stage, RPCs by service."""
    figure, (cpu, wall, rpcs) = plt.subplots(1, 3, figsize=(15, 5.5))
    total = sum(measured.cpu_ms.values())
    _bars(cpu, dict(sorted(measured.cpu_ms.items(), key=lambda of: of[1])), "ms")
    cpu.set(title=f"CPU of a page: {total:.1f} ms\nroom for {CORES * 1_000 / total:.0f} pages/s on {CORES} cores")
    _bars(wall, {f"{s.name} ({s.kind})": s.took_ms for s in reversed(measured.stages)}, "ms")
    wall.set(title="wall time of the stages, median\nqueries run in parallel, and so do sources")
    _bars(rpcs, dict(sorted(measured.rpcs.items(), key=lambda of: of[1])), "")
    rpcs.set(title=f"RPCs of a page: {sum(measured.rpcs.values()):.1f}\nby the service that answers")
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _bars(axes: Any, values: Mapping[str, float], unit: str) -> None:
    bars = axes.barh(list(values), list(values.values()))
    axes.bar_label(bars, labels=[f"{value:.2g} {unit}".strip() for value in values.values()], padding=3, fontsize=7)
    axes.tick_params(labelsize=8)
    axes.margins(x=0.15)
    axes.grid(axis="x", alpha=0.2)
