"""Replays a history through the real stores and asks the real feeds at moments of the past.

A replay moves forward only. At a moment the stores hold every event strictly before it and nothing later, every clock
says that moment, and feedgen's own pipelines find, filter and state the candidates; the counts come through roadrunner's
aggregation, and the graph is built again whenever it has grown enough. So a feature means in training what it means when
it is served.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from features.catalogue import CATALOGUE
from features.matrix import Assembler
from features.pins import KEPT, PinFeatures
from feedgen import pipeline as pipelines
from feedgen.attempt import Lost
from feedgen.candidates import EMPTY, Candidates
from feedgen.page import NOTHING, Page
from feedgen.pipeline import Pipeline
from feedgen.query import Query
from feedgen.scorers.ranked import Ranked, said_of
from feedgen.stages import Scores
from feedgen.stated import stated
from feedgen.xray import Xray
from learning.training.events import EventHistory
from learning.training.views import DEADLINE_MS, Views
from pixie import build
from pixie.client import NoGraph
from pixie.keys import graphs_of
from pixie.sources import from_records
from roadrunner.aggregation import Aggregation, MemoryValues
from scorpion.client import Attributes
from scorpion.origin import STANDING, TAKEN_DOWN, UNDESCRIBED, MeshOrigin, of_standing
from services.core import context
from services.core.errors import InvalidArgument, MeshError
from services.core.events import Batch
from services.core.settings import Sections
from services.core.topics import Topic
from services.log.protocol import Record

T = TypeVar("T")
TIMEOUT_S = DEADLINE_MS / 1000  # of a request: nothing is late in a replay
SLICE = 50_000  # events applied together
GROWN = 1.05  # the graph is built again when it would have so many times the saves
ALL_FEATURES = tuple(CATALOGUE.values())
_ASSEMBLER = Assembler(ALL_FEATURES)
FEEDS = ("interest", "picked", "home")
PAGE = 25


@dataclass(frozen=True, slots=True)
class Recording:
    """Stands where a model ranks: assembles all features of the catalogue, as scorpion does, says as it does which pins may
    not be shown, and leaves the order to the light score. So a model learns from the candidates that it would rank.
    """

    origin: MeshOrigin
    name: str = "recording"
    required: bool = True

    async def columns(self, query: Query, candidates: Candidates) -> Scores:
        """`features`: float32[n, len(CATALOGUE)]; and what `ranked` says of the pins."""
        if not len(candidates):
            return Scores({})
        says = stated(query, candidates)
        pins, none = candidates.pin, np.empty(0, np.uint64)
        got = self.origin.fetch(pins, none, (STANDING,), query.now_ms, TIMEOUT_S)
        if got.lost:
            raise MeshError(f"a replay lost {', '.join(sorted(got.lost))}")
        known = PinFeatures(got.values[:, : len(KEPT)], got.interests)
        rows = _ASSEMBLER.rows(says.user, says.interests, says.affinities, says.request, known, {}, query.now_ms)
        status, creators = of_standing(got.values[:, len(KEPT)])
        standing = Attributes(got.interests[:, 0], status == TAKEN_DOWN, status == UNDESCRIBED, creators)
        return Scores({"features": rows} | said_of(query, standing))


class Replay:
    """One pass over a history. Close it, or use it in a `with`."""

    def __init__(self, history: EventHistory, folder: Path, sections: Sections) -> None:
        """folder: an empty one, for the stores; sections: validated settings."""
        self._history = history
        self.now_ms = int(history.events.at_ms[0]) if len(history.events) else 0
        self._applied = 0
        self.views = Views(folder, sections, lambda: self.now_ms)
        self._aggregation = Aggregation(MemoryValues(), MemoryValues())
        self._graph = ReplayGraph(self.views)
        self._loop = asyncio.new_event_loop()
        self.served = self._run(self._feeds())
        self._recording = {name: _recording(made, self.views.origin) for name, made in self.served.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the stores."""
        self._loop.close()
        self.views.close()

    async def _feeds(self) -> Mapping[str, Pipeline]:
        return self.views.feedgen().feeds

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
        records = self.views.log.append(batch, accepted_ms=self.now_ms)
        objects = [record for record in records if record.topic is Topic.OBJECTS]
        records += [
            self.views.log.append_to(Topic.COUNTS, partition, counts, self.now_ms)
            for partition, counts in self._aggregation.increments(objects, self.views.partitions)
        ]
        self._graph.note(records)
        self.views.apply(records)

    def recorded(self, feed: str, user: int) -> Candidates:
        """Every candidate that a feed finds for a user now, with `score` (the light one) and `features`; none, without
        these columns, at a moment when there is nothing to find.
        """
        pipeline = self._recording[feed]
        ranked = self._ranked(pipeline, self._query(pipeline, user, PAGE), Xray(False))
        return ranked.candidates if ranked else EMPTY

    def answer(self, feed: str, user: int, limit: int) -> tuple[Candidates, Page]:
        """Every candidate with the score it would be served by now, and the page."""
        pipeline = self.served[feed]
        query, xray = self._query(pipeline, user, limit), Xray(False)
        ranked = self._ranked(pipeline, query, xray)
        if ranked is None:
            return EMPTY, Page(EMPTY, np.zeros(0, np.float32), NOTHING)
        return ranked.candidates, pipelines.choose(pipeline, query, ranked, xray)

    def _ranked(self, pipeline: Pipeline, query: Query, xray: Xray) -> pipelines.Ranked | None:
        """None when there is nothing to rank: before the first save there is neither a graph nor a popular pin. Raises
        MeshError when a stage was lost for any other reason.
        """

        async def ask() -> pipelines.Ranked | None:
            with context.serving(TIMEOUT_S):
                try:
                    return await pipelines.rank(pipeline, query, xray)
                except Lost:
                    return None

        ranked = self._run(ask())
        _complain(xray)
        return ranked

    def _query(self, pipeline: Pipeline, user: int, limit: int) -> Query:
        return Query(user=user, surface=pipeline.surface, limit=limit, now_ms=self.now_ms, request_id="replay")


