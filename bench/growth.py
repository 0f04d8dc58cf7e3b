"""The cost of an operation, and the bytes kept, as the work grows: each part from 10^4 to 10^6 pins, users or edges; with
BENCH_LARGE=1 to 10^7, and edges to 10^8. A table, `results/growth.png` on two logarithmic axes, and the figures that
`feedmesh plan` reads.

Each size of each part runs in a process of its own, so that its memory is its own. Questions are timed when caches are as
they stay, after WARM_S seconds of questions; values that fit in no cache are read from files in the memory of the system.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import count, islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil

from bench import drawing, growing
from bench.capacity import cpu_per_feed, write
from bench.report import Figure

SIZES = (10_000, 100_000, 1_000_000)
LARGE, LARGE_EDGES = 10_000_000, 100_000_000
QUESTIONS, WARM_S = 200, 2.0
OPENING = 1_000  # entities that are there before memory is first looked at, so that code and buffers are not counted
ALONE_S = 900


@dataclass(frozen=True, slots=True)
class Point:
    """A part at one size. apply_us: CPU of the process a unit written, its compaction included; ask_us: median of a
    question; bytes a unit.
    """

    part: str
    unit: str
    question: str
    n: int
    apply_us: float
    ask_us: float
    disk_bytes: float
    memory_bytes: float
    base_mb: float


def measure(_: str | None) -> list[Figure]:
    """Every part at every size, and the CPU of a feed over the whole mesh for the plan."""
    points = {part: [_alone(part, n) for n in _sizes(made.unit)] for part, made in growing.PARTS.items()}
    every = [point for of in points.values() for point in of]
    write([asdict(of[-1]) for of in points.values()], cpu_per_feed())
    return [figure for point in every for figure in drawing.grown(point)]


def _sizes(unit: str) -> tuple[int, ...]:
    if not os.environ.get("BENCH_LARGE"):
        return SIZES
    return (*SIZES, LARGE, LARGE_EDGES) if unit == "edge" else (*SIZES, LARGE)


def _alone(part: str, n: int) -> Point:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        return alone.submit(point, part, n).result(ALONE_S)


def point(part: str, n: int) -> Point:
    """Fill the part with n units and ask it, in this process."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    made = growing.PARTS[part]
    folder = Path(tempfile.mkdtemp(prefix="feedmesh-bench-"))
    try:
        grown = made(folder, n)
        grown.add(0, min(OPENING, n // 2))
        grown.ask(0)
        before, began, rss = min(OPENING, n // 2), time.process_time(), _resident()
        making = grown.making.seconds
        grown.add(before, n)
        taken, held = time.process_time() - began, _resident() - rss
        taken -= grown.making.seconds - making
        took = _questions(grown.ask)
        grown.close()
        kept = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    ask_us = float(np.median(took)) * 1e6
    rest = n - before
    return Point(
        part, made.unit, made.question, n, taken / rest * 1e6, ask_us, kept / n, max(0, held) / rest, rss / 1e6
    )


def _questions(ask: Callable[[int], object]) -> list[float]:
    asked, until = count(), time.perf_counter() + WARM_S
    while time.perf_counter() < until:
        ask(next(asked))
    took = []
    for i in islice(asked, QUESTIONS):
        began = time.perf_counter()
        ask(i)
        took.append(time.perf_counter() - began)
    return took


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)
