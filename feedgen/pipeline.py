"""Runs a pipeline: query stages in parallel, walks from their findings, sources in parallel, then filters, scorers,
checks of the scorers' findings, the slate, hydrators and post-filters. It only runs it: `feeds.py` has the stages of each
feed, and a stage its own work.

Each phase gets a share of what is left of the deadline. A lost optional stage is skipped and named; a lost required one
serves the fallback. A request never fails because one service did.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from feedgen.attempt import SHARES, Answer, Lost, answered, attempt
from feedgen.candidates import Candidates
from feedgen.last_resort.page import LastResort
from feedgen.page import LIGHT, NOTHING, Page, Ranking
from feedgen.query import Query
from feedgen.slate import Chosen, Slate
from feedgen.stages import (
    Afterwards,
    CandidateSource,
    Filter,
    Hydrator,
    PostFilter,
    QueryStage,
    Scorer,
    SourceFindings,
    enabled,
    is_enabled,
)
from feedgen.xray import Xray
from services.core.columns import Array, among
from services.core.errors import described
from services.core.events import Surface
from services.rpc.batching import batched_calls

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A feed, read top to bottom. walks: queries that start from what the others found; fillers: sources asked only when
    the others bring too little for a page; checks: filters by findings of scorers; reserve: hydrators of all
    candidates that are left, once a post-filter has dropped a pin of the page.
    """

    surface: Surface
    queries: Sequence[QueryStage]
    walks: Sequence[QueryStage]
    sources: Sequence[CandidateSource]
    fillers: Sequence[CandidateSource]
    filters: Sequence[Filter]
    scorers: Sequence[Scorer]
    checks: Sequence[Filter]
    slate: Slate
    hydrators: Sequence[Hydrator]
    post_filters: Sequence[PostFilter]
    reserve: Sequence[Hydrator]
    last_resort: LastResort
    afterwards: Sequence[Afterwards]

    @property
    def all_sources(self) -> Sequence[CandidateSource]:
        """The sources as candidates number them: the fillers come last."""
        return [*self.sources, *self.fillers]


@dataclass(frozen=True, slots=True)
class Ranked:
    """Candidates with their scores, before any is chosen; their ranking; and the candidates of each source."""

    candidates: Candidates
    ranking: Ranking
    found: Sequence[SourceFindings]


async def run(pipeline: Pipeline, query: Query, xray: Xray) -> Page:
    """One page of `query.limit` pins, or as many as there are; whatever fails on the way, the fallback page."""
    try:
        return await finish(pipeline, query, await rank(pipeline, query, xray), xray)
    except Lost:
        pass
    except Exception as error:  # of a filter, the slate or between stages: stages that ask services are attempted
        xray.failed(error, described(error, "a page could not be made"))
    return await fall_back(pipeline.last_resort, query, xray)


async def rank(pipeline: Pipeline, query: Query, xray: Xray) -> Ranked:
    """Every candidate with its score. Raises Lost when a required stage is, or when nothing was found for losses."""
    with xray.span("queries"):
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


async def _scored(
    pipeline: Pipeline, query: Query, found: Sequence[SourceFindings], more: bool, xray: Xray
) -> Ranked | None:
    """The candidates after filters, scorers and checks; None when they do not fill a page and there is `more`."""
    if query.losers is not None:
        query.losers.begin()
    with xray.span("filters"):
        candidates, ranking = _filtered(pipeline, query, found, xray), LIGHT
    if more and len(candidates) < query.limit:
        return None
    with xray.span("scorers"):
        for scorer in enabled(pipeline.scorers, query):
            begin = partial(scorer.columns, query, candidates)
            scores = await answered(attempt(scorer, "scorer", begin, SHARES.scorers, xray))
            if scores is not None:
                candidates, ranking = candidates.adding(scores.columns), scores.ranking or ranking
    with xray.span("checks"):
        candidates = _kept(pipeline.checks, query, candidates, xray)
    if more and len(candidates) < query.limit:
        return None
    return Ranked(candidates, ranking, found)


