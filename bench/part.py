"""One part of the benchmark, run in processes of its own so that no part's memory or caches help another's.

A part is `bench/<part>.py`; `bench/peers/<part>.py`, where there is one, puts it beside its peers.
"""

from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import get_context

from bench.report import Figure
from services.memory import settle_memory


def measure_alone(part: str, data: str | None) -> list[Figure]:
    """The figures of a part, alone and beside its peers."""
    figures: list[Figure] = []
    for module in (f"bench.{part}", f"bench.peers.{part}"):
        if find_spec(module):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                figures += alone.submit(_measure, module, data).result()
    return figures


def _measure(module: str, data: str | None) -> list[Figure]:
    settle_memory()  # as every process does that serves
    measured: list[Figure] = import_module(module).measure(data)
    return measured