class ReplayGraph:
    """Pixie's snapshot of the saves before the moment, built again when it has grown by GROWN."""

    def __init__(self, views: Views) -> None:
        self._views = views
        self._records: list[Record] = []
        self._size = self._built = 0

    def note(self, records: Sequence[Record]) -> None:
        """These were applied."""
        own = [record for record in records if record.topic is Topic.SOURCES]
        self._records += own
        self._size += sum(record.events for record in own)

    def renew(self, now_ms: int) -> None:
        """Build and load, if it has grown."""
        if self._size < max(self._built * GROWN, 1):
            return
        self._built = self._size
        gathered = from_records(self._records)
        if not len(gathered.edges.pins):
            return
        graphs, before = graphs_of(self._views.folder), self._views.pixie.snapshot
        version = build.build(graphs, gathered.edges, gathered.topics, built_ms=now_ms, durable=False)
        self._views.pixie.load(version, verify=False)
        if before is not None:
            graphs.delete_all(before.manifest.version)


def _recording(pipeline: Pipeline, origin: MeshOrigin) -> Pipeline:
    """The same candidates, with their features instead of a model's scores."""
    scorers = [Recording(origin) if isinstance(scorer, Ranked) else scorer for scorer in pipeline.scorers]
    return replace(pipeline, scorers=scorers)


def _complain(xray: Xray) -> None:
    """Raises for a lost stage: its candidates or features would be missing from a model's samples."""
    excused = {
        loss.stage for loss in xray.losses if isinstance(loss.error, NoGraph)
    }  # before the first save there is none
    lost = [f"{trace.stage}: {trace.lost}" for trace in xray.stages if trace.lost and trace.stage not in excused]
    if lost:
        raise MeshError(f"a replay lost {'; '.join(lost)}")
