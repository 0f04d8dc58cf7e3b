"""Runs a pipeline: query stages at once, sources at once, then filters, scorers and the slate. It only runs it: what a
feed consists of is in `feeds.py`, what a stage does is in the stage.

Each phase gets a share of what is left of the deadline. A lost optional stage is skipped and named; a lost required one
serves the fallback. A request never fails because one service did.
"""

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from feedgen.candidates import Candidates
from feedgen.query import Query
from feedgen.slate import Slate
from feedgen.stages import Afterwards, Fallback, Filter, Found, QueryStage, Scorer, Source, Stage
from feedgen.xray import Xray
from services import context
from services.columns import F32, U64, Array, among
from services.errors import MeshError
from services.events import Surface

logger = logging.getLogger(__name__)
T = TypeVar("T")
FALLBACK = "fallback"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A feed, read top to bottom."""

    surface: Surface
    queries: Sequence[QueryStage]
    sources: Sequence[Source]
    filters: Sequence[Filter]
    scorers: Sequence[Scorer]
    slate: Slate
    fallback: Fallback
    afterwards: Sequence[Afterwards]
    model: str


@dataclass(frozen=True, slots=True)
class Page:
    """What was chosen, in order. source: int64[n], index into the pipeline's sources; -1 from the fallback."""

    pins: U64
    boards: U64
    owners: U64
    source: Array
    scores: F32
    at_ms: Array
    fell_back: bool = False
    false_positives: int = 0


class Lost(Exception):
    """A required stage was lost."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Of the time that is left, how much each phase may take."""

    queries: float = 0.4
    sources: float = 0.5
    scorers: float = 0.7
    fallback: float = 0.8


SHARES = Shares()


async def run(pipeline: Pipeline, query: Query, xray: Xray) -> Page:
    """One page of `query.limit` pins, or as many as there are."""
    try:
        page = await _make(pipeline, query, xray)
    except Lost:
        page = await fall_back(pipeline.fallback, query, xray)
    return page


async def _make(pipeline: Pipeline, query: Query, xray: Xray) -> Page:
    await _ask(pipeline.queries, query, xray)
    found = await _find(pipeline.sources, query, xray)
    candidates = Candidates.concat([part.candidates for part in found])
    for stage in pipeline.filters:
        candidates = _filter(stage, query, candidates, xray)
    for scorer in pipeline.scorers:
        candidates = await _score(scorer, query, candidates, xray)
    with xray.stage("slate", "select") as trace:
        score = candidates.column("score")
        chosen = pipeline.slate.choose(candidates, score, query.limit)
        trace.kept, trace.dropped = len(chosen), len(candidates) - len(chosen)
    xray.ranked(candidates, [source.name for source in pipeline.sources], chosen)
    best = candidates.take(chosen)
    false_positives = _false_positives(found, query, xray)
    return Page(
        best.pin, best.board, best.owner, best.source.astype(np.int64), score[chosen], best.at_ms,
        false_positives=false_positives,
    )  # fmt: skip


async def _attempt(stage: Stage, kind: str, work: Awaitable[T], share: float, xray: Xray) -> T | None:
    """The stage's answer within its share of the time; None when an optional one is lost. Raises Lost."""
    timeout = _remaining() * share
    with xray.stage(stage.name, kind) as trace:
        try:
            async with asyncio.timeout(timeout):
                with context.serving(timeout):
                    return await work
        except TimeoutError:
            trace.lost = f"no answer within {timeout * 1000:.0f} ms"
        except MeshError as error:
            trace.lost = str(error)
    logger.warning("%s was lost: %s", stage.name, trace.lost)
    if stage.required:
        raise Lost(stage.name)
    return None


def _remaining() -> float:
    request = context.current()
    return request.remaining() if request else 1.0


async def _all(work: Sequence[Awaitable[T]]) -> list[T]:
    """Everything at once; all are waited for, then the first error is raised, so that none is left running."""
    answers = await asyncio.gather(*work, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers  # type: ignore[return-value]


async def _ask(stages: Sequence[QueryStage], query: Query, xray: Xray) -> None:
    answers = await _all([_attempt(s, "query", s.ask(query), SHARES.queries, xray) for s in stages])
    for answer in answers:
        for name, value in (answer or {}).items():
            setattr(query, name, value)


async def _find(stages: Sequence[Source], query: Query, xray: Xray) -> list[Found]:
    work = [_attempt(s, "source", s.find(query, i), SHARES.sources, xray) for i, s in enumerate(stages)]
    found = []
    for stage, answer in zip(stages, await _all(work), strict=True):
        if answer is not None:
            found.append(answer)
            _count(xray, stage.name, len(answer.candidates))
            if answer.dropped is not None:
                xray.leaf_drops(stage.name, answer.dropped)
    return found


def _count(xray: Xray, stage: str, kept: int) -> None:
    for trace in xray.stages:
        if trace.stage == stage:
            trace.kept = kept


def _filter(stage: Filter, query: Query, candidates: Candidates, xray: Xray) -> Candidates:
    with xray.stage(stage.name, "filter") as trace:
        keep = stage.keep(query, candidates)
        trace.kept = int(keep.sum())
        trace.dropped = len(keep) - trace.kept
    xray.filtered(stage.name, candidates, keep)
    return candidates if trace.dropped == 0 else candidates.take(keep)


async def _score(stage: Scorer, query: Query, candidates: Candidates, xray: Xray) -> Candidates:
    columns = await _attempt(stage, "scorer", stage.columns(query, candidates), SHARES.scorers, xray)
    return candidates if columns is None else candidates.adding(columns)


def _false_positives(found: Sequence[Found], query: Query, xray: Xray) -> int:
    """Pins that the bloom filter rejected although the user never met them."""
    rejected = [part.dropped.pins[part.dropped.seen()] for part in found if part.dropped is not None]
    if not rejected:
        return 0
    pins = np.unique(np.concatenate(rejected))
    wrong = int((~among(pins, query.seen.pins)).sum())
    xray.query["filter_rejected"] = len(pins)
    xray.query["filter_false_positives"] = wrong
    return wrong


async def fall_back(stage: Fallback, query: Query, xray: Xray) -> Page:
    """The last good list, less what this cursor has shown. Empty when that is lost as well.

    It does not wait for the request's token: what was lost may have been waiting for it already.
    """
    try:
        with context.serving(_remaining(), token=b""):
            fallen = await _attempt(stage, "fallback", stage.last(query), SHARES.fallback, xray)
    except Lost:
        fallen = None
    if fallen is None:
        none = np.empty(0, np.uint64)
        return Page(none, none, none, np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.int64), True)
    rows = np.flatnonzero(~among(fallen.pins, query.shown))[: query.limit]
    n = len(rows)
    xray.stages[-1].kept = n
    return Page(
        fallen.pins[rows], fallen.boards[rows], np.zeros(n, np.uint64), np.full(n, -1), np.zeros(n, np.float32),
        np.zeros(n, np.int64), True,
    )  # fmt: skip


def tell(pipeline: Pipeline, query: Query, page: Page) -> list[Awaitable[None]]:
    """What to do after a page was answered."""
    return [stage.tell(query, page.pins, page.boards, page.scores) for stage in pipeline.afterwards]
