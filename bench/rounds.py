"""A measure taken several times: its median and its spread; and where it ran."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from bench.report import Figure

ROUNDS, WARM_UP, WARM_UP_S = 5, 20, 0.3
_FEW = 8  # of fewer, the ends are reported and not the quartiles
ONE_CORE = "one thread, pinned to one core"
BOTH_ENDS = "client and server are threads of one process, on all cores"


class Around(NamedTuple):
    """The median of some repetitions; and their quartiles, or of a few the ends."""

    median: float
    spread: tuple[float, float]


def around(values: Sequence[float]) -> Around:
    """The figure of repetitions."""
    low, high = (0, 100) if len(values) < _FEW else (25, 75)
    middle, *ends = (float(x) for x in np.percentile(values, (50, low, high)))
    return Around(middle, (ends[0], ends[1]))


def repeated(
    part: str, what: str, values: Sequence[float], unit: str, target: float | None = None, *, at_most: bool = False,
    of: str = "", note: str = "",
) -> Figure:  # fmt: skip
    """The figure of a measure that was taken len(values) times. of: the content of a round."""
    found, how_many = around(values), f"{len(values)} rounds{of and ' of '}{of}"
    return Figure(
        part, what, found.median, unit, target, at_most, f"{how_many}; {note}" if note else how_many, found.spread
    )


def latencies(part: str, what: str, rounds: Sequence[Sequence[float]], p99_ms: float | None, note: str) -> list[Figure]:
    """P50 and P99 of the calls (seconds) of each round: medians over rounds. The target is the P99's."""
    p50, p99 = np.percentile(np.asarray(rounds) * 1_000, (50, 99), axis=1).tolist()
    of = f"{len(rounds[0]):,} calls"
    return [
        repeated(part, f"{what}, P50", p50, "ms", of=of, note=note),
        repeated(part, f"{what}, P99", p99, "ms", p99_ms, at_most=True, of=of, note=note),
    ]


def timed(call: Callable[[int], object], calls: int, rounds: int = ROUNDS) -> list[list[float]]:
    """Seconds of each of `calls` calls, in so many rounds. Each call gets its number; the first, WARM_UP of them and
    WARM_UP_S seconds at least, are not counted.
    """
    number, began, found = 0, time.perf_counter(), list[list[float]]()
    while number < WARM_UP or time.perf_counter() - began < WARM_UP_S:
        call(number)
        number += 1
    for _ in range(rounds):
        took = []
        for _ in range(calls):
            started = time.perf_counter()
            call(number)
            took.append(time.perf_counter() - started)
            number += 1
        found.append(took)
    return found


@contextmanager
def on_one_core() -> Iterator[None]:
    """The calling thread is pinned to one core until the block ends; threads that are there already are not."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
