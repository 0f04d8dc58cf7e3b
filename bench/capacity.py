"""Measures the figures that `feedmesh plan` multiplies: bytes a unit of each part, CPU a feed and memory of each process.

Written to `cli/capacity.json`, which is installed with the command.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil
import uvloop

from bench.mesh import promote
from bench.readers import read
from bench.report import machine
from cli.demo import demo
from cli.graph import build
from cli.load import load
from tests.running import Running, running_mesh

PATH = Path(__file__).resolve().parent.parent / "cli" / "capacity.json"
FEED, RATE, WARM_S, SECONDS = "home", 40, 5, 15
IN_MEMORY = ("counters", "scorpion")  # whose state is in memory, besides the disk
MAPPED = ("pixie",)  # whose files are mapped and read all over
HOT = 0.2  # of the others' files, the part that is to stay in the page cache


def cpu_per_feed() -> dict[str, dict[str, float]]:
    """By service, over a mesh with the demo world whose home pages are ranked by the model of `bench.mesh`: cpu_ms a home
    page, process_mb, and for roadrunner log_bytes an event.
    """
    with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as folder:
        home = Path(folder)
        demo(folder=home / "world")
        with running_mesh(home / "data") as running:
            load("parquet", home / "world", data=home / "data")
            running.until_caught_up()
            build(data=home / "data")
            promote(home, running)
            users = [str(user) for user in range(1, 2_000)]
            uvloop.run(read(running.url, FEED, users, RATE, WARM_S))
            before, began = _cpu(running), time.monotonic()
            idle = dict.fromkeys(before, 0.0)
            time.sleep(2)
            for service, seconds in _cpu(running).items():
                idle[service] = (seconds - before[service]) / (time.monotonic() - began)
            before, began = _cpu(running), time.monotonic()
            found = uvloop.run(read(running.url, FEED, users, RATE, SECONDS))
            took, after = time.monotonic() - began, _cpu(running)
            if found.failed:
                raise RuntimeError(
                    f"{found.failed} of {len(found.waited)} pages failed: the CPU of a feed can't be measured"
                )
            pages = len(found.waited)
            measured = {
                service: {"cpu_ms": max(0.0, after[service] - before[service] - idle[service] * took) * 1000 / pages}
                for service in after
            }
            for service, resident in _resident(running).items():
                measured[service]["process_mb"] = resident / 1e6
            measured["roadrunner"]["log_bytes"] = _log_bytes(home / "data")
    return measured


def write(points: Sequence[dict[str, Any]], mesh: dict[str, dict[str, float]]) -> Path:
    """points: `growth.Point` of the largest size of each part."""
    services: dict[str, Any] = {
        name: {
            "cpu_ms": round(of["cpu_ms"], 4),
            "process_mb": round(of["process_mb"], 1),
            "unit": "",
            "disk": 0.0,
            "memory": 0.0,
        }
        for name, of in mesh.items()
    }
    services["roadrunner"].update(unit="record", disk=round(mesh["roadrunner"]["log_bytes"], 2))
    for point in points:
        disk, part = point["disk_bytes"], point["part"]
        memory = point["memory_bytes"] if part in IN_MEMORY else disk * (1.0 if part in MAPPED else HOT)
        services[part].update(unit=point["unit"], disk=round(disk, 2), memory=round(memory, 2))
    on = machine()
    stated = {name: on[name] for name in ("date", "commit", "cpu", "memory", "python")}
    sizes = {point["part"]: point["n"] for point in points}
    content = {"measured": {**stated, "command": "make bench ONLY=growth", "sizes": sizes}, "services": services}
    PATH.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")
    return PATH


def _processes(running: Running) -> dict[str, psutil.Process]:
    found = {}
    for child in running.supervisor.children:
        if child.process is None:
            raise RuntimeError(f"{child.of.service} is not running")
        found[child.of.service] = psutil.Process(child.process.pid)
    return found


def _cpu(running: Running) -> dict[str, float]:
    """Seconds of CPU by service."""
    times = {service: process.cpu_times() for service, process in _processes(running).items()}
    return {service: float(of.user + of.system) for service, of in times.items()}


def _resident(running: Running) -> dict[str, int]:
    return {service: int(process.memory_info().rss) for service, process in _processes(running).items()}


def _log_bytes(data: Path) -> float:
    """An event loaded, on the disk of the log: with its copies in every topic, and the ids that are remembered."""
    events = sum(msgspec.json.decode(path.read_bytes())["events"] for path in (data / "loads").glob("*.json"))
    size = sum(path.stat().st_size for path in (data / "roadrunner").rglob("*") if path.is_file())
    return float(size / max(1, events))
