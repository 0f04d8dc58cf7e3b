"""Walks over graphs of 10^5 to 10^7 edges, and of 1.5 * 10^8 with BENCH_LARGE=1, beside a plain walk.

The naive walk is in numba as well, one walker at a time over compressed sparse rows. Before any timing its answers are
compared with ours: a chi-square test of single steps, and the total variation of the shares of visits with restarts.
Every repetition takes other query pins, and all sides the same ones and as many steps from each. Rates are of one core's time
that a thread used (`thread_time`): the median of the repetitions, and their quartiles.
"""

import asyncio
import os
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from bench.report import Figure, over
from bench.rounds import BOTH_ENDS, around, latencies, repeated, timed
from pixie import kernel, runs
from pixie.build import Edges, build
from pixie.client import BOARDS, PixieClient
from pixie.counting import AHEAD, CHUNK
from pixie.kernel import GraphRuns, Options
from pixie.service import Pixie, Walking
from pixie.snapshot import Snapshot, open_snapshot
from pixie.steps import DEGREE_BITS, mixed, steps
from pixie.store import PixieStore, Question
from protos.pixie_pb2_grpc import add_PixieServicer_to_server
from services.core.clock import wall_clock
from services.core.columns import I64, U32, U64, Array
from services.kernels.jit import kernel as compiled
from services.kernels.prefetch import prefetch
from tests.kit import serve_shards

SIZES = (100_000, 1_000_000, 10_000_000)
LARGE = 150_000_000
STEPS, QUERIES, K, RESTART = 100_000, 10, 1_000, 0.5
REPEATS, CALLS, SECONDS = 15, 200, 2.0  # CALLS: of a round
QUESTIONS, TURNS = 1_000, 7
LINES = 64  # random places that are asked for before the first is read, as many as there are walkers
NEVER = 1 << 62
_GAMMA, _S32, _LOW = np.uint64(0x9E3779B97F4A7C15), np.uint64(32), np.uint64(0xFFFF_FFFF)


class SparseGraph(NamedTuple):
    """The same graph as compressed sparse rows, for the naive walk."""

    pin_offsets: I64
    pin_edges: U32
    board_offsets: I64
    board_edges: U32


