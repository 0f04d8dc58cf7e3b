"""A measure taken several times: its median, with what is around it; and where it ran."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from bench.report import Figure

ROUNDS = 5
_FEW = 8  # of fewer, the ends are told and not the quartiles
ONE_CORE = "one thread, pinned to one core"
BOTH_ENDS = "client and server are threads of one process, on all cores"


class Around(NamedTuple):
    """The median of some repetitions; and their quartiles, or of a few the ends."""

    median: float
    spread: tuple[float, float]


def around(values: Sequence[float]) -> Around:
    """What is told of repetitions."""
    low, high = (0, 100) if len(values) < _FEW else (25, 75)
    middle, *ends = (float(x) for x in np.percentile(values, (50, low, high)))
    return Around(middle, (ends[0], ends[1]))


def repeated(
    part: str, what: str, values: Sequence[float], unit: str, target: float | None = None, *, at_most: bool = False,
    note: str = "",
) -> Figure:  # fmt: skip
    """The figure of a measure that was taken len(values) times."""
    found, told = around(values), f"{len(values)} rounds"
    return Figure(part, what, found.median, unit, target, at_most, f"{told}; {note}" if note else told, found.spread)


def latencies(part: str, what: str, rounds: Sequence[Sequence[float]], p99_ms: float | None, note: str) -> list[Figure]:
    """P50 and P99 of the calls (seconds) of each round: medians over rounds. The target is the P99's."""
    found = np.percentile(np.asarray(rounds) * 1_000, (50, 99), axis=1).tolist()
    note = f"of {len(rounds[0]):,} calls; {note}"
    return [
        repeated(part, f"{what}, P50", found[0], "ms", note=note),
        repeated(part, f"{what}, P99", found[1], "ms", p99_ms, at_most=True, note=note),
    ]


def timed(call: Callable[[int], object], calls: int, warm_up: int = 20, rounds: int = ROUNDS) -> list[list[float]]:
    """Seconds of each of `calls` calls, in so many rounds; each call is told its number, and the first are not counted."""
    for number in range(warm_up):
        call(number)
    found = []
    for turn in range(rounds):
        took = []
        for number in range(turn * calls, (turn + 1) * calls):
            started = time.perf_counter()
            call(warm_up + number)
            took.append(time.perf_counter() - started)
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
