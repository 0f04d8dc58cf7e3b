"""Runs a pipeline: query stages at once, walks from what they found, sources at once, then filters, scorers, checks of
what these found out, and the slate. It only runs it: what a feed consists of is in `feeds.py`, what a stage does is in the
stage.

Each phase gets a share of what is left of the deadline. A lost optional stage is skipped and named; a lost required one
serves the fallback. A request never fails because one service did.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast, overload

import numpy as np

from feedgen.candidates import EMPTY, Candidates
from feedgen.page import LIGHT, NOTHING, Page, Ranking
from feedgen.query import Query
from feedgen.slate import Slate
from feedgen.stages import Afterwards, Fallback, Filter, Found, QueryStage, Resort, Scorer, Source, Stage
from feedgen.xray import StageTrace, Xray
from services.core import context
from services.core.columns import Array, among
from services.core.errors import DeadlineExceeded, MeshError, described
from services.core.events import Surface
from services.rpc.together import together

logger = logging.getLogger(__name__)
T = TypeVar("T")
FALLBACK = "fallback"
Answer: TypeAlias = T | Awaitable[T | None] | None  # of an attempt: at once of a stage that asks nobody


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A feed, read top to bottom. walks: queries that start from what the others found; fillers: sources asked only when
    the others bring too little for a page; checks: filters of what only scorers know.
    """

    surface: Surface
    queries: Sequence[QueryStage]
    walks: Sequence[QueryStage]
    sources: Sequence[Source]
    fillers: Sequence[Source]
    filters: Sequence[Filter]
    scorers: Sequence[Scorer]
    checks: Sequence[Filter]
    slate: Slate
    fallback: Fallback
    resort: Resort
    afterwards: Sequence[Afterwards]

    @property
    def all_sources(self) -> Sequence[Source]:
        """The sources as candidates number them: the fillers come last."""
        return [*self.sources, *self.fillers]


@dataclass(frozen=True, slots=True)
class Ranked:
    """Candidates with their scores, before any is chosen; what ranked them; and what each source had found."""

    candidates: Candidates
    ranking: Ranking
    found: Sequence[Found]


class Lost(Exception):
    """A required stage was lost."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Of the time that is left, how much each phase may take."""

    queries: float = 0.4
    walks: float = 0.25
    sources: float = 0.5
    scorers: float = 0.5
    wording: float = 0.9
    fallback: float = 0.8


SHARES = Shares()


async def run(pipeline: Pipeline, query: Query, xray: Xray) -> Page:
    """One page of `query.limit` pins, or as many as there are; whatever fails on the way, the fallback page."""
    try:
        return choose(pipeline, query, await rank(pipeline, query, xray), xray)
    except Lost:
        pass
    except Exception as error:  # of a filter, the slate or between stages: what stages ask is attempted
        xray.failed(error, described(error, "a page could not be made"))
    return await fall_back(pipeline.fallback, pipeline.resort, query, xray)


async def rank(pipeline: Pipeline, query: Query, xray: Xray) -> Ranked:
    """Every candidate with its score. Raises Lost when a required stage is, or when nothing was found for losses."""
    await _ask(pipeline.queries, SHARES.queries, query, xray)
    await _ask(pipeline.walks, SHARES.walks, query, xray)
    found = await _find(pipeline.sources, 0, query, xray)
    ranked = await _scored(pipeline, query, found, bool(pipeline.fillers), xray)
    if ranked is None:
        found += await _find(pipeline.fillers, len(pipeline.sources), query, xray)
        ranked = await _scored(pipeline, query, found, False, xray)
    if ranked is None or (not len(ranked.candidates) and xray.degraded()):
        raise Lost("every source")
    return ranked


async def _scored(pipeline: Pipeline, query: Query, found: Sequence[Found], more: bool, xray: Xray) -> Ranked | None:
    """What filters, scorers and checks make of what was found; None when it does not fill a page and there is `more`."""
    if query.losers is not None:
        query.losers.begin()
    candidates, ranking = _filtered(pipeline, query, found, xray), LIGHT
    if more and len(candidates) < query.limit:
        return None
    for scorer in pipeline.scorers:
        begin = partial(scorer.columns, query, candidates)
        scores = await answered(attempt(scorer, "scorer", begin, SHARES.scorers, xray))
        if scores is not None:
            candidates, ranking = candidates.adding(scores.columns), scores.ranking or ranking
    candidates = _kept(pipeline.checks, query, candidates, xray)
    if more and len(candidates) < query.limit:
        return None
    return Ranked(candidates, ranking, found)


