"""Another number of shards of polaris while readers read: 2 -> 3 -> 5 on one machine, from snapshots, by `feedmesh layout`.

Readers of the following feed, which asks polaris for every page, arrive at a fixed rate before, during and after. A failed
request is any answer but 200. Seconds are those of the commands, with the start of Python.
"""

import asyncio
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import uvloop

from bench.mesh import USERS, world
from bench.readers import Read, read
from bench.report import Figure
from services.blob.opening import open_blobs
from services.core.installation import environment, program
from services.ops.layouts import why_not_filled
from services.ops.probe import asked_once
from services.rpc import mesh as meshes
from services.state.manifest import all_of
from tests.running import Running

SERVICE, STEPS = "polaris", (2, 3, 5)
RATE, CALM_S, WARM_S, MOST_S = 60, 15, 8, 600.0  # feeds a second; seconds
SNAPSHOT_S, POLL_S = 5.0, 0.1


def measure(data: str | None) -> list[Figure]:
    """Load a world into a mesh with shards of the first number; each step under load."""
    figures: list[Figure] = []
    with world(data, polaris={"shards": STEPS[0], "snapshot_every_s": SNAPSHOT_S}) as (running, home, name):
        uvloop.run(read(running.url, "following", USERS, RATE, WARM_S))
        for before, after in pairwise(STEPS):
            figures += _step(running, home / "data", name, before, after)
    return figures


def _step(running: Running, data: Path, name: str, before: int, after: int) -> list[Figure]:
    _until(lambda: _kept(data, before))
    calm = _calm(running)
    took: dict[str, float] = {}
    with ThreadPoolExecutor(1) as pool:
        doing = pool.submit(_reshard, data, after, took)
        during = uvloop.run(read(running.url, "following", USERS, RATE, MOST_S, doing.done))
        doing.result()
    reads = {"before": calm, "during": during, "after": _calm(running)}
    of = f"{before} to {after} shards of {SERVICE}"
    note = f"following pages of {name}, {RATE} a second"
    found = [
        Figure("resharding", f"{of}: {what}", float(count), unit, 0, at_most=True, note=note)
        for what, unit, count in (
            ("failed requests", "answers", sum(one.failed for one in reads.values())),
            ("degraded pages", "pages", sum(one.degraded for one in reads.values())),
        )
    ]
    found += [
        Figure("resharding", f"{of}: P99 {when}", _p99_ms(one), "ms", note=_of(one)) for when, one in reads.items()
    ]
    return found + [Figure("resharding", f"{of}: {what}", seconds, "s", note=note) for what, seconds in took.items()]


def _reshard(data: Path, shards: int, took: dict[str, float]) -> None:
    """Each step of it, and the seconds that it took."""
    began = time.monotonic()
    _layout(data, "add", "--shards", shards)
    _until(lambda: _filled(data, shards))
    took["until all shards are filled"] = time.monotonic() - began
    for step in ("switch", "retire"):
        began = time.monotonic()
        _layout(data, step)
        took[step] = time.monotonic() - began


def _layout(data: Path, step: str, *words: object) -> None:
    command = [*program("cli.main"), "layout", step, SERVICE, *map(str, words), "--data", str(data)]
    subprocess.run(command, env=environment(), check=True, capture_output=True, timeout=MOST_S)


def _filled(data: Path, shards: int) -> bool:
    mesh = meshes.load(meshes.mesh_file(data))
    own = [h for h in asyncio.run(asked_once(mesh)) if (h.of.service, h.of.shards) == (SERVICE, shards)]
    return len(own) == shards and not any(map(why_not_filled, own))


def _kept(data: Path, shards: int) -> bool:
    """Whether each shard has a snapshot."""
    found = [bool(of.ids()) for of in all_of(open_blobs(data), SERVICE) if of.shards == shards]
    return len(found) == shards and all(found)


def _calm(running: Running) -> Read:
    return uvloop.run(read(running.url, "following", USERS, RATE, CALM_S))


def _p99_ms(of: Read) -> float:
    return float(np.percentile(of.waited, 99)) * 1_000


def _of(of: Read) -> str:
    p50 = float(np.percentile(of.waited, 50)) * 1_000
    return f"{len(of.waited):,} pages, P50 {p50:.1f} ms, {_failures(of)}"


def _failures(of: Read) -> str:
    return f"{of.failed} failed, {of.degraded} degraded, {of.short} with fewer than 25 pins"


def _until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + MOST_S
    while not done():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {MOST_S:.0f} s")
        time.sleep(POLL_S)
