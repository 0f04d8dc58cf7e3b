"""kill -9 of the aggregator and of the counters, as real processes under load: counts equal a recount of the log."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cli.schema import SCHEMA
from roadrunner.client import Publisher
from services.core import settings
from services.core.clock import wall_clock
from services.core.columns import Ragged
from services.core.errors import MeshError
from services.core.events import ENGAGEMENTS, Action, Batch, events
from services.ops.planning import plan
from services.ops.supervisor import DataFolder, Supervisor
from services.rpc.mesh import Mesh
from tests.drill.differences import counters as counters_differ
from tests.drill.recount import recount
from tests.running import Running
from tests.services.children import until

HOUR_MS = 3_600_000
A = Action
ACTIONS = [*ENGAGEMENTS * 4, A.CREATE_PIN, A.UPDATE_PIN, A.JOIN_INTEREST, A.LEAVE_INTEREST]


@contextmanager
def mesh_of_two(folder: Path, shards: int) -> Iterator[Running]:
    """Roadrunner and counters, supervised."""
    sections = {"mesh": {"data": str(folder), "partitions": 4}, "counters": {"shards": shards}}
    data = DataFolder(folder)
    running = Running(
        Supervisor(plan(settings.validated(sections, "test", SCHEMA), ["roadrunner", "counters"]), print), []
    )
    running.supervisor.start()
    watcher = threading.Thread(target=running.watch, daemon=True)
    watcher.start()
    try:
        running.until_ready()
        yield running
    finally:
        running._stop.set()
        watcher.join()
        killed = running.end()
        data.release()
    assert not killed


def happened(turn: int, n: int = 50) -> Batch:
    """n events on a few objects, within the last days: of many users, and of three that do the same again and again and count
    once for it.
    """
    chance = np.random.default_rng(turn)
    action = chance.choice(ACTIONS, n)
    stated = (action == A.CREATE_PIN) | (action == A.UPDATE_PIN)
    interests = Ragged.of_lists([chance.integers(1, 20, 3) if s else [] for s in stated])
    few = {name: chance.integers(1, top, n) for name, top in (("pin", 60), ("board", 6), ("target", 20))}
    user = np.where(chance.random(n) < 0.3, chance.integers(1, 4, n), chance.integers(4, 5_000, n))
    when = wall_clock() - chance.choice([0, 5, 30, 100, 400, 9_999], n) * HOUR_MS
    return events(
        n,
        action=action,
        user=user,
        **few,
        at_ms=when,
        id=np.arange(1 + turn * n, 1 + turn * n + n),
        interests=interests,
    )


class Writer:
    """Publishes batch after batch, each again with the same ids until it is acknowledged."""

    def __init__(self, mesh: Mesh) -> None:
        self.batches, self._mesh, self._stop = 0, mesh, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with closing(Publisher(self._mesh)) as publisher:
            while not self._stop.is_set():
                with suppress(MeshError):
                    publisher.publish(happened(self.batches), 5)
                    self.batches += 1

    def until_more(self, batches: int) -> None:
        """Wait until so many more are acknowledged."""
        goal = self.batches + batches
        until(lambda: self.batches >= goal)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)


def started_anew(running: Running, service: str, shard: int, gone: int) -> bool:
    process = running.child(service, shard).process
    return process is not None and process.pid != gone


@pytest.mark.parametrize("shards", [2])
def test_counts_equal_a_recount_after_kills_of_either_side(tmp_path: Path, shards: int) -> None:
    with mesh_of_two(tmp_path, shards) as running:
        writer = Writer(running.mesh)
        for victim, shard in (("counters", shards - 1), ("roadrunner", 0)):
            writer.until_more(20)
            gone = running.kill(victim, shard)
            until(partial(started_anew, running, victim, shard, gone))
            running.until_ready()
        writer.until_more(20)
        writer.stop()
        expected = recount(running.mesh)
        counted = sum(sum(hours.values()) for (kind, *_), hours in expected.counts.items() if kind == 1)
        assert counted > writer.batches * 50 / 2
        engaged = sum(sum(rows.values()) for rows in expected.history.values())
        assert counted < engaged, "some did the same again, before a kill and after it"
        assert {kind for kind, *_ in expected.counts} == {1, 2, 3, 4}
        assert asyncio.run(counters_differ(running.mesh, expected)) == []
        some = max(expected.counts, key=lambda key: sum(expected.counts[key].values()) < 2_000)
        expected.counts[some][max(expected.counts[some])] += 1
        assert len(asyncio.run(counters_differ(running.mesh, expected))) == 1, "the checker would see one too few"
