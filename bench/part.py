"""One part of the benchmark, run in processes of its own so that no part's memory or caches help another's.

A part is `bench/<part>.py`; `bench/peers/<part>.py`, where there is one, puts it beside its peers.
"""

from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import get_context

from bench.parts import PARTS
from bench.report import Figure, PartResults, machine
from services.ops.memory import settle_memory


def measure_alone(part: str, data: str | None) -> PartResults:
    """A part, alone and beside its peers. Raises its error."""
    found: list[PartResults] = []
    for module in (f"bench.{part}", f"bench.peers.{part}"):
        if find_spec(module):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                found.append(alone.submit(_measure, module, data, PARTS[part].threads).result())
    return PartResults(found[0].machine, found[0].threads, [figure for of in found for figure in of.figures])


def _measure(module: str, data: str | None, threads: str) -> PartResults:
    on = machine()
    settle_memory()  # as every process does that serves
    figures: list[Figure] = import_module(module).measure(data)
    return PartResults(on, threads, figures)
