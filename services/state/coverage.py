"""How far a log may be dropped: up to where a snapshot of every view has applied it, for each of its partitions.

This is the one rule of retention that every log asks. Of each shard the snapshot before the newest counts: the newest may turn
out to be damaged, and the one before it is of no use when the log lacks what follows it.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from services.blob.protocol import Blobs
from services.core.errors import MeshError
from services.core.paced import Paced
from services.log.protocol import Partition, Positions
from services.rpc.membership import Members
from services.state.manifest import Manifest, Snapshots
from services.state.pruning import NEEDED
from services.state.restore import Past, why_not

logger = logging.getLogger(__name__)
EVERY_S, STOP_S = 60.0, 2.0  # between looks; so long a store that hangs is waited for
SETTING = "snapshot_every_s"  # of a service that keeps a view


class Shards(NamedTuple):
    """A view: how many shards it has now, and whether it takes snapshots."""

    service: str
    shards: int
    takes: bool


class Floor(NamedTuple):
    """Records before these positions may be dropped; of a partition that no view follows, any. why: what keeps all of
    them; empty when nothing does.
    """

    before: Positions
    why: str = ""

    def allows(self, at: Partition, next_: int) -> bool:
        """Whether the records of a partition before an offset may be dropped."""
        return not self.why and next_ <= self.before.get(at, next_)


UNKNOWN = Floor({}, "snapshots have not been looked at yet")
NO_BOUND = Floor({})


def floor_of(blobs: Blobs, views: Iterable[Shards], log: Past) -> Floor:
    """How far a log may be dropped. Raises what stores raise."""
    before: Positions = {}
    for view in views:
        for shard in range(view.shards):
            of = Snapshots(blobs, view.service, shard, view.shards)
            found = _second(of, log)
            if found is None:
                hint = "it takes some" if view.takes else f"set [{view.service}] {SETTING}"
                return Floor({}, f"{of.name} has not {NEEDED} snapshots of this log: {hint}")
            _lower(before, found.next)
    return Floor(before)


def _second(of: Snapshots, log: Past) -> Manifest | None:
    """The newest snapshot but one that fits a log."""
    fitting = (manifest for _, manifest in of.readable() if not why_not(manifest, manifest.form, log))
    return next((manifest for n, manifest in enumerate(fitting, 1) if n == NEEDED), None)


def _lower(before: Positions, positions: Mapping[Partition, int]) -> None:
    for at, offset in positions.items():
        before[at] = min(offset, before.get(at, offset))


def views_of(settings: Mapping[str, Any], members: Members) -> list[Shards]:
    """The views of a mesh: its settings by section, and its processes now. The replicas of a shard share its snapshots."""
    found = []
    for service, section in settings.items():
        if SETTING in section and any(process.service == service for process in members.processes):
            found.append(Shards(service, members.of(service)[0].shards, bool(section[SETTING])))
    return found


class Coverage:
    """The floor as it was a moment ago, looked up on a thread of its own: a store that hangs holds up nobody."""

    def __init__(self, blobs: Blobs, views: Callable[[], Iterable[Shards]], log: Callable[[], Past]) -> None:
        self._blobs, self._views, self._log = blobs, views, log
        self._floor, self._paced = UNKNOWN, Paced("coverage", self._step)

    def start(self) -> None:
        """Begin to look."""
        self._paced.start()

    def stop(self) -> None:
        """Look no more."""
        self._paced.stop(STOP_S)

    def floor(self) -> Floor:
        """As it was last known. Positions of before hold on: snapshots only move forward."""
        return self._floor

    def _step(self) -> float:
        try:
            self._floor = floor_of(self._blobs, self._views(), self._log())
        except MeshError as error:
            self._floor = Floor({}, f"snapshots can't be looked at: {error}")
        except Exception:
            logger.exception("snapshots can't be looked at")
            self._floor = Floor({}, "snapshots can't be looked at; the process's log says why")
        return EVERY_S
