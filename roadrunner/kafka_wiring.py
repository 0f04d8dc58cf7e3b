"""How roadrunner is built where the log is on Kafka: the ingest API, and the stages that this process has a part in."""

import threading
from contextlib import suppress
from functools import partial

from protos.roadrunner_pb2_grpc import add_RoadrunnerServicer_to_server
from roadrunner import aggregation, counting, routing, split_layout
from roadrunner.accepting import Shape
from roadrunner.counting import Counting
from roadrunner.kafka_service import KafkaRoadrunner
from roadrunner.settings import Settings
from roadrunner.splitting import Splitting
from roadrunner.stage import Stage
from roadrunner.stage_thread import StageThread
from services.core.errors import MeshError
from services.core.topics import INGEST
from services.log.kafka import KafkaReader
from services.log.kafka_cluster import cluster_of
from services.log.kafka_group import KafkaGroup
from services.log.kafka_writer import KafkaWriter
from services.ops.wiring import AsyncParts, Runtime
from services.state.options import Tuning
from services.state.shard import Shard, open_or_rebuild

ASK_S = 5.0
SUMMED_S = 0.05  # engagements that come within it are summed as one
FAMILIES = {
    "splitter": (split_layout.FORMAT, split_layout.FAMILIES),
    "aggregator": (counting.FORMAT, counting.FAMILIES),
}


class Epoch:
    """The number of the log's epoch, for tokens: asked for as it starts, and then now and then."""

    def __init__(self, reader: KafkaReader, every_s: float = 10.0) -> None:
        self._reader, self._every_s, self._stopping = reader, every_s, threading.Event()
        self.number, self.problem = 0, "has not reached Kafka yet"
        self._thread = threading.Thread(target=self._look, name="epoch", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._stopping.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stopping.is_set():
            try:
                self.number, self.problem = self._reader.history(ASK_S).epoch, ""
            except MeshError as error:
                if not self.number:
                    self.problem = str(error)
            self._stopping.wait(self._every_s if self.number else 0.2)


def build(settings: Settings, runtime: Runtime) -> AsyncParts:
    """Ready once the log's topics are there."""
    routing.warm()
    aggregation.warm()
    cluster = cluster_of(runtime.mesh)
    shape = Shape(cluster.partitions, cluster.ingest_partitions)
    member = f"{runtime.mesh.common.zone}.{runtime.service}.{runtime.folder.name}"
    ingest, derived = KafkaWriter(cluster, (INGEST,)), KafkaWriter(cluster)
    shards = {name: _shard(runtime, settings, name) for name in FAMILIES}
    stages: list[Stage] = [Splitting(shards["splitter"], shape), Counting(shards["aggregator"], shape.partitions)]
    readers = [KafkaReader(cluster, (stage.topic, *stage.writes)) for stage in stages]
    threads = [
        StageThread(stage, reader, derived, partial(KafkaGroup, cluster, stage.name, stage.topic, member), together_s)
        for stage, reader, together_s in zip(stages, readers, (0.0, SUMMED_S), strict=True)
    ]
    epoch = Epoch(readers[0])

    def positions() -> dict[tuple[int, int], int]:
        of = zip(stages, threads, strict=True)
        return {(stage.topic, p): at for stage, thread in of for p, at in thread.positions().items()}

    def look() -> None:
        for shard in shards.values():
            shard.look()

    max_ahead_ms = settings.max_ahead_s * 1000
    service = KafkaRoadrunner(ingest, shape, lambda: epoch.number, runtime.clock, max_ahead_ms, positions)
    for name, thread in zip(("splitting", "aggregation"), threads, strict=True):
        runtime.metrics.gauge(f"{name}_lag_records", partial(_lag, thread))
    runtime.metrics.gauge("log_events", lambda: float(shards["splitter"].applied_events()))
    parts: list[StageThread | Epoch] = [*threads, epoch]
    return AsyncParts(
        service,
        add_RoadrunnerServicer_to_server,
        start=tuple(part.start for part in parts),
        close=(
            *(part.stop for part in parts),
            *(writer.close for writer in (ingest, derived)),
            *(reader.close for reader in readers),
            *(shard.close for shard in shards.values()),
        ),
        why_not_ready=lambda: epoch.problem or next(filter(None, (thread.problem() for thread in threads)), ""),
        dead=lambda: any(shard.dead for shard in shards.values()),
        look=look,
    )


def _shard(runtime: Runtime, settings: Settings, name: str) -> Shard:
    """The state of a stage, in a folder of its own; a damaged one is set aside, and made again from the log."""
    form, families = FAMILIES[name]
    form = f"{form}, {runtime.mesh.common.partitions} partitions"
    tuning = Tuning(settings.compaction_threads)
    return open_or_rebuild(
        runtime.folder / name, form, families, settings.cache_mb, settings.memtable_mb, tuning=tuning
    )


def _lag(stage: StageThread) -> float:
    with suppress(MeshError):  # the stage says what is wrong
        return float(stage.lag_records())
    return float("nan")
