"""The log on three brokers, each in a network namespace of its own, and the whole mesh beside them on the same cores.

Batches first, as fast as they are acknowledged, until every view has applied them. Then single publishes at a rate that leaves
the cores idle at times: until each is acknowledged, and until every view answers a read that carries its token.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.ingest import BATCH, WRITERS, requests
from bench.report import Figure
from protos import roadrunner_pb2 as pb
from protos import roadrunner_pb2_grpc as rpc
from services.core import context
from services.core.clock import wall_clock
from services.core.events import Action, events
from services.rpc.channel import open_sync
from tests.drill.cluster import hosts
from tests.drill.cluster.brokers import Brokers
from tests.kafka import broker
from tests.running import QUESTIONS, Running, running_mesh

PART = "brokers"
BATCHES = 400
SINGLES, SINGLES_S, SEEN, SEEN_S = 3_000, 100.0, 300, 5.0
WITHIN_S = 30.0
NOTE = "3 brokers, acks=all, 2 of 3 in sync at least; the brokers, the whole mesh and the client share both cores"
USER, PIN, BOARD = 7, 11, 13


def measure(_: str | None) -> list[Figure]:
    """Raises RuntimeError where this machine lacks a part."""
    if lack := hosts.missing() + [why for why in (broker.missing(),) if why]:
        raise RuntimeError("; ".join(lack))
    with _mesh() as running, open_sync(running.mesh.of("roadrunner")[0].address) as channel:
        publish = rpc.RoadrunnerStub(channel).Publish
        return [*_batches(running, publish), *_singles(publish), *_seen(running, publish)]


@contextmanager
def _mesh() -> Iterator[Running]:
    with (
        tempfile.TemporaryDirectory(prefix="feedmesh-bench-", ignore_cleanup_errors=True) as folder,
        ExitStack() as stack,
    ):
        on = stack.enter_context(hosts.hosts(Path(folder)))
        brokers = Brokers(on)
        stack.callback(brokers.stop)
        brokers.start()
        sections = brokers.sections() | {"prober": {"every_s": 0.0}, "learning": {"first": False}}
        yield stack.enter_context(running_mesh(Path(folder) / "data", sections))


def _batches(running: Running, publish: Callable[..., object]) -> list[Figure]:
    made = requests(BATCHES + BATCHES // 4, BATCH, 1)
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(lambda one: publish(one, timeout=WITHIN_S), made[BATCHES:]))
        running.until_caught_up()
        began = time.perf_counter()
        list(pool.map(lambda one: publish(one, timeout=WITHIN_S), made[:BATCHES]))
        acknowledged = time.perf_counter() - began
    running.until_caught_up()
    applied, count = time.perf_counter() - began, BATCH * BATCHES
    note = f"{BATCHES} batches; {NOTE}"
    return [
        Figure(PART, f"batches of {BATCH:,}, {WRITERS} writers", count / acknowledged, "events/s", 100_000, note=note),
        Figure(PART, "the same, until every view has applied them", count / applied, "events/s", 100_000, note=note),
    ]


def _singles(publish: Callable[..., object]) -> list[Figure]:
    """Due at their times whatever became of those before."""
    made = requests(SINGLES, 1, 2)
    took: list[float] = []

    def one(due: float, request: pb.PublishRequest) -> None:
        publish(request, timeout=WITHIN_S)
        took.append(time.perf_counter() - due)

    with ThreadPoolExecutor(64) as pool:
        began = time.perf_counter() + 0.1
        for i, request in enumerate(made):
            due = began + i / SINGLES_S
            time.sleep(max(0.0, due - time.perf_counter()))
            pool.submit(one, due, request)
    if len(took) < SINGLES:
        raise RuntimeError(f"{SINGLES - len(took)} of {SINGLES} publishes failed")
    return _latencies(f"single events, {SINGLES_S:.0f} a second, acknowledged", took, 30.0)


def _seen(running: Running, publish: Callable[..., Any]) -> list[Figure]:
    """Of a save; the count of its pin is made of it in a second step, which no token names."""
    took = []
    with ExitStack() as stack, ThreadPoolExecutor(len(QUESTIONS)) as pool:
        asks = [_asker(stack, running, view) for view in QUESTIONS]
        for i in range(SEEN):
            batch = events(1, action=Action.SAVE, user=USER, pin=PIN, board=BOARD, at_ms=wall_clock(), id=2**40 + i)
            began = time.perf_counter()
            token = publish(pb.PublishRequest(batch=batch.to_proto()), timeout=WITHIN_S).token
            list(pool.map(lambda ask, token=token: ask(token), asks))
            took.append(time.perf_counter() - began)
            time.sleep(max(0.0, 1 / SEEN_S - took[-1]))
    return _latencies(f"a save, {SEEN_S:.0f} a second, until every view has it", took, 250.0)


def _asker(stack: ExitStack, running: Running, view: str) -> Callable[[bytes], object]:
    """Asks a view, and is answered once it has what a token names."""
    method, asking = QUESTIONS[view]
    request = asking(USER)
    channel = stack.enter_context(open_sync(running.mesh.of(view)[0].address))
    ask: Any = channel.unary_unary(method, request_serializer=type(request).SerializeToString)
    return lambda token: ask(request, timeout=WITHIN_S, metadata=((context.TOKEN_KEY, token),))


def _latencies(what: str, took: Sequence[float], most_ms: float) -> list[Figure]:
    ms, note = [1000 * one for one in took], f"{len(took):,} events; {NOTE}"
    return [
        Figure(PART, f"{what}, P50", statistics.median(ms), "ms", note=note, at_most=True),
        Figure(PART, f"{what}, P99", float(np.percentile(ms, 99)), "ms", most_ms, note=note, at_most=True),
    ]