def choose(pipeline: Pipeline, query: Query, ranked: Ranked, xray: Xray) -> Page:
    """The page."""
    candidates = ranked.candidates
    with xray.stage("slate", "select") as trace:
        chosen = pipeline.slate.choose(candidates, query.limit)
        trace.kept, trace.dropped = len(chosen.rows), len(candidates) - len(chosen.rows)
    names = [source.name for source in pipeline.all_sources]
    xray.ranked(query, candidates, ranked.ranking, names, pipeline.slate.rates, chosen)
    scores = candidates.column("score")[chosen.rows].astype(np.float32)
    if query.losers is not None:
        left = np.ones(len(candidates), np.bool_)
        left[chosen.rows] = False
        query.losers.not_chosen(candidates.pin[left], candidates.column("score")[left].astype(np.float32))
    wrong, rows = _false_positives(ranked.found, query, xray), candidates.take(chosen.rows)
    return Page(rows, scores, ranked.ranking, false_positives=wrong, candidates=len(candidates), losers=query.losers)


@overload
def attempt(stage: Stage, kind: str, begin: Callable[[], Awaitable[T]], share: float, xray: Xray) -> Answer[T]: ...


@overload
def attempt(stage: Stage, kind: str, begin: Callable[[], T | Awaitable[T]], share: float, xray: Xray) -> Answer[T]: ...


def attempt(stage: Stage, kind: str, begin: Callable[[], Any], share: float, xray: Xray) -> Answer[Any]:
    """The stage's answer within its share of the time; None when an optional one is lost. Raises Lost.

    `begin` is called at once and gives the answer, or work to await. An answer that says of itself what is missing
    (`lost`, feedgen/stages.py) degrades the page and is used.
    """
    trace = xray.stage(stage.name, kind)
    try:
        with trace:
            work = begin()
    except Exception as error:
        _lose(stage, trace, error, xray)
        return None
    return _await(stage, trace, work, _remaining() * share, xray) if hasattr(work, "__await__") else _told(trace, work)


async def _await(stage: Stage, trace: StageTrace, work: Awaitable[T], timeout: float, xray: Xray) -> T | None:
    try:
        with trace:
            async with asyncio.timeout(timeout):
                with context.serving(timeout):
                    return _told(trace, await work)
    except TimeoutError:
        _lose(stage, trace, DeadlineExceeded(f"no answer within {timeout * 1000:.0f} ms"), xray)
    except Exception as error:
        _lose(stage, trace, error, xray)
    return None


def _lose(stage: Stage, trace: StageTrace, error: Exception, xray: Xray) -> None:
    """A stage was lost, to whatever: one that is not the mesh's own is logged with its traceback."""
    trace.lost = described(error, f"{stage.name} failed")
    xray.losses.append((stage.name, cause_of(error)))
    logger.warning("%s was lost: %s", stage.name, trace.lost)
    if stage.required:
        raise Lost(stage.name)


def cause_of(error: Exception) -> str:
    """What an error is counted as: its status, or `fault` for one that is not the mesh's own."""
    return error.status.name.lower() if isinstance(error, MeshError) else "fault"


def _told(trace: StageTrace, answer: T) -> T:
    trace.lost = getattr(answer, "lost", "") or None
    return answer


async def answered(answer: Answer[T]) -> T | None:
    """What an attempt comes to."""
    if hasattr(answer, "__await__"):
        answer = await cast(Awaitable[T | None], answer)
    return answer


def _remaining() -> float:
    request = context.current()
    return request.remaining() if request else 1.0


