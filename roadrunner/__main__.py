"""The entry point of roadrunner: the log, its committer, the aggregator, and the RPCs over them."""

import psutil

from protos.roadrunner_pb2_grpc import add_RoadrunnerServicer_to_server
from roadrunner import aggregation, begun, layout, routing
from roadrunner.aggregator import Aggregator
from roadrunner.check import LogReading
from roadrunner.committer import Committer
from roadrunner.service import Roadrunner
from roadrunner.settings import Settings
from roadrunner.store import EventLog, Retention
from services.core.clock import wall_clock
from services.ops.process import either, open_process, run_entry_point, serve_on_asyncio
from services.state.scrub import Scrubber
from services.state.stored import remedy


def main() -> None:
    """Wire and serve."""
    process = open_process("roadrunner")
    settings = process.settings(Settings)
    retention = Retention(settings.retention_mb << 20, settings.retention_hours * 3_600_000, settings.segment_mb << 20)
    partitions = process.mesh.common.partitions
    begun.check_there(process.mesh.data, process.folder)
    log = EventLog(process.folder, partitions, retention, wall_clock, settings.cache_mb, settings.memtable_mb)
    begun.check_same(process.mesh.data, process.folder, log.history.identity)

    committer = Committer(log, settings.max_requests, process.no_room)
    aggregator = Aggregator(log, committer, process.no_room, partitions)
    service = Roadrunner(log, committer, wall_clock, settings.max_ahead_s * 1000)
    process.metrics.gauge("log_bytes", lambda: float(log.bytes_kept()))
    process.metrics.gauge("log_events", lambda: float(sum(end.events for end in log.ends().values())))
    process.metrics.gauge("disk_free_bytes", lambda: float(psutil.disk_usage(process.disk).free))
    process.metrics.gauge("aggregation_lag_events", lambda: float(aggregator.lag_events()))
    process.metrics.gauge("aggregation_lag_seconds", aggregator.lag_seconds)
    routing.warm()
    aggregation.warm()
    committer.start()
    aggregator.start()

    every_h = process.mesh.common.check_every_h
    scrubber = Scrubber(log.database, layout.FAMILIES, lambda: LogReading(log.database), remedy("roadrunner"), every_h)
    scrubber.start(process.metrics)

    def close() -> None:
        scrubber.stop()
        aggregator.stop()
        committer.stop()
        log.close()

    serve_on_asyncio(
        process,
        settings,
        lambda: [lambda server: add_RoadrunnerServicer_to_server(service, server)],
        drain=service.close,
        why_not_ready=either(lambda: log.damage or process.no_room(), scrubber.problem),
        dead=lambda: log.dead,
        look=log.database.look,
        noticed=log.database.noticed,
        close=close,
    )


if __name__ == "__main__":
    run_entry_point(main)
