"""The services of a mesh, in this process, over an empty folder, for a replay to feed and to ask.

Each is built by its own `wiring.py`, as its process is. Only the runtime differs: the clock is that of the moment, each
service is one shard that owns every partition, and records come from `apply` instead of a follower. Nothing runs in the
background: background work is done after each `apply`.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aperture.settings
import aperture.wiring
import apiary.settings
import apiary.wiring
import counters.settings
import counters.wiring
import feedgen.settings
import feedgen.wiring
import pixie.settings
import pixie.wiring
import polaris.settings
import polaris.wiring
import realpin.settings
import realpin.wiring
import rockstore.settings
import rockstore.wiring
import scorpion.settings
import scorpion.wiring
from feedgen.service import Feedgen
from pixie.store import PixieStore
from scorpion.models import Models
from scorpion.origin import MeshOrigin
from services.core.clock import Clock
from services.core.errors import Unimplemented
from services.core.metrics import Metrics
from services.core.settings import DEPLOYMENT, Schema, Sections, ServiceSettings, ShardSettings
from services.log.memory import MemoryLog
from services.log.protocol import Reader, Record
from services.ops.wiring import Follows, Parts, Runtime
from services.rpc import mesh as meshes
from services.rpc.bridge import Bridge
from services.rpc.local import LocalMesh
from services.state.shard import Shard

#: How each service that a replay asks is built, in the order in which records are applied, and its section.
BUILT: dict[str, tuple[Callable[[Any, Runtime], Parts], type[ServiceSettings]]] = {
    "apiary": (apiary.wiring.build, apiary.settings.Settings),
    "polaris": (polaris.wiring.build, polaris.settings.Settings),
    "aperture": (aperture.wiring.build, aperture.settings.Settings),
    "counters": (counters.wiring.build, counters.settings.Settings),
    "rockstore": (rockstore.wiring.build, rockstore.settings.Settings),
    "realpin": (realpin.wiring.build, realpin.settings.Settings),
    "pixie": (pixie.wiring.build, pixie.settings.Settings),
    "scorpion": (scorpion.wiring.build, scorpion.settings.Settings),
}
DEADLINE_MS = 60_000  # of a page
#: The sections that a replay reads.
REPLAYED: Schema = {
    **DEPLOYMENT,
    **{name: struct for name, (_, struct) in BUILT.items()},
    "feedgen": feedgen.settings.Settings,
}


class Absent:
    """Stands where roadrunner and smartfeed would: a replay writes no events and falls back to nothing."""

    def __getattr__(self, method: str) -> Any:
        if method.startswith("_"):
            raise AttributeError(method)
        raise Unimplemented(f"a replay has no service for {method}")


@dataclass(frozen=True)
class Moment:
    """The runtime of a service in a replay: it stands at a moment, and keeps its state in a folder of its own."""

    service: str
    mesh: LocalMesh
    clock: Clock
    log: MemoryLog
    metrics: Metrics

    @property
    def shard(self) -> int:
        """The only one."""
        return 0

    @property
    def replica(self) -> int:
        """The only one."""
        return 0

    @property
    def folder(self) -> Path:
        """Of this service alone."""
        return self.mesh.data / self.service

    @property
    def partitions(self) -> range:
        """All of them."""
        return range(self.mesh.common.partitions)

    @property
    def blobs(self) -> None:
        """None: rows of datasets have no past."""
        return

    def open_shard(self, form: str, families: Iterable[str], settings: ShardSettings) -> Shard:
        """An empty one, or the one that was left there."""
        form = f"{form}, {len(self.partitions)} partitions"
        return Shard(self.folder, form, families, settings.cache_mb, settings.memtable_mb)

    def open_reader(self) -> Reader:
        """The log as it stands; records come by `Views.apply`."""
        return self.log.reader()

    def no_space(self) -> str:
        """A replay goes on until the disk is full."""
        return ""


class Views:
    """Everything that feeds ask, at one moment of the past."""

    def __init__(self, folder: Path, sections: Sections, clock: Clock) -> None:
        """folder: an empty one; sections: validated settings, as a mesh.toml's."""
        self.folder = folder
        described = meshes.resolve(sections, [])
        self.mesh = LocalMesh(settings={**described.settings}, processes=[], servicers={})
        self.mesh.servicers |= {"roadrunner": Absent(), "smartfeed": Absent()}
        self.mesh.settings["mesh"] |= {"data": str(folder), "blobs": ""}
        # Counts of the moment, not of up to a minute before it: a replay learns from what was, and waits for nothing.
        self.mesh.settings["scorpion"] = {**self.mesh.settings["scorpion"], "counts_ttl_s": 0.0}
        # A replay is never late.
        self.mesh.settings["feedgen"] = {**self.mesh.settings["feedgen"], "deadline_ms": DEADLINE_MS}
        self._clock, self.partitions = clock, self.mesh.common.partitions
        self.log = MemoryLog(self.partitions, retain=False)
        self._closing, self._follows = ExitStack(), list[Follows]()
        self.parts: dict[str, Parts] = {}
        for service, (build, struct) in BUILT.items():
            self._add(service, build(self.mesh.section(service, struct), self.moment(service)))
        bridge = Bridge()
        self._closing.callback(bridge.close)
        self.origin = MeshOrigin(bridge, self.mesh)  # beside scorpion's own, for requests without a model
        self._closing.callback(self.origin.close)

    def moment(self, service: str) -> Moment:
        """The runtime of a service."""
        return Moment(service, self.mesh, self._clock, self.log, Metrics(service, 0))

    def feedgen(self) -> Feedgen:
        """Feedgen, whose feeds ask these views. To be called on the event loop that runs them."""
        settings = self.mesh.section("feedgen", feedgen.settings.Settings)
        servicer: Feedgen = feedgen.wiring.build(settings, self.moment("feedgen")).servicer
        return servicer

    @property
    def pixie(self) -> PixieStore:
        """Where graphs are loaded."""
        store: PixieStore = self.parts["pixie"].servicer.store
        return store

    @property
    def models(self) -> Models:
        """The models that rank."""
        models: Models = self.parts["scorpion"].servicer.models
        return models

    def _add(self, service: str, parts: Parts) -> None:
        self.parts[service] = parts
        self.mesh.servicers[service] = parts.servicer
        for close in reversed(parts.close):
            self._closing.callback(close)
        for follows in (*([parts.main] if parts.main else []), *parts.caches):
            wanted = [(int(topic), partition) for partition in follows.partitions for topic in follows.topics]
            follows.view.shard.connect(self.log.history(), self.log.ends(), wanted)
            follows.view.shard.positions(wanted)
            self._follows.append(follows)

    def apply(self, records: Sequence[Record]) -> None:
        """Feed every view with its part of the records."""
        for follows in self._follows:
            own = [record for record in records if record.topic in follows.topics]
            if own:
                follows.view.apply(own)
        for parts in self.parts.values():
            while parts.step is not None and parts.step():
                pass

    def close(self) -> None:
        """Close databases, clients and threads."""
        self._closing.close()