async def _all(begin: Sequence[Callable[[], Answer[T]]]) -> list[T | None]:
    """Everything at once, and what goes to one service in one call.

    All are waited for, then the first error is raised, so that none is left running.
    """
    with together():
        answers: list[Any] = [one() for one in begin]
        at = [i for i, answer in enumerate(answers) if hasattr(answer, "__await__")]
        awaited = await asyncio.gather(*(answers[i] for i in at), return_exceptions=True)
    for i, answer in zip(at, awaited, strict=True):
        if isinstance(answer, BaseException):
            raise answer
        answers[i] = answer
    return answers


async def _ask(stages: Sequence[QueryStage], share: float, query: Query, xray: Xray) -> None:
    answers = await _all([partial(attempt, s, "query", partial(s.ask, query), share, xray) for s in stages])
    for answer in answers:
        for name, value in (answer.values if answer else {}).items():
            setattr(query, name, value)


async def _find(stages: Sequence[Source], first: int, query: Query, xray: Xray) -> list[Found]:
    """What the sources find, those that were not lost; the candidates number them from `first`."""
    share = SHARES.sources
    work = [partial(attempt, s, "source", partial(s.find, query, first + i), share, xray) for i, s in enumerate(stages)]
    found = []
    for stage, answer in zip(stages, await _all(work), strict=True):
        if answer is not None:
            found.append(answer)
            xray.found(stage.name, answer)
    return found


def _filtered(pipeline: Pipeline, query: Query, found: Sequence[Found], xray: Xray) -> Candidates:
    """What all filters keep. Each sees all that was found, so that rows are left out once, at the end."""
    candidates = Candidates.concat([part.candidates for part in found]).counted()
    xray.together(candidates)
    return _kept(pipeline.filters, query, candidates, xray)


def _kept(filters: Sequence[Filter], query: Query, candidates: Candidates, xray: Xray) -> Candidates:
    keep: Array = np.ones(len(candidates), np.bool_)
    for stage in filters:
        keep = _filter(stage, query, candidates, keep, xray)
    return candidates if keep.all() else candidates.take(np.flatnonzero(keep))


def _filter(stage: Filter, query: Query, candidates: Candidates, keep: Array, xray: Xray) -> Array:
    """Which of those that filters before keep (bool[n]) this one keeps too."""
    with xray.stage(stage.name, "filter") as trace:
        kept = keep & stage.keep(query, candidates)
        trace.kept = int(np.count_nonzero(kept))
        trace.dropped = int(np.count_nonzero(keep)) - trace.kept
    if trace.dropped and query.losers is not None:
        query.losers.filtered(stage.name, candidates.pin[keep & ~kept])
    if xray.explain:
        xray.filtered(stage.name, candidates, kept | ~keep)
    return kept


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


async def fall_back(stage: Fallback, resort: Resort, query: Query, xray: Xray) -> Page:
    """The last good list, less what this cursor has shown; of who has none, what is good for anybody. Where a list that was
    read to its end may be followed by no such pins, the page is empty: the reader has had all that there is for now.

    It does not wait for the request's token: what was lost may have been waiting for it already.
    """
    with context.serving(_remaining(), token=b""):
        try:
            fallen = await answered(attempt(stage, "fallback", partial(stage.last, query), SHARES.fallback, xray))
        except Lost:
            fallen = None
        if fallen is not None:
            left = np.flatnonzero(~query.shown.among(fallen.pins))[: query.limit]
            rows = Candidates.of(fallen.pins[left], board=fallen.boards[left])
            xray.stages[-1].kept = len(rows)
            if len(rows) or (len(fallen.pins) and not resort.follows(query)):
                return _fallen(rows, stage)
        found = await answered(attempt(resort, "fallback", partial(resort.at_hand, query), SHARES.fallback, xray))
    if found is None:
        return _fallen(EMPTY, resort)
    gone = ~among(found.pin, np.sort(fallen.removed)) if fallen is not None else np.ones(len(found), np.bool_)
    return _fallen(found.take(np.flatnonzero(gone)[: query.limit]), resort)


def _fallen(rows: Candidates, stage: Stage) -> Page:
    return Page(rows, np.zeros(len(rows), np.float32), NOTHING, fallback=stage.name)


def tell(pipeline: Pipeline, query: Query, page: Page) -> list[Awaitable[None]]:
    """What to do after a page was answered."""
    return [stage.tell(query, page) for stage in pipeline.afterwards]
