"""The protocols of a pipeline's stages. The kinds are structural: a filter returns a mask, scorers and hydrators columns.

An answer's `lost` says what of it is missing although the stage did not fail; the page then names the stage as degraded.
A stage that asks no service answers immediately, and not through a task that waits for nothing. Any stage may also be
`Conditional`.
"""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from feedgen.attempt import Stage
from feedgen.candidates import Candidates
from feedgen.page import Page, Ranking
from feedgen.query import Query
from services.core.columns import U8, U64, Array

S = TypeVar("S")


class Conditional(Protocol):
    """A stage that some requests do without."""

    def enabled(self, query: Query) -> bool:
        """Whether it is asked for this request; the stage is neither traced nor lost when it is not."""
        ...


def enabled(stages: Sequence[S], query: Query) -> list[S]:
    """Those of the stages that this request is asked of."""
    return [stage for stage in stages if is_enabled(stage, query)]


def is_enabled(stage: object, query: Query) -> bool:
    """Whether this stage is asked; one that is not `Conditional` always is."""
    condition = getattr(stage, "enabled", None)
    return condition is None or condition(query)


@dataclass(frozen=True, slots=True)
class QueryFindings:
    """The findings of a query stage: values of fields of the query, by name."""

    values: Mapping[str, Any]
    lost: str = ""


class QueryStage(Stage, Protocol):
    """Finds out something about the user, concurrently with the others."""

    async def ask(self, query: Query) -> QueryFindings:
        """Its findings."""
        ...


@dataclass(frozen=True, slots=True)
class Dropped:
    """Pins that polaris left out of a source: reason[i] is an index into reasons. For the X-ray."""

    pins: U64
    boards: U64
    reason: U8
    reasons: Mapping[int, str]
    seen_reason: int

    def seen(self) -> Array:
        """bool[n]: which of them the bloom filter of what was seen rejected."""
        return np.asarray(self.reason == self.seen_reason)


@dataclass(frozen=True, slots=True)
class SourceFindings:
    """The candidates of a source; `dropped` when the query explains itself; explained: parts of the X-ray, by name."""

    candidates: Candidates
    dropped: Dropped | None = None
    explained: Mapping[str, Any] = field(default_factory=dict)
    lost: str = ""


class Words(NamedTuple):
    """The names of what led to a pin, empty where not known. direct: the reader follows the board itself."""

    board: str
    owner: str
    direct: bool
    interest: str
    seed: str


class CandidateSource(Stage, Protocol):
    """Finds candidates, concurrently with the others."""

    def find(self, query: Query, source: int) -> SourceFindings | Awaitable[SourceFindings]:
        """Candidates whose source column is `source`."""
        ...

    def reason(self, words: Words) -> str:
        """Why a pin of this source is here, in a line for the reader."""
        ...


class Filter(Stage, Protocol):
    """Says which candidates stay."""

    def keep(self, query: Query, candidates: Candidates) -> Array:
        """bool[n]."""
        ...


@dataclass(frozen=True, slots=True)
class Scores:
    """New columns of length n, by name; the slate ranks by `score`. ranking: what they come from, when that changed."""

    columns: Mapping[str, Array]
    ranking: Ranking | None = None
    lost: str = ""


class Scorer(Stage, Protocol):
    """Says how good candidates are, or adds what a later scorer or the slate needs."""

    def columns(self, query: Query, candidates: Candidates) -> Scores | Awaitable[Scores]:
        """New columns."""
        ...


class PostFilter(Filter, Protocol):
    """A filter of hydrated rows: the findings of hydration may keep a pin off the page. A filter of what scorers find
    out may be one too: it judges the newest column that there is.
    """

    @property
    def reason(self) -> str:
        """Why a pin is dropped, for the X-ray."""
        ...


@dataclass(frozen=True, slots=True)
class Hydrated:
    """New columns of length n, by name: texts for readers (object[n]), or what post-filters judge by (bool[n])."""

    columns: Mapping[str, Array]
    lost: str = ""


class Hydrator(Stage, Protocol):
    """Fills in what a reader sees, or what post-filters must know."""

    def hydrate(self, query: Query, rows: Candidates) -> Hydrated | Awaitable[Hydrated]:
        """New columns of these rows; those of hydrators before it are there."""
        ...


class Afterwards(Protocol):
    """Gets every page after it was made; no reader waits for it."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    async def report(self, query: Query, page: Page) -> None:
        """A page was served."""
        ...
