"""The ingest API as its writers see it: roadrunner alone in its process, the writers in this one, on the same cores."""

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from bench.report import Figure
from bench.rounds import latencies, repeated
from cli.schema import SCHEMA
from protos import roadrunner_pb2 as pb
from protos import roadrunner_pb2_grpc as rpc
from services.core import settings
from services.core.clock import wall_clock
from services.core.events import Action, events
from services.ops.planning import plan
from services.ops.supervisor import Supervisor
from services.rpc.channel import open_sync
from tests.running import Running

ROUNDS = 3
BATCH, BATCHES, WRITERS = 1_000, 600, 8  # of a round; a sixth as many warm up
SINGLES, SINGLE_WRITERS = 6_000, 48
NOTE = "{} threads write; roadrunner is a process of its own; both on all cores"
MIX = (Action.IMPRESSION,) * 12 + (Action.CLOSEUP, Action.CLICK, Action.SAVE, Action.FOLLOW_BOARD)


def requests(count: int, size: int, seed: int) -> list[pb.PublishRequest]:
    """Publishes of `size` events each, as a busy site's edge and loaders send them."""
    rng, now, made = np.random.default_rng(seed), wall_clock(), []
    for _ in range(count):
        batch = events(
            size,
            user=rng.integers(1, 1_000_000, size),
            action=rng.choice(MIX, size),
            pin=rng.integers(1, 10_000_000, size),
            board=rng.integers(1, 3_000_000, size),
            at_ms=now,
            id=rng.integers(1, 2**63, size),
        )
        made.append(pb.PublishRequest(batch=batch.to_proto()))
    return made


def measure(_: str | None) -> list[Figure]:
    """Batches of 1,000, then single events."""
    with tempfile.TemporaryDirectory(prefix="feedmesh-bench-") as folder:
        sections = settings.validated({"mesh": {"data": folder}, "prober": {"every_s": 0.0}}, "bench", SCHEMA)
        running = Running(Supervisor(plan(sections, ["roadrunner"]), print), [])
        running.supervisor.start()
        try:
            running.until_ready()
            return of_process(running.mesh.of("roadrunner")[0].address)
        finally:
            running.end()


def of_process(address: str, part: str = "ingest") -> list[Figure]:
    """Of a roadrunner that runs."""
    with open_sync(address) as channel:
        publish = rpc.RoadrunnerStub(channel).Publish
        return [replace(figure, part=part) for figure in _batches(publish) + _singles(publish)]


def _timed(publish: Callable[..., object], made: list[pb.PublishRequest], writers: int) -> tuple[float, list[float]]:
    """Seconds in all, and of each call."""

    def one(request: pb.PublishRequest) -> float:
        started = time.perf_counter()
        publish(request, timeout=30)
        return time.perf_counter() - started

    with ThreadPoolExecutor(writers) as pool:
        started = time.perf_counter()
        took = list(pool.map(one, made))
        return time.perf_counter() - started, took


def _rounds(
    publish: Callable[..., object], count: int, size: int, writers: int, seed: int
) -> tuple[list[float], list[list[float]]]:
    """Of each round the publishes a second, and the seconds of each; events are new in all."""
    warm_up = count // 6
    made = requests(warm_up + ROUNDS * count, size, seed)
    _timed(publish, made[:warm_up], writers)
    rates, rounds = [], []
    for start in range(warm_up, len(made), count):
        seconds, took = _timed(publish, made[start : start + count], writers)
        rates.append(count / seconds)
        rounds.append(took)
    return rates, rounds


def _batches(publish: Callable[..., object]) -> list[Figure]:
    rates, rounds = _rounds(publish, BATCHES, BATCH, WRITERS, 1)
    what, note = f"batches of {BATCH:,}, {WRITERS} writers", NOTE.format(WRITERS)
    events_s = [rate * BATCH for rate in rates]
    return [
        repeated("ingest", what, events_s, "events/s", 300_000, of=f"{BATCHES} batches", note=note),
        *latencies("ingest", what, rounds, None, note),
    ]


def _singles(publish: Callable[..., object]) -> list[Figure]:
    rates, rounds = _rounds(publish, SINGLES, 1, SINGLE_WRITERS, 2)
    what, note = f"single events, {SINGLE_WRITERS} writers", NOTE.format(SINGLE_WRITERS)
    return [
        repeated("ingest", what, rates, "publishes/s", 2_000, of=f"{SINGLES:,} events", note=note),
        *latencies("ingest", what, rounds, None, note),
    ]
