"""Replays a history through the real stores and asks the real feeds at moments of the past.

A replay moves forward only. At a moment the stores hold every event strictly before it and nothing later, every clock
says that moment, and feedgen's own pipelines find, filter and state the candidates; the counts come through roadrunner's
aggregation, and the graph is built again whenever it has grown enough. So a feature means in training what it means when
it is served.
"""

import asyncio
import shutil
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
import numpy as np

import feedgen.__main__
from features.catalogue import CATALOGUE
from features.matrix import Assembler
from features.pins import KEPT, PinFacts
from feedgen import pipeline as pipelines
from feedgen.candidates import Candidates
from feedgen.feeds import Clients, feeds
from feedgen.page import Page
from feedgen.pipeline import Pipeline
from feedgen.query import Query
from feedgen.scorers.ranked import Ranked
from feedgen.stages import Scores
from feedgen.stated import stated
from feedgen.xray import Xray
from pixie import build
from pixie.sources import from_records
from roadrunner.aggregation import Aggregation, MemoryInterests
from scorpion.origin import MeshOrigin
from services import context
from services.errors import InvalidArgument, MeshError
from services.events import Batch
from services.log import Record
from services.settings import Sections
from services.topics import Topic, split
from training.events import History
from training.views import Views

T = TypeVar("T")
TIMEOUT_S = 60.0  # of a request: nothing is late in a replay
SLICE = 50_000  # events applied at once
GROWN = 1.05  # the graph is built again when it would have so many times the saves
ALL_FEATURES = tuple(CATALOGUE.values())
_ASSEMBLER = Assembler(ALL_FEATURES)
FEEDS = ("interest", "picked", "home")
PAGE = 25


@dataclass(frozen=True, slots=True)
class Recording:
    """A scorer that assembles all features of the catalogue, as scorpion does, and leaves the order to the light score."""

    origin: MeshOrigin
    name: str = "recording"
    required: bool = True

    async def columns(self, query: Query, candidates: Candidates) -> Scores:
        """`features`: float32[n, len(CATALOGUE)]."""
        if not len(candidates):
            return Scores({})
        says = stated(query, candidates)
        pins, none = candidates.pin, np.empty(0, np.uint64)
        got = self.origin.fetch(pins, none, (), query.now_ms, TIMEOUT_S)
        if got.lost:
            raise MeshError(f"a replay lost {', '.join(sorted(got.lost))}")
        known = PinFacts(got.values[:, : len(KEPT)], got.interests)
        rows = _ASSEMBLER.rows(says.user, says.interests, says.affinities, says.request, known, {}, query.now_ms)
        return Scores({"features": rows})


@dataclass(slots=True)
class Offsets:
    """Consecutive offsets of every partition, as a log hands them out."""

    partitions: int
    _next: dict[tuple[int, int], int] = field(default_factory=dict)

    def records(self, batch: Batch, accepted_ms: int) -> list[Record]:
        """The records of a batch, in every topic."""
        parts = split(batch, self.partitions)
        return [self.record(part.topic, part.partition, part.batch, accepted_ms) for part in parts]

    def record(self, topic: Topic, partition: int, batch: Batch, accepted_ms: int) -> Record:
        """The next record of a partition."""
        at = (int(topic), partition)
        offset = self._next.get(at, 0)
        self._next[at] = offset + 1
        return Record(topic, partition, offset, accepted_ms, batch)


