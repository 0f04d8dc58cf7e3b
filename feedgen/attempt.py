"""Runs one stage within its share of a request's time, and notes how long it took and whether it was lost.

It knows nothing of candidates: the page of the last resort, which the edge makes without feedgen, is made with it too.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar, cast, overload

from services.core import context
from services.core.errors import DeadlineExceeded, MeshError, described

logger = logging.getLogger(__name__)
T = TypeVar("T")
Answer: TypeAlias = T | Awaitable[T | None] | None  # of an attempt: immediately of a stage that asks no service


class Stage(Protocol):
    """name: as `degraded` and the X-ray have it. required: whether the feed falls back when the stage is lost."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def required(self) -> bool:
        """Whether a page can't be made without it."""
        ...


class Lost(Exception):
    """A required stage was lost."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Of the time that is left, how much each phase may take."""

    queries: float = 0.4
    walks: float = 0.25
    sources: float = 0.5
    scorers: float = 0.5
    hydrators: float = 0.9
    fallback: float = 0.8


SHARES = Shares()


class Loss(NamedTuple):
    """A stage that was lost, and the cause."""

    stage: str
    error: Exception

    @property
    def cause(self) -> str:
        """The cause it is counted under: the error's status, or `fault` for one that is not the mesh's own."""
        return self.error.status.name.lower() if isinstance(self.error, MeshError) else "fault"


@dataclass(slots=True)
class StageTrace:
    """One stage of one request. It took the time that was spent within it, as a context manager."""

    stage: str
    kind: str
    took_ms: float = 0.0
    kept: int | None = None
    dropped: int | None = None
    lost: str | None = None

    def __enter__(self) -> "StageTrace":
        self.took_ms -= time.perf_counter() * 1000
        return self

    def __exit__(self, *raised: object) -> None:
        self.took_ms += time.perf_counter() * 1000


@dataclass(slots=True)
class Span:
    """A phase of a request. It took the time from entering it to leaving it, waiting included."""

    phase: str
    took_ms: float = 0.0

    def __enter__(self) -> "Span":
        self.took_ms -= time.perf_counter() * 1000
        return self

    def __exit__(self, *raised: object) -> None:
        self.took_ms += time.perf_counter() * 1000


@dataclass(slots=True)
class Traces:
    """The stages and phases of one request, in the order in which they began, and the losses among the stages."""

    stages: list[StageTrace] = field(default_factory=list, init=False)
    spans: list[Span] = field(default_factory=list, init=False)
    losses: list[Loss] = field(default_factory=list, init=False)

    def stage(self, name: str, kind: str) -> StageTrace:
        """A stage that begins."""
        trace = StageTrace(name, kind)
        self.stages.append(trace)
        return trace

    def span(self, name: str) -> Span:
        """A phase that begins: the place for whatever follows a request through its phases."""
        span = Span(name)
        self.spans.append(span)
        return span

    def degraded(self) -> list[str]:
        """Stages that were lost, or of whose answer something was."""
        return list(dict.fromkeys(trace.stage for trace in self.stages if trace.lost is not None))


@overload
def attempt(stage: Stage, kind: str, begin: Callable[[], Awaitable[T]], share: float, traces: Traces) -> Answer[T]: ...


@overload
def attempt(
    stage: Stage, kind: str, begin: Callable[[], T | Awaitable[T]], share: float, traces: Traces
) -> Answer[T]: ...


def attempt(stage: Stage, kind: str, begin: Callable[[], Any], share: float, traces: Traces) -> Answer[Any]:
    """The stage's answer within its share of the time; None when an optional one is lost. Raises Lost.

    `begin` is called immediately and gives the answer, or work to await. An answer that names its own missing part
    (`lost`, feedgen/stages.py) degrades the page and is used.
    """
    trace = traces.stage(stage.name, kind)
    try:
        with trace:
            work = begin()
    except Exception as error:
        _lose(stage, trace, error, traces)
        return None
    if hasattr(work, "__await__"):
        return _await(stage, trace, work, remaining() * share, traces)
    return _noted(trace, work)


async def _await(stage: Stage, trace: StageTrace, work: Awaitable[T], timeout: float, traces: Traces) -> T | None:
    try:
        with trace:
            async with asyncio.timeout(timeout):
                with context.serving(timeout):
                    return _noted(trace, await work)
    except TimeoutError:
        _lose(stage, trace, DeadlineExceeded(f"no answer within {timeout * 1000:.0f} ms"), traces)
    except Exception as error:
        _lose(stage, trace, error, traces)
    return None


def _lose(stage: Stage, trace: StageTrace, error: Exception, traces: Traces) -> None:
    """A stage was lost, to whatever: one that is not the mesh's own is logged with its traceback."""
    trace.lost = described(error, f"{stage.name} failed")
    traces.losses.append(Loss(stage.name, error))
    logger.warning("%s was lost: %s", stage.name, trace.lost)
    if stage.required:
        raise Lost(stage.name)


def _noted(trace: StageTrace, answer: T) -> T:
    trace.lost = getattr(answer, "lost", "") or None
    return answer


async def answered(answer: Answer[T]) -> T | None:
    """The outcome of an attempt."""
    if hasattr(answer, "__await__"):
        answer = await cast(Awaitable[T | None], answer)
    return answer


def remaining() -> float:
    """Seconds left of the request; one when it has no deadline."""
    request = context.current()
    return request.remaining() if request else 1.0
