"""`feedmesh layout` on several machines: the cluster file is changed here, and hosts are asked how far they follow it."""

import time
from collections.abc import Callable
from pathlib import Path

from cli.console import Config, Data, out
from cli.schema import SCHEMA
from services.core.errors import InvalidArgument, Unavailable
from services.ops import cluster_layouts as several
from services.ops.cluster_layouts import ClusterFile
from services.ops.layouts import check_is_beside
from services.ops.probe import Health
from services.rpc.mesh import Mesh
from services.rpc.routing import LATE_S

TAKEN_S, POLL_S = 10.0, 0.5  # hosts that have the file look at it once a second
ENDED_S = 20.0


class OfCluster:
    """What `feedmesh layout` does by a cluster file."""

    def __init__(self, path: Path, config: Config, data: Data, without: list[str] | None = None) -> None:
        """without: hosts that may be away. Raises InvalidArgument for options that do not go together, and hosts that are not."""
        if config is not None or data is not None:
            raise InvalidArgument("--cluster: allowed is that, or --config and --data")
        self._path, self._file, self._without = path, ClusterFile(path, SCHEMA), without or []
        hosts = self._file.cluster.hosts
        for host in self._without:
            if host not in hosts:
                raise InvalidArgument(f"--without {host}: there is no [hosts.{host}]; there are {', '.join(hosts)}")

    @property
    def mesh(self) -> Mesh:
        """Every process of the file."""
        return several.mesh_of(self._file.cluster)

    def add(self, service: str, shards: int) -> None:
        """Have a layout filled beside the one that answers."""
        did = self._file.add(service, shards)
        self._say(did or f"{self._path} has {shards} shards beside already")
        self._show(service, lambda found: all(h.status for h in found if h.of.service == service))
        self._say(
            f"once all are ready: `feedmesh layout switch {service} --shards {shards} --cluster {self._path} --wait 600`"
        )

    def switch(self, service: str, shards: int | None, wait_s: float) -> None:
        """Have the other layout answer, once it is ready on all hosts."""
        if self._file.serving(service).shards == shards:
            self._say(f"{self._path}: {shards} shards answer already")
        else:
            of = self._file.beside(service).shards
            check_is_beside(service, shards, of)
            self._await(
                lambda found: several.why_not_switched_to(found, service, of, self._without),
                f"the layout of {of} shards is not ready",
                wait_s,
            )
            self._say(self._file.switch(service))
        serving = self._file.serving(service).shards
        self._show(service, lambda found: not several.why_not_left(found, service, serving, self._without))
        if service in self._file.cluster.beside:
            self._say(f"once all hosts ask {serving} shards: `feedmesh layout retire {service} --cluster {self._path}`")

    def retire(self, service: str, wait_s: float) -> None:
        """End the layout that no host asks any more."""
        serving, beside = self._file.serving(service).shards, self._file.beside(service).shards
        self._await(
            lambda found: several.why_not_left(found, service, serving, self._without),
            f"the layout of {beside} shards can't end",
            wait_s,
        )
        time.sleep(LATE_S)  # calls of before the switch end first
        before = self._file.cluster
        self._say(self._file.retire(service))
        end = time.monotonic() + before.sections["mesh"].drain_s + ENDED_S
        while left := self._left(several.healths(before), service, beside):
            if time.monotonic() > end:
                self._say(f"of the {beside} shards still run: {', '.join(left)}; do their hosts have this file?")
                return
            time.sleep(POLL_S)
        self._say(
            f"{service}: {serving} shards; those of {beside} have ended, and each host that was there removes their folders"
        )

    def _left(self, found: list[Health], service: str, shards: int) -> list[str]:
        own = [h for h in found if (h.of.service, h.of.shards) == (service, shards)]
        return [f"{h.of.name} on {h.of.host}" for h in own if h.status is not None]

    def _await(self, why_not: Callable[[list[Health]], str], what: str, within_s: float) -> None:
        """Raise Unavailable when it is not so in time."""
        end = time.monotonic() + within_s
        while why := why_not(several.healths(self._file.cluster)):
            if time.monotonic() >= end:
                raise Unavailable(f"{what}: {why}; nothing was changed")
            time.sleep(POLL_S)

    def _show(self, service: str, done: Callable[[list[Health]], bool]) -> None:
        """What each host does, once all do what the file says, or have had the time for it."""
        end = time.monotonic() + TAKEN_S
        while not done(found := several.healths(self._file.cluster)) and time.monotonic() < end:
            time.sleep(POLL_S)
        for line in several.lines(self._file.cluster, found, service):
            self._say(line)

    def _say(self, line: str) -> None:
        out.print(line, soft_wrap=True, markup=False, highlight=False)
