"""How long a replica with an empty folder takes to be ready: from a snapshot, and by applying the log from its beginning.

Real processes, roadrunner and apiary: the log is written, apiary's folder removed, its process started, and asked how it is until
it is ready and has nothing left to apply. From a snapshot it applies what came after that: a fixed part of events.
"""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.report import Figure, over
from bench.rounds import repeated
from bench.views import follows
from cli.schema import SCHEMA
from roadrunner.client import open_publisher
from services.blob.opening import open_blobs
from services.core import settings
from services.ops.planning import plan
from services.ops.probe import asked_once
from services.ops.supervisor import DataFolder, Supervisor
from services.state.manifest import Snapshots
from services.state.restore import origins

SIZES = (100_000, 1_000_000, *((10_000_000,) if os.environ.get("BENCH_LARGE") else ()))
AFTER = 20_000  # events that come after the snapshot
BATCH, ROUNDS, WITHIN_S, POLL_S = 10_000, 3, 1_800.0, 0.02
SERVICES = ("roadrunner", "apiary")


def measure(_: str | None) -> list[Figure]:
    """Over sizes of the log."""
    figures: list[Figure] = []
    for size in SIZES:
        with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as folder:
            figures += over("events", size, _of_size(Path(folder), size))
    return figures


def _of_size(data: Path, size: int) -> list[Figure]:
    with _mesh(data) as running:
        _publish(running, size, 0)
        _until_applied(running)
    rebuilt = [_ready(data, False) for _ in range(ROUNDS)]
    with _mesh(data, snapshot_every_s=1.0) as running:
        to = Snapshots(open_blobs(data), "apiary", 0, 1)
        _until(lambda: bool(to.ids()))
        bytes_kept = to.manifest(to.ids()[0]).size
    with _mesh(data) as running:
        _publish(running, AFTER, size)
        _until_applied(running)
    restored = [_ready(data, True) for _ in range(ROUNDS)]
    of = f"a log of {size:,} events"
    note = "from the start of the process, with its imports, until it is ready and has applied the whole log"
    more = f"{note}; {AFTER:,} events came after the snapshot, which has {bytes_kept / 1e6:,.1f} MB"
    return [
        repeated("snapshots", f"apiary ready over {of}, from a snapshot", restored, "s", 60, at_most=True, note=more),
        repeated("snapshots", f"apiary ready over {of}, by the log alone", rebuilt, "s", note=note),
    ]


@contextmanager
def _mesh(data: Path, **apiary: Any) -> Iterator[Supervisor]:
    sections = settings.validated({"mesh": {"data": str(data)}, "apiary": apiary}, "the benchmark", SCHEMA)
    folder = DataFolder(data)
    running = Supervisor(plan(sections, SERVICES), lambda line: None)
    running.start()
    try:
        yield running
    finally:
        running.stop()
        folder.release()


def _publish(running: Supervisor, events: int, after: int) -> None:
    """So many events, each with an id of its own, once the mesh is ready."""
    _until_applied(running)
    with open_publisher(running.mesh.data) as publisher:
        for start in range(0, events, BATCH):
            batch = follows(min(BATCH, events - start), after + start)
            ids = np.arange(1 + after + start, 1 + after + start + len(batch), dtype=np.uint64)
            publisher.publish(batch.replace(id=ids), 60)


def _ready(data: Path, snapshot: bool) -> float:
    """Seconds from the start of apiary's process on an empty folder until it has applied the log."""
    kept = data / "snapshots"
    if not snapshot and kept.exists():
        raise ValueError(f"{kept}: would be used")
    shutil.rmtree(data / "apiary")
    with _mesh(data) as running:
        began = next(child.started for child in running.children if child.of.service == "apiary")
        _until_applied(running)
        took = time.monotonic() - began
    if bool(origins(data / "apiary" / "0of1")) != snapshot:
        raise ValueError("it was not filled as it was to be")
    return took


def _until_applied(running: Supervisor) -> None:
    def applied() -> bool:
        running.watch()
        return all(h.ready and h.status and not h.status.behind for h in asyncio.run(asked_once(running.mesh)))

    _until(applied)


def _until(done: Any) -> None:
    end = time.monotonic() + WITHIN_S
    while not done():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {WITHIN_S:.0f} s")
        time.sleep(POLL_S)
