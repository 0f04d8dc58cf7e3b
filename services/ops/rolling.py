"""A rolling restart: process by process, each ready again before the next, never two replicas of a shard together."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from protos import status_pb2 as pb
from protos import status_pb2_grpc as rpc
from services.core.errors import Unavailable
from services.ops.probe import Health, Probe
from services.rpc.channel import call, open_async
from services.rpc.membership import Address
from services.rpc.mesh import Mesh

ASK_S = 5.0
POLL_S = 0.1
OTHERS_WITHIN_S = 60.0  # to be ready before a replica is taken away
LAST = ("web", "roadrunner")  # those that everybody asks come last


def in_order(processes: Sequence[Address]) -> list[Address]:
    """The processes as they are restarted: all first replicas' shards of a service, then the second ones, service by service."""
    services = list(dict.fromkeys(p.service for p in processes))
    services.sort(key=lambda name: LAST.index(name) if name in LAST else -1)
    return [
        p
        for service in services
        for p in sorted((p for p in processes if p.service == service), key=lambda p: (p.replica, p.shard))
    ]


class Roll:
    """Of one mesh. To be made on the event loop that uses it."""

    def __init__(self, mesh: Mesh, report: Callable[[str], None], within_s: float) -> None:
        """report: is given a line for each process; within_s: seconds in which each must be ready again."""
        self._mesh, self._report, self._within_s = mesh, report, within_s

    async def run(self, processes: Sequence[Address]) -> None:
        """Restart these. Raises Unavailable at the first that can't be asked, or is not ready in time; the rest is left alone."""
        for of in in_order(processes):
            began = time.monotonic()
            before = await self._until_others_ready(of)
            await self._restart(of, before)
            await self._until_again(of, before)
            self._report(
                f"{of.name}{f' on {of.host}' if of.host else ''} is ready again after {time.monotonic() - began:.1f} s"
            )

    async def _until_others_ready(self, of: Address) -> int:
        """The process id of the one to restart, once every other replica of its shard is ready."""
        probe = Probe(self._mesh, lambda p: (p.service, p.shard, p.shards) == (of.service, of.shard, of.shards))
        end = time.monotonic() + OTHERS_WITHIN_S
        try:
            while True:
                healths = await probe.ask()
                unready = [h for h in healths if not h.ready and h.of.name != of.name]
                own = next((h for h in healths if h.of.name == of.name), None)
                if not unready and own is not None and own.status is not None:
                    return own.status.pid
                if time.monotonic() > end:
                    raise Unavailable(_why(of, unready, own))
                await asyncio.sleep(POLL_S)
        finally:
            await probe.close()

    async def _restart(self, of: Address, pid: int) -> None:
        channel: grpc.aio.Channel = open_async(of.address, of.service, self._mesh.credentials)
        try:
            stub: Any = rpc.StatusStub(channel)
            await call(stub.Restart, pb.RestartRequest(pid=pid), ASK_S, of.name)
        finally:
            await channel.close()

    async def _until_again(self, of: Address, before: int) -> None:
        """Until another process answers there, is ready, and has applied what the log held when it was asked."""
        probe = Probe(self._mesh, lambda p: p.name == of.name)
        end = time.monotonic() + self._within_s
        try:
            while True:
                [health] = await probe.ask()
                if health.status is not None and health.status.pid != before and health.ready:
                    return
                if time.monotonic() > end:
                    raise Unavailable(
                        f"{of.name} was restarted and is not ready within {self._within_s:g} s: {health.why}"
                    )
                await asyncio.sleep(POLL_S)
        finally:
            await probe.close()


def _why(of: Address, unready: Sequence[Health], own: Health | None) -> str:
    if unready:
        others = ", ".join(f"{h.of.name} ({h.why})" for h in unready)
        return f"{of.name} is not restarted: {others} of its shard must be ready before"
    return f"{of.name} is not restarted: it gives no answer{f': {own.why}' if own else ''}"
