"""Splitting and counting on a real broker: two processes of each stage, failing at random and starting again; against a recount.

The interleavings are tried on a log in memory (tests/roadrunner/test_roadrunner_stages.py); this is one
short round of the real thing.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from roadrunner import counting, split_layout, stage_thread
from roadrunner.accepting import accepted
from roadrunner.counting import Counting
from roadrunner.splitting import Splitting
from roadrunner.stage_thread import StageThread
from services.core.errors import Unavailable
from services.core.topics import INGEST, Topic
from services.log import kafka_group
from services.log.kafka import KafkaReader
from services.log.kafka_cluster import Cluster
from services.log.kafka_group import KafkaGroup
from services.log.kafka_writer import KafkaWriter, Serialised
from services.log.memory import MemoryLog
from services.state.shard import Shard
from tests.damage.world import happened
from tests.kafka.broker import Broker
from tests.kafka.logs import new_log
from tests.roadrunner.stages import World, made
from tests.roadrunner.test_roadrunner_stages import PARTITIONS, SHAPE, check
from tests.services.children import until

EVENTS, SLICE = 1_200, 30
WITHIN_S = 120.0


class Failing(KafkaWriter):
    """A writer that every second time writes only a beginning of what it is given, and fails."""

    def __init__(self, cluster: Cluster, chance: random.Random) -> None:
        super().__init__(cluster)
        self._chance, self._sent, self.failures = chance, 0, 0
        self.well = False

    def send(self, records: Sequence[Serialised], timeout: float) -> list[int]:
        self._sent += 1
        if not self.well and self._sent % 2:
            self.failures += 1
            super().send(records[: self._chance.randrange(len(records) + 1)], timeout)
            raise Unavailable("it failed on the way")
        return super().send(records, timeout)


@contextmanager
def process(cluster: Cluster, kind: Any, folder: Path, writer: KafkaWriter, member: str) -> Iterator[StageThread]:
    """A stage that runs until the block ends."""
    families = split_layout.FAMILIES if kind is Splitting else counting.FAMILIES
    shard = Shard(folder, "test 1", families, 1, 1)
    stage, reader = made(kind, shard, SHAPE), KafkaReader(cluster, (kind.topic, *kind.writes))
    thread = StageThread(stage, reader, writer, partial(KafkaGroup, cluster, stage.name, stage.topic, member))
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()
        reader.close()
        shard.close()


def read_back(cluster: Cluster) -> World:
    """All that lies in the topics."""
    reader, world = KafkaReader(cluster, (INGEST, *Topic)), World(SHAPE, MemoryLog(PARTITIONS))
    for at, end in reader.ends(WITHIN_S).items():
        if end.next:
            records = []
            for chunk in reader.subscribe({at: 0}):
                records += chunk
                if records[-1].offset + 1 == end.next:
                    break
            (world.ingest if at[0] == INGEST else world.log._records)[at[1] if at[0] == INGEST else at] = records  # type: ignore[index]
    reader.close()
    return world


def done(threads: Sequence[StageThread], reader: KafkaReader, topic: int) -> bool:
    """Whether the threads have gone through all of a topic."""
    found: dict[int, int] = {}
    for thread in threads:
        found |= thread.positions()
    return all(found.get(p, -1) >= end.next for (t, p), end in reader.ends(10).items() if t == topic)


def test_every_event_counts_once(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_thread, "RETRY_S", 0.05)
    monkeypatch.setitem(kafka_group.MEMBER, "session.timeout.ms", 6_000)
    chance, cluster = random.Random(5), new_log(broker, SHAPE.partitions, SHAPE.ingest)
    ingest, derived = KafkaWriter(cluster, (INGEST,)), Failing(cluster, chance)
    reader = KafkaReader(cluster, (INGEST, *Topic))
    batch = happened(EVENTS, 7)
    with ExitStack() as stack:
        started = [
            stack.enter_context(process(cluster, kind, tmp_path / f"{kind.__name__}{i}", derived, f"{i}"))
            for kind in (Splitting, Counting)
            for i in range(2)
        ]
        for start in range(0, EVENTS, SLICE):
            part = accepted(batch.slice(start, start + SLICE).to_proto(), SHAPE)
            for _ in range(1 + (chance.random() < 0.3)):
                ingest.send([Serialised(INGEST, of.partition, of.batch.SerializeToString()) for of in part], 30)
        until(lambda: done(started[:2], reader, INGEST), WITHIN_S)
        until(lambda: done(started[2:], reader, Topic.OBJECTS), WITHIN_S)
    assert derived.failures > 3
    # Another without any state takes over: what was written stays, and what comes next is split once.
    derived.well = True
    with (
        process(cluster, Splitting, tmp_path / "new", derived, "0") as other,
        process(cluster, Counting, tmp_path / "new counts", derived, "0") as counter,
    ):
        again = accepted(batch.slice(0, 60).to_proto(), SHAPE)
        ingest.send([Serialised(INGEST, of.partition, of.batch.SerializeToString()) for of in again], 30)
        until(lambda: done([other], reader, INGEST), WITHIN_S)
        until(lambda: done([counter], reader, Topic.OBJECTS), WITHIN_S)
    check(read_back(cluster))
    ingest.close()
    derived.close()
    reader.close()
