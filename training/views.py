"""The stores and servicers of a mesh, in this process, over an empty folder: what a replay feeds and asks.

They are wired as their doors wire them, with the same settings; what differs is the clock, that each service is one
shard, and that records come from `apply` instead of a follower.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import aperture.__main__
import aperture.layout
import aperture.service
import aperture.store
import apiary.__main__
import apiary.layout
import apiary.service
import apiary.store
import counters.__main__
import counters.layout
import counters.service
import counters.store
import polaris.__main__
import polaris.kernel
import polaris.layout
import polaris.service
import polaris.store
import realpin.__main__
import realpin.layout
import realpin.service
import realpin.signals
import realpin.store
import rockstore.__main__
import rockstore.layout
import rockstore.service
import rockstore.store
from pixie.__main__ import Settings as PixieSettings
from pixie.service import Pixie, Walking
from pixie.store import PixieStore
from realpin.interests import Interests
from rockstore.client import RockstoreClient
from scorpion.__main__ import Settings as ScorpionSettings
from scorpion.facts import Facts
from scorpion.models import Models
from scorpion.origin import MeshOrigin
from scorpion.service import Scorpion
from services import mesh as meshes
from services.bridge import Bridge
from services.clock import DAY_MS, Clock
from services.errors import Unimplemented
from services.local import LocalMesh
from services.log import Record
from services.settings import Sections
from services.shard import Shard
from services.topics import Topic


class Store(Protocol):
    """A view, as a replay feeds it."""

    def apply(self, records: list[Record]) -> None:
        """Apply records."""
        ...


class View(NamedTuple):
    """A store and the topics it reads."""

    store: Store
    topics: tuple[Topic, ...]


class Absent:
    """Stands where roadrunner and smartfeed would: a replay writes no events and falls back to nothing."""

    def __getattr__(self, method: str) -> Any:
        if method.startswith("_"):
            raise AttributeError(method)
        raise Unimplemented(f"a replay has nobody to ask for {method}")


class Views:
    """Everything that feeds ask, at one moment of the past."""

    def __init__(self, folder: Path, sections: Sections, clock: Clock) -> None:
        """folder: an empty one; sections: validated settings, as a mesh.toml's."""
        self.folder, self._clock = folder, clock
        described = meshes.resolve(sections, [])
        self.mesh = LocalMesh(settings={**described.settings}, processes=[], servicers={})
        self.mesh.servicers |= {"roadrunner": Absent(), "smartfeed": Absent()}
        self.mesh.settings["mesh"]["data"] = str(folder)
        self.partitions = self.mesh.common.partitions
        self._views: list[View] = []
        self._closing = ExitStack()
        for build in (self._apiary, self._polaris, self._aperture, self._counters, self._rockstore):
            build()
        self._realpin()
        self.pixie = self._pixie()
        self.facts, self.models = self._scorpion()

    def apply(self, records: Sequence[Record]) -> None:
        """Feed every store with its part of the records."""
        for view in self._views:
            own = [record for record in records if record.topic in view.topics]
            if own:
                view.store.apply(own)
        while self._aperture_store.freezer.step():
            pass
        self.facts.clear()

    def close(self) -> None:
        """Close databases, clients and threads."""
        self._closing.close()

    def _shard(self, service: str, layout: Any, settings: Any) -> Shard:
        form = f"{layout.FORMAT}, {self.partitions} partitions"
        shard = Shard(self.folder / service, form, layout.FAMILIES, settings.cache_mb, settings.memtable_mb)
        self._closing.callback(shard.close)
        return shard

    def _serve(self, service: str, servicer: Any, store: Store, topics: tuple[Topic, ...]) -> None:
        self.mesh.servicers[service] = servicer
        self._views.append(View(store, topics))

    def _apiary(self) -> None:
        settings = self.mesh.section("apiary", apiary.__main__.Settings)
        shard = self._shard("apiary", apiary.layout, settings)
        store = apiary.store.ApiaryStore(shard, range(self.partitions), self.partitions)
        weights = apiary.service.Weights(settings.direct_weight, settings.through_weight, settings.boards_per_user)
        self._serve("apiary", apiary.service.Apiary(store, weights), store, apiary.store.TOPICS)

    def _polaris(self) -> None:
        settings = self.mesh.section("polaris", polaris.__main__.Settings)
        shard = self._shard("polaris", polaris.layout, settings)
        light = polaris.kernel.Light(
            settings.quality_coefficient, settings.freshness_days * DAY_MS, settings.default_quality
        )
        limits = polaris.store.Limits(settings.head_postings, settings.cap)
        store = polaris.store.PolarisStore(shard, self.partitions, light, limits)
        self._serve("polaris", polaris.service.Polaris(store), store, polaris.store.TOPICS)

    def _aperture(self) -> None:
        settings = self.mesh.section("aperture", aperture.__main__.Settings)
        shard, own = self._shard("aperture", aperture.layout, settings), range(self.partitions)
        store = aperture.store.ApertureStore(
            shard, own, self.partitions, self._clock, settings.recent_keys, settings.keep_days
        )
        self._aperture_store = store
        self._serve("aperture", aperture.service.Aperture(store), store, aperture.store.TOPICS)

    def _counters(self) -> None:
        settings = self.mesh.section("counters", counters.__main__.Settings)
        shard, own = self._shard("counters", counters.layout, settings), range(self.partitions)
        store = counters.store.CountersStore(shard, own, self.partitions, self._clock, settings.recent)
        self._serve("counters", counters.service.Counters(store), store, counters.store.TOPICS)

    def _rockstore(self) -> None:
        settings = self.mesh.section("rockstore", rockstore.__main__.Settings)
        shard = self._shard("rockstore", rockstore.layout, settings)
        store = rockstore.store.RockstoreStore(shard, range(self.partitions), self.partitions)
        self._serve("rockstore", rockstore.service.Rockstore(store), store, rockstore.store.TOPICS)

    def _realpin(self) -> None:
        settings = self.mesh.section("realpin", realpin.__main__.Settings)
        shard = self._shard("realpin", realpin.layout, settings)
        impressions = settings.impression_weight != 0
        store = realpin.store.RealpinStore(shard, self.partitions, self._clock, settings.actions_kept, impressions)
        bridge = Bridge()
        interests = Interests(bridge, bridge.make(lambda: RockstoreClient(self.mesh)))
        self._closing.callback(interests.close)
        decay = realpin.signals.decay_of(settings)
        servicer = realpin.service.Realpin(store, decay, interests, settings.pins_looked_at)
        self._serve("realpin", servicer, store, realpin.store.TOPICS)

    def _pixie(self) -> PixieStore:
        settings = self.mesh.section("pixie", PixieSettings)
        store = PixieStore(self.folder / "graphs", self._clock)
        walking = Walking(settings.restart, settings.stop_nodes, settings.stop_visits, settings.max_steps)
        self.mesh.servicers["pixie"] = Pixie(store, walking)
        return store

    def _scorpion(self) -> tuple[Facts, Models]:
        settings, bridge = self.mesh.section("scorpion", ScorpionSettings), Bridge()
        self._closing.callback(bridge.close)
        self.origin = MeshOrigin(bridge, self.mesh)
        self._closing.callback(self.origin.close)
        facts = Facts(self.origin, settings.cache_mb << 20, 0, self._clock)
        models = Models(self.folder, self.origin.known_datasets, facts.widen)
        self.mesh.servicers["scorpion"] = Scorpion(models, facts, self._clock)
        return facts, models