class Replay:
    """One pass over a history. Close it, or use it in a `with`."""

    def __init__(self, history: History, folder: Path, sections: Sections) -> None:
        """folder: an empty one, for the stores; sections: validated settings."""
        self._history = history
        self.now_ms = int(history.events.at_ms[0]) if len(history.events) else 0
        self._applied = 0
        self.views = Views(folder, sections, lambda: self.now_ms)
        self._offsets = Offsets(self.views.partitions)
        self._aggregation = Aggregation(MemoryInterests())
        self._graph = Graph(self.views)
        self._loop = asyncio.new_event_loop()
        choices = msgspec.structs.replace(sections["feedgen"], deadline_ms=int(TIMEOUT_S * 1000))
        self.served = self._made(choices)
        self._recording = {name: _recording(made, self.views.origin) for name, made in self.served.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the stores."""
        self._loop.close()
        self.views.close()

    def _made(self, choices: feedgen.__main__.Settings) -> Mapping[str, Pipeline]:
        async def make() -> Mapping[str, Pipeline]:
            return feeds(Clients.of(self.views.mesh), choices)

        return self._run(make())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    def advance(self, now_ms: int) -> None:
        """Apply everything strictly before a moment, and stand at it. Raises InvalidArgument for one that is past."""
        if now_ms < self.now_ms:
            raise InvalidArgument(f"now_ms = {now_ms}: the replay stands at {self.now_ms} and can't go back")
        end = self._history.before(now_ms)
        while self._applied < end:
            stop = min(end, self._applied + SLICE)
            self._apply(self._history.events.slice(self._applied, stop))
            self._applied = stop
        self.now_ms = now_ms
        self._graph.renew(now_ms)

    def _apply(self, batch: Batch) -> None:
        self.now_ms = int(batch.at_ms[-1])
        records = self._offsets.records(batch, self.now_ms)
        objects = [record for record in records if record.topic is Topic.OBJECTS]
        records += [
            self._offsets.record(Topic.COUNTS, partition, counts, self.now_ms)
            for partition, counts in self._aggregation.increments(objects, self.views.partitions)
        ]
        self._graph.note(records)
        self.views.apply(records)

    def recorded(self, feed: str, user: int) -> Candidates:
        """Every candidate that a feed finds for a user now, with `score` (the light one) and `features`."""
        pipeline = self._recording[feed]
        query, xray = self._query(pipeline, user, PAGE), Xray(False)

        async def ask() -> pipelines.Ranked:
            with context.serving(TIMEOUT_S):
                return await pipelines.rank(pipeline, query, xray)

        ranked = self._run(ask())
        _complain(xray)
        return ranked.candidates

    def answer(self, feed: str, user: int, limit: int) -> tuple[Candidates, Page]:
        """Every candidate with the score it would be served by now, and the page."""
        pipeline = self.served[feed]
        query, xray = self._query(pipeline, user, limit), Xray(False)

        async def ask() -> tuple[Candidates, Page]:
            with context.serving(TIMEOUT_S):
                ranked = await pipelines.rank(pipeline, query, xray)
                return ranked.candidates, pipelines.choose(pipeline, query, ranked, xray)

        answered = self._run(ask())
        _complain(xray)
        return answered

    def _query(self, pipeline: Pipeline, user: int, limit: int) -> Query:
        return Query(user=user, surface=pipeline.surface, limit=limit, now_ms=self.now_ms, request_id="replay")


class Graph:
    """Pixie's snapshot of what was saved before the moment, built again when it has grown by GROWN."""

    def __init__(self, views: Views) -> None:
        self._views = views
        self._records: list[Record] = []
        self._size = self._built = 0

    def note(self, records: Sequence[Record]) -> None:
        """These were applied."""
        own = [record for record in records if record.topic is Topic.SOURCES]
        self._records += own
        self._size += sum(len(record.batch) for record in own)

    def renew(self, now_ms: int) -> None:
        """Build and load, if it has grown."""
        if self._size < max(self._built * GROWN, 1):
            return
        self._built = self._size
        gathered = from_records(self._records)
        if not len(gathered.edges.pins):
            return
        graphs, before = self._views.folder / "graphs", self._views.pixie.snapshot
        version = build.build(graphs, gathered.edges, gathered.topics, built_ms=now_ms, durable=False)
        self._views.pixie.load(version, verify=False)
        if before is not None:
            shutil.rmtree(graphs / before.manifest.version, ignore_errors=True)


def _recording(pipeline: Pipeline, origin: MeshOrigin) -> Pipeline:
    """The same candidates, with their features instead of a model's scores."""
    kept = [s for s in pipeline.scorers if not isinstance(s, Ranked)]
    return replace(pipeline, scorers=[*kept, Recording(origin)])


def _complain(xray: Xray) -> None:
    """A replay has no excuse: what is lost would be missing from what a model learns."""
    lost = [f"{trace.stage}: {trace.lost}" for trace in xray.stages if trace.lost]
    lost = [one for one in lost if "no graph snapshot" not in one]  # before the first save there is none
    if lost:
        raise MeshError(f"a replay lost {'; '.join(lost)}")
