"""Filters of seen pins: built and probed, over 1,000 to 10,000,000 ids, with their size and their measured rate.

One thread, pinned to one core; the median of many runs with their quartiles, in the processor's time of that thread.
Beyond 100,000 ids a filter is larger than the caches of a core, and a key costs the line of its block from the cache
that cores share: the kernel asks ahead for 16 of them, and the rest depends on the other cores' use of that cache.
"""

import time
from collections.abc import Callable

import numpy as np

from bench.report import Figure, over
from bench.rounds import ONE_CORE, on_one_core, repeated
from services.core.columns import U64
from services.kernels import bloom

SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
RATE, PROBED = 0.01, 1_000_000
RUNS, MOST_KEYS = 101, 50_000_000  # of a size; fewer runs of the largest
AT_ONCE = 100_000  # keys of one run at least: of a small filter it is several calls, so that the clock is no part of it
PART, PER_KEY_NS = "filters", 8
NOTE = f"{ONE_CORE}, processor time"


def measure(_: str | None) -> list[Figure]:
    """Each size."""
    with on_one_core():
        bloom.probe(bloom.build(np.ones(1, np.uint64)), np.ones(1, np.uint64))
        return [figure for size in SIZES for figure in over("ids", size, _of_size(size))]


def _of_size(size: int) -> list[Figure]:
    rng = np.random.default_rng(size)
    held, absent = _ids(rng, size), _ids(rng, max(size, PROBED))
    words = bloom.build(held, RATE)
    found = bloom.probe(words, held)
    if not found.all():
        raise RuntimeError(f"{size - int(found.sum())} of {size} ids that were added are not found")
    empty, bits, what = np.zeros_like(words), 32 * len(words) / size, f"of {size:,} ids"
    work: dict[str, Callable[[], object]] = {
        f"added to a filter {what}": lambda: bloom.add(empty, held),
        f"filter built {what}": lambda: bloom.build(held, RATE),
        f"probed, present, {what}": lambda: bloom.probe(words, held),
        f"probed, absent, {what}": lambda: bloom.probe(words, absent[:size]),
    }
    wrong = 100 * float(bloom.probe(words, absent).mean())
    return [
        *(_timed(name, run, size) for name, run in work.items()),
        Figure(PART, f"size {what}", bits, "bits/key", 11.5, True),
        Figure(PART, f"false positives {what}", wrong, "%", note=f"asked {RATE:.0%}; of {len(absent):,} absent ids"),
    ]


def _ids(rng: np.random.Generator, n: int) -> U64:
    """Random ids; two alike of 2^63 are as good as impossible."""
    return rng.integers(1, 2**63, n, dtype=np.uint64)


def _timed(what: str, call: Callable[[], object], keys: int) -> Figure:
    """Nanoseconds a key, over many runs; the first ones warm up."""
    calls, took = max(1, AT_ONCE // keys), list[float]()
    warm_up, runs = max(2, 10_000_000 // (calls * keys)), max(11, min(RUNS, MOST_KEYS // (calls * keys)))
    for _ in range(warm_up + runs):
        started = time.thread_time_ns()
        for _ in range(calls):
            call()
        took.append((time.thread_time_ns() - started) / (calls * keys))
    return repeated(PART, what, took[warm_up:], "ns/key", PER_KEY_NS, at_most=True, note=NOTE)
