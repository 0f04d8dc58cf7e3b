"""The door of roadrunner: the log, its committer, the aggregator, the audit, and the RPCs over them."""

from typing import Annotated

import psutil
from msgspec import Meta

from services.process import open_process, run_door, serve_on_asyncio
from services.settings import ServiceSettings


class Settings(ServiceSettings, kw_only=True):
    """[roadrunner]"""

    cache_mb: Annotated[int, Meta(ge=1, le=1_000_000, description="RocksDB block cache")] = 32
    memtable_mb: Annotated[int, Meta(ge=1, le=10_000, description="RocksDB write buffer of a column family")] = 32
    max_ahead_s: Annotated[int, Meta(ge=0, le=86_400, description="how far in the future an event's date may be")] = 600
    retention_mb: Annotated[int, Meta(ge=0, description="records kept at most; 0: without limit")] = 0
    retention_hours: Annotated[int, Meta(ge=0, description="age of records kept at most; 0: without limit")] = 0
    segment_mb: Annotated[
        int, Meta(ge=1, le=1024, description="records of a partition that retention drops together")
    ] = 8
    audit_every_s: Annotated[float, Meta(ge=0, le=3600, description="seconds between audit samples; 0: no audit")] = (
        10.0
    )


def main() -> None:
    """Wire and serve."""
    from protos.roadrunner_pb2_grpc import add_RoadrunnerServicer_to_server
    from roadrunner import aggregation, routing
    from roadrunner.aggregator import Aggregator
    from roadrunner.audit import Audit
    from roadrunner.committer import Committer
    from roadrunner.service import Roadrunner
    from roadrunner.store import EventLog, Retention
    from roadrunner.views import wire_audit
    from services.clock import wall_clock

    process = open_process("roadrunner")
    settings = process.settings(Settings)
    retention = Retention(settings.retention_mb << 20, settings.retention_hours * 3_600_000, settings.segment_mb << 20)
    partitions = process.mesh.common.partitions
    log = EventLog(process.folder, partitions, retention, wall_clock, settings.cache_mb, settings.memtable_mb)

    committer = Committer(log, settings.max_requests, process.no_room)
    aggregator = Aggregator(log, committer, process.no_room, partitions)
    audit = Audit(settings.audit_every_s, lambda: wire_audit(process.mesh))
    service = Roadrunner(log, committer, audit, wall_clock, settings.max_ahead_s * 1000)
    process.metrics.gauge("log_bytes", lambda: float(log.bytes_kept()))
    process.metrics.gauge("log_events", lambda: float(sum(end.events for end in log.ends().values())))
    process.metrics.gauge("disk_free_bytes", lambda: float(psutil.disk_usage(str(process.folder)).free))
    process.metrics.gauge("aggregation_lag_events", lambda: float(aggregator.lag_events()))
    routing.warm()
    aggregation.warm()
    committer.start()
    aggregator.start()
    audit.start()

    def close() -> None:
        aggregator.stop()
        committer.stop()
        log.close()

    serve_on_asyncio(
        process,
        settings,
        lambda: [lambda server: add_RoadrunnerServicer_to_server(service, server)],
        drain=service.close,
        why_not_ready=process.no_room,
        dead=lambda: log.dead,
        close=close,
    )


if __name__ == "__main__":
    run_door(main)