async def finish(pipeline: Pipeline, query: Query, ranked: Ranked, xray: Xray) -> Page:
    """The page: chosen, hydrated, and without the pins that post-filters drop, whose places go to the reserve.

    The reserve is all that was ranked and may still be shown. It is looked at only once a pin of the page was dropped, and
    then as a whole, so that the next ones may be shown too. Nothing is retrieved or ranked again.
    """
    candidates, left = ranked.candidates, np.ones(len(ranked.candidates), np.bool_)
    dropped: list[tuple[PostFilter, Array]] = []
    while True:
        chosen = _chosen(pipeline, candidates, left, query, xray)
        with xray.span("hydrators"):
            rows = await _hydrated(pipeline.hydrators, "hydrator", query, candidates.take(chosen.rows), xray)
        late = _post_filtered(pipeline, query, rows, np.ones(len(rows), np.bool_), xray)
        if not late:
            break
        dropped += [(stage, chosen.rows[at]) for stage, at in late]
        left[np.concatenate([chosen.rows[at] for _, at in late])] = False
        with xray.span("reserve"):
            candidates = await _hydrated(pipeline.reserve, "reserve", query, candidates, xray)
            dropped += _post_filtered(pipeline, query, candidates, left, xray)
    _explain(pipeline, query, ranked, candidates, chosen, xray)
    for stage, at in dropped:
        xray.replaced(stage.name, candidates.pin[at], stage.reason)
        if query.losers is not None:
            query.losers.filtered(stage.name, candidates.pin[at])
    return _page(query, ranked, candidates, left, chosen, rows, xray)


def choose(pipeline: Pipeline, query: Query, ranked: Ranked, xray: Xray) -> Page:
    """The page, not hydrated."""
    candidates, left = ranked.candidates, np.ones(len(ranked.candidates), np.bool_)
    chosen = _chosen(pipeline, candidates, left, query, xray)
    _explain(pipeline, query, ranked, candidates, chosen, xray)
    return _page(query, ranked, candidates, left, chosen, candidates.take(chosen.rows), xray)


def _chosen(pipeline: Pipeline, candidates: Candidates, left: Array, query: Query, xray: Xray) -> Chosen:
    """Rows of the candidates, of those that are left (bool[n])."""
    with xray.span("slate"), xray.stage("slate", "select") as trace:
        if left.all():
            chosen, n = pipeline.slate.choose(candidates, query.limit), len(candidates)
        else:
            at = np.flatnonzero(left)
            chosen, n = pipeline.slate.choose(candidates.take(at), query.limit), len(at)
            chosen = replace(chosen, rows=at[chosen.rows])
        trace.kept, trace.dropped = len(chosen.rows), n - len(chosen.rows)
    return chosen


async def _hydrated(stages: Sequence[Hydrator], kind: str, query: Query, rows: Candidates, xray: Xray) -> Candidates:
    """The rows with the columns of these hydrators, those that were not lost."""
    for stage in enabled(stages, query):
        found = await answered(attempt(stage, kind, partial(stage.hydrate, query, rows), SHARES.hydrators, xray))
        if found is not None:
            rows = rows.adding(found.columns)
    return rows


def _post_filtered(
    pipeline: Pipeline, query: Query, rows: Candidates, left: Array, xray: Xray
) -> list[tuple[PostFilter, Array]]:
    """The rows that each post-filter drops of those left (bool[n], updated): int[m], of those filters that drop any."""
    dropped, kept = [], int(np.count_nonzero(left))
    for stage in enabled(pipeline.post_filters, query):
        with xray.stage(stage.name, "post_filter") as trace:
            at = np.flatnonzero(left > stage.keep(query, rows))
            kept -= len(at)
            trace.kept, trace.dropped = kept, len(at)
        if len(at):
            left[at] = False
            dropped.append((stage, at))
    return dropped


def _explain(
    pipeline: Pipeline, query: Query, ranked: Ranked, candidates: Candidates, chosen: Chosen, xray: Xray
) -> None:
    if xray.explain:
        names = [source.name for source in pipeline.all_sources]
        xray.ranked(query, candidates, ranked.ranking, names, pipeline.slate.rates, chosen)