def drawn(edges: int, seed: int = 1) -> Edges:
    """Saves of edges / 10 pins on edges / 20 boards, all of them used, popular ones far more often.

    A pin's degree falls with its rank to the power -2/3, a board's to the power -1/2. Ids are scattered, so that popular
    nodes are not neighbours.
    """
    rng = np.random.default_rng(seed)
    sides = []
    for nodes, power, first in ((edges // 10, 3, 0), (edges // 20, 2, 1)):
        ids = rng.permutation(nodes).astype(np.uint64) * np.uint64(977) + np.uint64(1)
        side = np.empty(edges, np.uint64)
        for start in range(0, edges, 1 << 22):
            part = side[start : start + (1 << 22)]
            part[:] = ids[(nodes * rng.random(len(part)) ** power).astype(np.int64)]
        side[first :: edges // nodes][:nodes] = ids
        sides.append(side)
    return Edges(*sides)


def measure(_: str | None) -> list[Figure]:
    """Every size; builds, RPCs and two cores on the largest."""
    sizes = (*SIZES, LARGE) if os.environ.get("BENCH_LARGE") else SIZES
    check_equal()
    figures: list[Figure] = []
    for edges in sizes:
        with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as name:
            folder, largest = Path(name), edges == sizes[-1]
            built = _build(folder, edges)
            store = PixieStore(folder, wall_clock)
            version = next(path.name for path in folder.iterdir())
            store.load(version, verify=False)
            rates = _rates(f"{edges:,} edges", store.snapshot, edges == LARGE)  # type: ignore[arg-type]
            figures += over("edges", edges, rates)
            if largest:
                figures += [*built, *_opening(folder / version), *_two_cores(store), *_by_rpc(store)]
    return figures


def _build(folder: Path, edges: int) -> list[Figure]:
    given = drawn(edges)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    began = time.perf_counter()
    build(folder, given, built_ms=wall_clock(), durable=False)
    took = time.perf_counter() - began
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) / (1 << 20)
    what, note = f"snapshot of {edges:,} edges", f"of it the edges given: {16 * edges / (1 << 30):.2f} GiB"
    return [
        Figure("pixie", f"{what}, building", took, "s", 300, at_most=True),
        Figure("pixie", f"{what}, peak memory of building", peak, "GiB", 12, at_most=True, note=note),
    ]


def _opening(folder: Path) -> list[Figure]:
    took = [_took(lambda: open_snapshot(folder, verify=False), time.perf_counter) for _ in range(5)]
    whole = _took(lambda: open_snapshot(folder), time.perf_counter)
    return [
        Figure("pixie", "opening a snapshot that was pushed", max(took), "s", 2, at_most=True, note="worst of 5"),
        Figure("pixie", "reading and checking all of it, as a push does", whole, "s"),
    ]


def _rates(what: str, snapshot: Snapshot, large: bool) -> list[Figure]:
    """Raw steps, steps of whole requests, and the naive walk's, in alternation; beside the rate that the memory allows."""
    graph, rows = snapshot.graph, csr(snapshot)
    pins = _query_pins(snapshot, REPEATS * QUERIES).reshape(REPEATS, QUERIES)
    trace, rates = np.empty((2, CHUNK + AHEAD), np.uint64), defaultdict(list)
    for turn in range(-1, REPEATS):  # the first compiles
        some, seed = pins[max(0, turn)], turn + 2
        edges = kernel.edges_to(graph.pin_starts, some)
        chosen = {restart: kernel.options(boards=False, restart=restart) for restart in (RESTART, 0.0)}
        works: dict[str, Callable[[], object]] = {"request": partial(_asked, snapshot, some, seed)}
        for restart, options in chosen.items():
            works[f"raw {restart}"] = partial(_raw, graph, options, edges, seed, trace)
            works[f"naive {restart}"] = partial(_naive, rows, options.restart, some, seed, trace[0])
        works["lines"] = partial(_lines, graph.pins, graph.boards, _places(graph, seed))
        for name, work in works.items():
            took = _took(work)
            if turn >= 0:
                rates[name].append((STEPS if name == "request" else QUERIES * STEPS) / took / 1e6)
    return _figures(what, {name: np.array(found) for name, found in rates.items()}, large)


def _figures(what: str, rates: dict[str, Array], large: bool) -> list[Figure]:
    request = f"{QUERIES} query pins, {STEPS:,} steps, booster, best {K:,}"
    raw_steps = f"{STEPS:,} steps from each of {QUERIES} pins, not counted"
    memory = "two random lines a step, one of each side, with nothing else to do and nothing to wait for"
    found = [("steps of a request", rates["request"], "M/s", 20 if large else None, request)]
    for restart, how in ((RESTART, f"restart {RESTART}"), (0.0, "without restarts")):
        raw, naive_walk = rates[f"raw {restart}"], rates[f"naive {restart}"]
        found += [
            (f"steps, raw, {how}", raw, "M/s", 40 if large else None, raw_steps),
            (f"steps, naive walk, {how}", naive_walk, "M/s", None, "the same in numba, one walker"),
            (f"raw against naive, {how}", raw / naive_walk, "times", 20 if large else None, "turn by turn"),
        ]
    found.append(("steps that the memory allows without restarts", rates["lines"], "M/s", None, memory))
    figures = []
    for name, values, unit, target, note in found:
        median, spread = around(values.tolist())
        figures.append(Figure("pixie", f"{what}: {name}", median, unit, target, note=note, spread=spread))
    return figures


def _asked(snapshot: Snapshot, rows: I64, seed: int) -> kernel.BestNodes:
    """The store's work for a request."""
    graph, weights = snapshot.graph, np.ones(len(rows), np.float32)
    shares = kernel.budgets(snapshot.degrees(rows), weights, snapshot.manifest.most, STEPS)
    boards, _ = kernel.visited(graph, rows, shares, kernel.options(boards=True, restart=RESTART), seed)
    if boards.steps.sum() != STEPS:
        raise AssertionError(f"{boards.steps.sum()} steps were walked")
    return kernel.best(graph.boards, boards, K)


def _two_cores(store: PixieStore) -> list[Figure]:
    """Requests answered by one thread and by two, in alternation; the first repetition warms up."""
    rates = [[_answered(store, threads) for threads in (1, 2)] for _ in range(1 + TURNS)][1:]
    one, two = np.median(rates, axis=0)
    note = (
        f"{one:,.0f} and {two:,.0f} requests/s of {STEPS:,} steps; needs both cores, and their shared caches, to itself"
    )
    times = [two / one for one, two in rates]
    return [repeated("pixie", "two threads against one", times, "times", 1.8, of="one and two in turns", note=note)]


def _answered(store: PixieStore, threads: int) -> float:
    done = [0] * threads

    def work(index: int) -> None:
        while time.perf_counter() < end:
            store.recommend(_question(store, 1 + index + threads * done[index]))
            done[index] += 1

    end = time.perf_counter() + SECONDS
    workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(done) / (time.perf_counter() - began)


def _question(store: PixieStore, seed: int) -> Question:
    snapshot = store.snapshot
    assert snapshot is not None
    pins = snapshot.pin_ids[_query_pins(snapshot, QUERIES, seed)]
    return Question(pins, np.ones(len(pins), np.float32), kernel.options(boards=True), K, STEPS, 0.0, seed)


def _by_rpc(store: PixieStore) -> list[Figure]:
    service = Pixie(store, Walking(restart=RESTART, stop_nodes=NEVER, stop_visits=NEVER))
    asked = [_question(store, seed) for seed in range(1, QUESTIONS + 1)]
    with (
        serve_shards("pixie", [[lambda server: add_PixieServicer_to_server(service, server)]], 4) as mesh,
        asyncio.Runner() as runner,
    ):
        client, loop = PixieClient(mesh), runner.get_loop()
        rounds = timed(lambda call: loop.run_until_complete(_ask(client, asked[call % QUESTIONS])), CALLS)
        loop.run_until_complete(client.close())
    what = f"{STEPS:,} steps from {QUERIES} pins, best {K:,} boards, by RPC"
    return latencies("pixie", what, rounds, 15, BOTH_ENDS)


async def _ask(client: PixieClient, asked: Question) -> None:
    pins, weights = asked.pins, asked.weights
    found = await client.recommend(pins, weights, want=BOARDS, k=K, steps=STEPS, seed=asked.seed, timeout=5)
    if len(found.ids) != K or found.steps.sum() != STEPS:
        raise RuntimeError(f"seed {asked.seed}: {len(found.ids)} boards after {found.steps.sum()} steps")


def check_equal() -> None:
    """The naive walk and ours go to the same places, on a graph of 2,000 edges. Raises AssertionError."""
    with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as folder:
        snapshot = open_snapshot(Path(folder) / build(Path(folder), drawn(2_000), built_ms=1, durable=False))
        rows, n = csr(snapshot), 400_000
        for seed, pin in enumerate(_query_pins(snapshot, 5)):
            table = np.array([_visits(snapshot, rows, pin, 1.0, n, seed, ours) for ours in (True, False)])
            p = stats.chi2_contingency(table[:, table.sum(0) >= 10]).pvalue
            if p < 1e-4:
                raise AssertionError(f"single steps of the two walks differ: chi-square p = {p}")
            shares = [_visits(snapshot, rows, pin, RESTART, 5 * n, seed, ours) / (5 * n) for ours in (True, False)]
            apart = np.abs(shares[0] - shares[1]).sum() / 2
            if apart > 0.01:
                raise AssertionError(f"shares of visits of the two walks differ: total variation {apart}")


def _visits(snapshot: Snapshot, rows: SparseGraph, pin: int, restart: float, n: int, seed: int, ours: bool) -> Array:
    """float64[pins]: visits of n steps."""
    chosen, counts = kernel.options(boards=False, plain=True, restart=restart), np.zeros(len(snapshot.pin_ids))
    if ours:
        _, found = kernel.visited(snapshot.graph, np.array([pin]), np.array([n]), chosen, seed)
        answer = kernel.best(snapshot.graph.pins, found, len(counts))
        counts[answer.nodes] = answer.scores
    else:
        trace = np.empty(n, np.uint64)
        naive(rows, pin, chosen.restart, n, seed, trace)
        counts[:] = np.bincount(trace.astype(np.int64), minlength=len(counts))
    return counts


def csr(snapshot: Snapshot) -> SparseGraph:
    """Offsets and rows, as a graph is usually held."""
    graph, manifest = snapshot.graph, snapshot.manifest
    board_starts = runs.starts_in(graph.boards, manifest.boards)
    sides: list[Any] = []
    for words, starts, others in (
        (graph.pins, graph.pin_starts, graph.boards),
        (graph.boards, board_starts, graph.pins),
    ):
        edges = np.empty(manifest.edges, np.uint32)
        _unpack(words, starts, others, edges)
        sides += [(starts - np.arange(len(starts), dtype=np.uint64)).astype(np.int64), edges]
    return SparseGraph(*sides)


def _query_pins(snapshot: Snapshot, n: int, seed: int = 1) -> I64:
    """Rows of pins of 10 to 100 boards."""
    rng, found = np.random.default_rng(seed), np.empty(0, np.int64)
    while len(found) < n:
        rows = rng.integers(0, len(snapshot.pin_ids), 8 * n)
        degrees = snapshot.degrees(rows)
        found = np.append(found, rows[(degrees >= 10) & (degrees <= 100)])
    return found[:n]


def _took(work: Callable[[], object], clock: Callable[[], float] = time.thread_time) -> float:
    began = clock()
    work()
    return clock() - began


def _raw(graph: GraphRuns, chosen: Options, edges: U64, seed: int, trace: U64) -> None:
    """STEPS steps from each of these query pins."""
    for edge in edges:
        _walk(graph, chosen, edge, STEPS, np.uint64(seed), kernel.walkers_at(edge), trace)


def _naive(rows: SparseGraph, restart: Any, pins: I64, seed: int, trace: U64) -> None:
    for pin in pins:
        naive(rows, pin, restart, STEPS, seed, trace)


def _places(graph: GraphRuns, seed: int) -> Array:
    """int64[2, QUERIES * STEPS]: of words of the two sides' runs."""
    rng = np.random.default_rng(seed)
    return np.array([rng.integers(0, len(words), QUERIES * STEPS) for words in (graph.pins, graph.boards)])


@compiled
def _lines(pins: Any, boards: Any, places: Any) -> Any:
    """The sum of the words at these places, LINES of one side and LINES of the other in alternation, all asked for ahead."""
    total, n = np.uint64(0), places.shape[1]
    for first in range(0, n, LINES):
        last = min(first + LINES, n)
        for i in range(first, last):
            prefetch(pins, places[0, i])
        for i in range(first, last):
            prefetch(boards, places[1, i])
        for i in range(first, last):
            total += pins[places[0, i]] + boards[places[1, i]]
    return total


@compiled
def _walk(graph: Any, chosen: Any, edge: Any, n: Any, state: Any, walkers: Any, trace: Any) -> None:
    for done in range(0, n, CHUNK):
        state = steps(graph, chosen, edge, min(CHUNK, n - done), len(walkers.at), state, walkers, trace[0], trace[1])


@compiled
def naive(rows: Any, start: Any, restart: Any, n: Any, seed: Any, trace: Any) -> None:
    """One walker, one step after the other; the pins that it visits go to the trace, over and over."""
    pin, state = start, np.uint64(seed)
    for step in range(n):
        state += _GAMMA
        draw = mixed(state)
        first = rows.pin_offsets[pin]
        degree = np.uint64(rows.pin_offsets[pin + 1] - first)
        board = np.int64(rows.pin_edges[first + np.int64((draw >> _S32) * degree >> _S32)])
        first = rows.board_offsets[board]
        degree = np.uint64(rows.board_offsets[board + 1] - first)
        pin = np.int64(rows.board_edges[first + np.int64((draw & _LOW) * degree >> _S32)])
        trace[step % len(trace)] = pin
        state += _GAMMA
        if mixed(state) >> _S32 < restart:
            pin = start


@compiled
def _unpack(words: Any, starts: Any, others: Any, edges: Any) -> None:
    for node in range(len(starts) - 1):
        for at in range(starts[node] + np.uint64(1), starts[node + 1]):
            edges[at - node - 1] = others[words[at] >> np.uint64(DEGREE_BITS)] & _LOW
