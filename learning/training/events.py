"""The history that a replay is fed with: every event once, in order of its moment."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from loaders.dataset import EventDataset
from services.core.columns import I64, Array
from services.core.errors import TooLittle
from services.core.events import RESERVED_FROM, Action, Batch, flags
from services.core.topics import Topic
from services.log.protocol import Record
from services.log.reading import open_reader, read_all
from services.rpc.mesh import Mesh

A = Action
READ_TIMEOUT_S = 600.0
ENDS_TIMEOUT_S = 10.0
#: The actions read of each topic, so that an event comes once: there are copies of engagements, boards and takedowns.
_OWN = {
    Topic.USERS: flags(*(a for a in Action if a < A.UNSAVE)),
    Topic.OBJECTS: flags(*(a for a in Action if A.UNSAVE <= a <= A.NAME_INTEREST and a != A.SWITCH_DATASET)),
    Topic.FEEDS: flags(A.SERVED),
}
Progress = Callable[[str, int, int], None]  # what, done, of


@dataclass(frozen=True, slots=True)
class EventHistory:
    """Events with at_ms ascending; equal moments keep their order. served: feedgen's log of its pages."""

    events: Batch
    served: Batch
    source: str

    def before(self, at_ms: int) -> int:
        """How many events come strictly before a moment."""
        return int(np.searchsorted(self.events.at_ms, at_ms, side="left"))

    def until(self, at_ms: int) -> "EventHistory":
        """The events strictly before a moment, as if the rest had never been."""
        return EventHistory(self.events.slice(0, self.before(at_ms)), self.served, self.source)


def of_dataset(dataset: EventDataset, progress: Progress | None = None) -> EventHistory:
    """The events of a set."""
    parts, done = [], 0
    for batch in dataset.batches(size=100_000):
        parts.append(batch)
        done += len(batch)
        if progress:
            progress("reading events", done, dataset.size)
    if not parts:
        raise TooLittle(f"{dataset.name}: has no events")
    return of_batches(parts, dataset.name)


def of_mesh(mesh: Mesh, progress: Progress | None = None) -> EventHistory:
    """The events of a running mesh's log, up to its present end. Raises Unavailable when it can't be reached."""
    log = open_reader(mesh)
    topics = (Topic.OBJECTS, Topic.USERS, Topic.FEEDS)
    parts: dict[Topic, list[Batch]] = {topic: [] for topic in topics}
    try:
        ends = {at: end for at, end in log.ends(ENDS_TIMEOUT_S).items() if at[0] in topics}
        total, done = sum(end.events or 0 for end in ends.values()), 0
        for records in read_all(log, {at: end.first for at, end in ends.items()}, READ_TIMEOUT_S):
            done += _sort_in(records, parts)
            if progress:
                progress("reading the log", min(done, total), total)
    finally:
        log.close()
    found = [*parts[Topic.OBJECTS], *parts[Topic.USERS]]
    if not found:
        raise TooLittle("the log is empty: load a set first (feedmesh load), or let people use the feeds")
    return of_batches(found, "the log", parts[Topic.FEEDS])


def _sort_in(records: Iterable[Record], parts: dict[Topic, list[Batch]]) -> int:
    done = 0
    for record in records:
        done += record.events + record.repeated
        batch = record.batch
        batch = batch.take(_OWN[record.topic][batch.action] & ~_audited(batch))
        if len(batch):
            parts[record.topic].append(batch)
    return done


def _audited(batch: Batch) -> Array:
    """bool[n]: events of roadrunner's probe, which are no user's."""
    return np.asarray((batch.user >= RESERVED_FROM) | (batch.pin >= RESERVED_FROM))


def of_batches(parts: list[Batch], source: str, served: list[Batch] | None = None) -> EventHistory:
    """The events of batches, put in order."""
    whole = Batch.concat(parts)
    return EventHistory(
        whole.take(np.argsort(whole.at_ms, kind="stable")), Batch.concat(served or [whole.slice(0, 0)]), source
    )


def moments_of(at_ms: I64, until_ms: int, most: int) -> I64:
    """At most `most` of the distinct moments before `until_ms`, spread evenly over them."""
    distinct: Array = np.unique(at_ms[at_ms < until_ms])
    if len(distinct) <= most:
        return distinct
    return np.asarray(distinct[np.linspace(0, len(distinct) - 1, most).round().astype(np.int64)])
