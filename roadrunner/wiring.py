"""How roadrunner is built: the log, its committer, the aggregator, and the RPCs over them."""

import psutil

from protos.roadrunner_pb2_grpc import add_RoadrunnerServicer_to_server
from roadrunner import aggregation, begun, layout, routing
from roadrunner.aggregator import Aggregator
from roadrunner.check import LogReading
from roadrunner.committer import Committer
from roadrunner.retention import Retention
from roadrunner.service import Roadrunner
from roadrunner.settings import Settings
from roadrunner.store import EventLog
from services.core.metrics import Metrics
from services.log.reading import check_client, on_kafka
from services.ops.wiring import AsyncParts, Runtime
from services.rpc.membership import Following
from services.state.coverage import NO_BOUND, Coverage, Shards, views_of
from services.state.options import Tuning
from services.state.restore import Past
from services.state.scrub import Scrubber
from services.state.stored import remedy


def build(settings: Settings, runtime: Runtime) -> AsyncParts:
    """The log of a mesh, opened. Raises Damaged when it is missing, or is another's. On Kafka: what appends to it."""
    if on_kafka(runtime.mesh):
        check_client()
        from roadrunner import kafka_wiring  # noqa: PLC0415 - the embedded log needs no client of Kafka

        return kafka_wiring.build(settings, runtime)
    routing.warm()
    aggregation.warm()
    common, folder = runtime.mesh.common, runtime.folder
    retention = Retention(settings.retention_mb << 20, settings.retention_hours * 3_600_000, settings.segment_mb << 20)
    begun.check_there(runtime.mesh.data, folder)
    kept = settings.cache_mb, settings.memtable_mb, Tuning(settings.compaction_threads)
    log = EventLog(folder, common.partitions, retention, runtime.clock, *kept)
    begun.check_same(runtime.mesh.data, folder, log.history.identity)
    coverage = _coverage(settings, runtime, log)
    committer = Committer(
        log, settings.max_requests, runtime.no_space, coverage.floor if coverage else lambda: NO_BOUND
    )
    aggregator = Aggregator(log, committer, runtime.no_space, common.partitions)
    service = Roadrunner(log, committer, runtime.clock, settings.max_ahead_s * 1000)
    database = log.database
    _gauges(runtime.metrics, log, aggregator, str(runtime.mesh.data))
    runtime.metrics.gauge("retention_held_bytes", lambda: float(committer.held_bytes))
    return AsyncParts(
        service,
        add_RoadrunnerServicer_to_server,
        start=(*((coverage.start,) if coverage else ()), committer.start, aggregator.start),
        drain=(service.close,),
        close=(*((coverage.stop,) if coverage else ()), aggregator.stop, committer.stop, log.close),
        why_not_ready=lambda: log.damage or runtime.no_space(),
        dead=lambda: log.dead,
        look=database.look,
        noticed=database.noticed,
        scrubber=Scrubber(
            database, layout.FAMILIES, lambda: LogReading(database), remedy("roadrunner"), common.check_every_h
        ),
    )


def _coverage(settings: Settings, runtime: Runtime, log: EventLog) -> Coverage | None:
    """What bounds retention; None where there is none, or no snapshots are looked for."""
    if not (settings.retention_mb or settings.retention_hours) or runtime.blobs is None:
        return None
    following = Following(runtime.mesh.membership)

    def views() -> list[Shards]:
        following.news()
        return views_of(runtime.mesh.settings, following.members)

    return Coverage(runtime.blobs, views, lambda: Past(log.history, log.ends()))


def _gauges(metrics: Metrics, log: EventLog, aggregator: Aggregator, data: str) -> None:
    """data: the folder around the log's, which is there also when that one was removed: then these are asked for most."""
    metrics.gauge("log_bytes", lambda: float(log.bytes_kept()))
    metrics.gauge("log_events", lambda: float(sum(end.events or 0 for end in log.ends().values())))
    metrics.gauge("disk_free_bytes", lambda: float(psutil.disk_usage(data).free))
    metrics.gauge("aggregation_lag_events", lambda: float(aggregator.lag_events()))
    metrics.gauge("aggregation_lag_seconds", aggregator.lag_seconds)
