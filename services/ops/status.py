"""Answers the status that every process reports: ready or why not, how far behind, how busy, how large."""

import os
import resource
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import psutil

from protos import status_pb2 as pb
from protos import status_pb2_grpc as rpc
from services.core.metrics import Metrics
from services.state.follower import Lag

STARTED = time.monotonic()
SUPERVISED = "FEEDMESH_SUPERVISED"  # in the environment of a process whose supervisor starts it again when it ends
STATED = (
    "ready",
    "events_behind",
    "records_behind",
    "seconds_behind",
)  # gauges that the reply states as its own fields


def peak_rss_bytes() -> int:
    """The most memory this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Status(rpc.StatusServicer):
    """The status service of a process."""

    def __init__(
        self,
        service: str,
        shard: int,
        metrics: Metrics,
        why: Callable[[], str],
        lag: Callable[[], Lag] = Lag,
        replica: int = 0,
        zone: str = "",
        asks: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        """why: it is not ready, empty when it is; asks: of each service the layout that clients in this process ask."""
        self.service, self.shard, self.replica, self.zone, self.metrics = service, shard, replica, zone, metrics
        self._why, self._lag, self._asks = why, lag, asks
        metrics.gauge("resident_bytes", lambda: float(psutil.Process().memory_info().rss))
        metrics.gauge("peak_resident_bytes", lambda: float(peak_rss_bytes()))
        metrics.gauge("events_behind", lambda: float(lag().events))
        metrics.gauge("records_behind", lambda: float(lag().records))
        metrics.gauge("seconds_behind", lambda: lag().seconds)
        metrics.gauge("ready", lambda: float(not why()))

    def reply(self, prometheus: bool = False) -> pb.StatusReply:
        """Everything as it stands."""
        why, lag, gauges = self._why(), self._lag(), self.metrics.gauges()
        return pb.StatusReply(
            service=self.service,
            shard=self.shard,
            replica=self.replica,
            zone=self.zone,
            asks=self._asks(),
            pid=os.getpid(),
            ready=not why,
            why=why,
            behind=lag.events,
            behind_records=lag.records,
            behind_s=lag.seconds,
            uptime_s=time.monotonic() - STARTED,
            rss_bytes=int(gauges.pop("resident_bytes")),
            peak_rss_bytes=int(gauges.pop("peak_resident_bytes")),
            methods=[
                pb.MethodStatus(
                    method=method, calls=w.calls, errors=w.errors, qps=w.qps, p50_ms=w.p50_ms, p99_ms=w.p99_ms
                )
                for method, w in sorted(self.metrics.windows().items())
            ],
            gauges=[pb.Gauge(name=name, value=v) for name, v in gauges.items() if name not in STATED],
            prometheus=self.metrics.prometheus() if prometheus else b"",
        )

    def Get(self, request: pb.StatusRequest, context: Any) -> pb.StatusReply:
        """RPC."""
        return self.reply(request.prometheus)

    def Restart(self, request: pb.RestartRequest, context: Any) -> pb.RestartReply:
        """RPC."""
        if not os.environ.get(SUPERVISED):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no supervisor would start this process again")
        if request.pid != os.getpid():
            context.abort(grpc.StatusCode.ABORTED, f"pid = {request.pid}: this is process {os.getpid()} by now")
        os.kill(os.getpid(), signal.SIGTERM)
        return pb.RestartReply()
