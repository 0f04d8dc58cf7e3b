"""GET /healthz and /metrics: every process of the mesh asked in parallel, this one included, for operators."""

import asyncio
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from prober.client import ProberClient
from protos import status_pb2 as pb
from services.core.errors import MeshError
from services.ops import children
from services.ops.children import Fate, Fates
from services.ops.phase import present
from services.ops.probe import Health, Probe
from services.ops.status import Status
from services.rpc.mesh import Address
from web.answers import HealthReport, MethodHealth, ProcessExit, ProcessHealth, ViewHealth
from web.effects import COVERED, EFFECTS
from web.exposition import CONTENT_TYPE, Families, up
from web.questions import NoQuery
from web.shared import Shared
from web.wire import answer, asked

KEEP_S = 0.5  # how old an answer may be that several watchers share
FRESHNESS_TIMEOUT_S = 1.0


class Watch:
    """Asks the other processes through `probe`, and itself through `own`."""

    def __init__(self, probe: Probe, own: Status, address: Address, prober: ProberClient, data: Path) -> None:
        """data: the data folder, where the supervisor writes how its children fared."""
        self._probe, self._own, self._address, self._prober = probe, own, address, prober
        self._data = data
        self._report = Shared(self._make_report, KEEP_S)
        self._exposition = Shared(self._make_exposition, KEEP_S)

    async def healthz(self, request: Request) -> Response:
        """200 when each shard has a process that is ready, else 503; the same report either way."""
        asked(request, NoQuery)
        report = await self._report.get()
        return answer(report, 200 if report.ready else 503, {"cache-control": "no-store"})

    async def metrics(self, request: Request) -> Response:
        """The metrics of every process that answers."""
        asked(request, NoQuery)
        return Response(await self._exposition.get(), media_type=CONTENT_TYPE)

    async def _ask(self, prometheus: bool) -> list[Health]:
        others = await self._probe.ask(prometheus)
        own = self._own.reply(prometheus)
        return [*others, Health(self._address, own, own.why)]

    async def _make_report(self) -> HealthReport:
        healths, freshness = await asyncio.gather(self._ask(prometheus=False), self._freshness())
        fates = children.load(children.children_file(self._data))
        covered = {(h.of.service, h.of.shard) for h in healths if h.ready}
        found = (process_health(h, fates, (h.of.service, h.of.shard) in covered) for h in healths)
        processes = sorted(found, key=lambda p: p.ready)  # not ready ones first
        whole = covered == {(h.of.service, h.of.shard) for h in healths}
        return HealthReport(whole, processes, freshness, present(self._data))

    async def _freshness(self) -> list[ViewHealth]:
        try:
            views = await self._prober.freshness(FRESHNESS_TIMEOUT_S)
        except MeshError:  # prober's own line in the report says so
            return []
        return [ViewHealth(v.view, v.last_ms, v.p50_ms, v.p99_ms, v.samples, v.lost) for v in views]

    async def _make_exposition(self) -> str:
        healths, families = await self._ask(prometheus=True), Families()
        families.add(up((h.of.service, h.of.shard, h.of.replica, h.status is not None) for h in healths))
        for health in healths:
            if health.status is not None:
                families.add(health.status.prometheus.decode(errors="replace"))
        return families.text()


def process_health(health: Health, fates: Fates, covered: bool = False) -> ProcessHealth:
    """One process of the report; of one that did not answer, zeros and why. covered: a replica of its shard is ready."""
    fate = fates.get(health.of.name, Fate())
    status = health.status or pb.StatusReply()
    busiest = max(status.methods, key=lambda m: (m.qps, m.calls), default=pb.MethodStatus())
    return ProcessHealth(
        service=health.of.service,
        shard=health.of.shard,
        replica=health.of.replica,
        zone=health.of.zone,
        address=health.of.address,
        ready=health.ready,
        why=health.why,
        pid=status.pid or None,
        uptime_s=status.uptime_s,
        rss_bytes=status.rss_bytes,
        peak_rss_bytes=status.peak_rss_bytes,
        behind=status.behind,
        behind_records=status.behind_records,
        behind_s=status.behind_s,
        qps=sum(m.qps for m in status.methods),
        p50_ms=busiest.p50_ms,
        p99_ms=busiest.p99_ms,
        errors=sum(m.errors for m in status.methods),
        calls=sum(m.calls for m in status.methods),
        methods=[MethodHealth(m.method, m.qps, m.p50_ms, m.p99_ms, m.errors, m.calls) for m in status.methods],
        gauges={g.name: g.value for g in status.gauges},
        restarts=fate.restarts,
        exits=[ProcessExit(one.at_ms, one.why, one.log) for one in fate.exits],
        effect="" if health.ready else COVERED if covered else EFFECTS[health.of.service],
    )
