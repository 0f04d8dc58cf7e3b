"""Filters of what was seen: built and probed, over 1,000 to 10,000,000 ids, with their size and their measured rate.

On one core, and the fastest of many runs: what a key costs, not what the machine does beside.
"""

import os
import time
from collections.abc import Callable

import numpy as np

from bench.report import Figure
from services import bloom
from services.columns import U64

SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
RATE, PROBED = 0.01, 1_000_000
PART = "filters"


def measure(_: str | None) -> list[Figure]:
    """Each size in turn."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    bloom.probe(bloom.build(np.ones(1, np.uint64)), np.ones(1, np.uint64))
    return [figure for size in SIZES for figure in _of_size(size)]


def _of_size(size: int) -> list[Figure]:
    rng = np.random.default_rng(size)
    held, absent = _ids(rng, size), _ids(rng, max(size, PROBED))
    words = bloom.build(held, RATE)
    found = bloom.probe(words, held)
    if not found.all():
        raise RuntimeError(f"{size - int(found.sum())} of {size} ids that were added are not found")
    empty, bits = np.zeros_like(words), 32 * len(words) / size
    what = f"of {size:,} ids"
    return [
        Figure(PART, f"added to a filter {what}", _fastest(lambda: bloom.add(empty, held), size), "ns/key", 8, True),
        Figure(PART, f"filter built {what}", _fastest(lambda: bloom.build(held, RATE), size), "ns/key", 8, True),
        Figure(PART, f"probed, present, {what}", _fastest(lambda: bloom.probe(words, held), size), "ns/key", 8, True),
        Figure(
            PART,
            f"probed, absent, {what}",
            _fastest(lambda: bloom.probe(words, absent[:size]), size),
            "ns/key",
            8,
            True,
        ),
        Figure(PART, f"size {what}", bits, "bits/key", 11.5, True),
        Figure(
            PART,
            f"false positives {what}",
            100 * float(bloom.probe(words, absent).mean()),
            "%",
            note=f"asked {RATE:.0%}",
        ),
    ]


def _ids(rng: np.random.Generator, n: int) -> U64:
    """Random ids; two alike of 2^63 are as good as impossible."""
    return rng.integers(1, 2**63, n, dtype=np.uint64)


def _fastest(run: Callable[[], object], keys: int) -> float:
    """Nanoseconds a key of the fastest of some runs, of a second or so altogether, in time of the processor."""
    took = []
    for _ in range(max(5, min(2_000, 20_000_000 // keys))):
        started = time.thread_time_ns()
        run()
        took.append(time.thread_time_ns() - started)
    return min(took) / keys
