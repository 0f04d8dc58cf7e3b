"""What a stage of a pipeline may do. The kinds are structural: a filter returns a mask, a scorer returns columns.

An answer's `lost` says what of it is missing although the stage did not fail; the page then names the stage as degraded.
A stage that asks nobody answers at once, and not through a task that waits for nothing.
"""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from feedgen.candidates import Candidates
from feedgen.page import Page, Ranking
from feedgen.query import Query
from services.core.columns import U8, U64, Array


class Stage(Protocol):
    """name: as `degraded` and the X-ray have it. required: whether the feed falls back when the stage is lost."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def required(self) -> bool:
        """Whether a page can't be made without it."""
        ...


@dataclass(frozen=True, slots=True)
class Known:
    """What a query stage found out: values of fields of the query, by name."""

    values: Mapping[str, Any]
    lost: str = ""


class QueryStage(Stage, Protocol):
    """Finds out something about the user, concurrently with the others."""

    async def ask(self, query: Query) -> Known:
        """What it found out."""
        ...


@dataclass(frozen=True, slots=True)
class Dropped:
    """Pins that a source left out at the leaf: reason[i] is an index into reasons. For the X-ray."""

    pins: U64
    boards: U64
    reason: U8
    reasons: Mapping[int, str]
    seen_reason: int

    def seen(self) -> Array:
        """bool[n]: which of them the bloom filter of what was seen rejected."""
        return np.asarray(self.reason == self.seen_reason)


@dataclass(frozen=True, slots=True)
class Found:
    """What a source found; `dropped` when the query explains itself; told: parts of the X-ray, by name."""

    candidates: Candidates
    dropped: Dropped | None = None
    told: Mapping[str, Any] = field(default_factory=dict)
    lost: str = ""


class Words(NamedTuple):
    """The names of what led to a pin, empty where not known. direct: nobody stands between the reader and the board."""

    board: str
    owner: str
    direct: bool
    interest: str
    seed: str


class Source(Stage, Protocol):
    """Finds candidates, concurrently with the others."""

    def find(self, query: Query, source: int) -> Found | Awaitable[Found]:
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


@dataclass(frozen=True, slots=True)
class Fallen:
    """A list that was good once: pins and their boards in order; removed: what the user last saved or hid."""

    pins: U64
    boards: U64
    removed: U64


class Fallback(Stage, Protocol):
    """Gives a page when none can be made."""

    async def last(self, query: Query) -> Fallen:
        """The last good list."""
        ...


class Resort(Stage, Protocol):
    """Gives pins that are good for anybody, when there is not even a list that was good once."""

    def follows(self, query: Query) -> bool:
        """Whether they may come after the end of a list that was made for this reader."""
        ...

    def at_hand(self, query: Query) -> Candidates | Awaitable[Candidates]:
        """What is in memory, whatever its age; or else what can still be asked for."""
        ...


class Afterwards(Protocol):
    """Told of every page after it was made; never waited for."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    async def tell(self, query: Query, page: Page) -> None:
        """A page was served."""
        ...
