"""One part of the benchmark, run in a process of its own so that no part's memory or caches help another's."""

from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context

from bench.report import Figure


def measure_alone(part: str, data: str | None) -> list[Figure]:
    """The figures of a part."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        return alone.submit(_measure, part, data).result()


def _measure(part: str, data: str | None) -> list[Figure]:
    measured: list[Figure] = import_module(f"bench.{part}").measure(data)
    return measured