def _page(
    query: Query, ranked: Ranked, candidates: Candidates, left: Array, chosen: Chosen, rows: Candidates, xray: Xray
) -> Page:
    """left: bool[n], which candidates could be chosen; rows: those that were, hydrated."""
    scores = candidates.column("score")
    if query.losers is not None:
        lost = left.copy()
        lost[chosen.rows] = False
        query.losers.not_chosen(candidates.pin[lost], scores[lost].astype(np.float32))
    wrong = _false_positives(ranked.found, query, xray)
    return Page(
        rows,
        scores[chosen.rows].astype(np.float32),
        ranked.ranking,
        false_positives=wrong,
        candidates=len(candidates),
        losers=query.losers,
    )


async def _all(begin: Sequence[Callable[[], Answer[T]]]) -> list[T | None]:
    """Everything in parallel, and the questions to one service in one call.

    All are waited for, then the first error is raised, so that none is left running.
    """
    with batched_calls():
        answers: list[Any] = [one() for one in begin]
        at = [i for i, answer in enumerate(answers) if hasattr(answer, "__await__")]
        awaited = await asyncio.gather(*(answers[i] for i in at), return_exceptions=True)
    for i, answer in zip(at, awaited, strict=True):
        if isinstance(answer, BaseException):
            raise answer
        answers[i] = answer
    return answers


async def _ask(stages: Sequence[QueryStage], share: float, query: Query, xray: Xray) -> None:
    asked = enabled(stages, query)
    answers = await _all([partial(attempt, s, "query", partial(s.ask, query), share, xray) for s in asked])
    for answer in answers:
        for name, value in (answer.values if answer else {}).items():
            setattr(query, name, value)


async def _find(stages: Sequence[CandidateSource], first: int, query: Query, xray: Xray) -> list[SourceFindings]:
    """The candidates of the sources that were not lost; the candidates number them from `first`."""
    asked = [(number, stage) for number, stage in enumerate(stages, first) if is_enabled(stage, query)]
    work = [partial(attempt, s, "source", partial(s.find, query, i), SHARES.sources, xray) for i, s in asked]
    found = []
    with xray.span("sources"):
        for (_, stage), answer in zip(asked, await _all(work), strict=True):
            if answer is not None:
                found.append(answer)
                xray.found(stage.name, answer)
    return found


def _filtered(pipeline: Pipeline, query: Query, found: Sequence[SourceFindings], xray: Xray) -> Candidates:
    """The rows that all filters keep. Each sees all rows, so that rows are left out once, at the end."""
    candidates = Candidates.concat([part.candidates for part in found]).counted()
    xray.merged(candidates)
    return _kept(pipeline.filters, query, candidates, xray)


def _kept(filters: Sequence[Filter], query: Query, candidates: Candidates, xray: Xray) -> Candidates:
    keep: Array = np.ones(len(candidates), np.bool_)
    for stage in enabled(filters, query):
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


def _false_positives(found: Sequence[SourceFindings], query: Query, xray: Xray) -> int:
    """Pins that the bloom filter rejected although the user never met them."""
    rejected = [part.dropped.pins[part.dropped.seen()] for part in found if part.dropped is not None]
    if not rejected:
        return 0
    pins = np.unique(np.concatenate(rejected))
    wrong = int((~among(pins, query.seen.pins)).sum())
    xray.query["filter_rejected"] = len(pins)
    xray.query["filter_false_positives"] = wrong
    return wrong


async def fall_back(last_resort: LastResort, query: Query, xray: Xray) -> Page:
    """The page when none can be made."""
    fallen = await last_resort.page(query, query.seen.pins, xray)
    rows = Candidates.of(fallen.pins, board=fallen.boards).adding(fallen.columns)
    return Page(rows, np.zeros(len(rows), np.float32), NOTHING, fallback=fallen.stage)


def report(pipeline: Pipeline, query: Query, page: Page) -> list[Awaitable[None]]:
    """The work to do after a page was answered."""
    return [stage.report(query, page) for stage in pipeline.afterwards]
