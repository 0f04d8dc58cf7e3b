"""A feed request, and the findings of the query stages about its user. A lost optional stage leaves these defaults."""

from dataclasses import dataclass, field

import numpy as np

from feedgen.losers import Losers
from feedgen.shown import NOTHING, Shown
from pixie.client import NOWHERE, Recommended
from services.core.columns import F32, U32, U64
from services.core.errors import DeadlineExceeded, MeshError
from services.core.events import Surface

NO_IDS = np.empty(0, np.uint64)
NO_WEIGHTS = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class QueryBoards:
    """n boards with their weights; owner: the followed user through whom, 0 when followed directly."""

    boards: U64
    weights: F32
    owners: U64


@dataclass(frozen=True, slots=True)
class SeenFilter:
    """The pins the user has met: as a bloom filter for polaris, and exactly, ascending."""

    filter: bytes
    pins: U64


@dataclass(frozen=True, slots=True)
class Recent:
    """The user's interests right now, as realpin has them.

    pins, weights: recently engaged and not hidden, greatest weight first; interests, affinities: of either sign,
    greatest first; counts: uint32[windows, engagements], [0, 0] when not known; newest_ms: the newest action, 0: none.
    """

    pins: U64
    weights: F32
    interests: U64
    affinities: F32
    counts: U32
    newest_ms: int


@dataclass(frozen=True, slots=True)
class Walked:
    """The places that random walks from the recent pins reached: boards, and the pins on the way. lost: why there was no walk."""

    boards: Recommended = NOWHERE
    pins: Recommended = NOWHERE
    lost: MeshError | None = None

    def check(self) -> None:
        """Raise the error that they were lost to, if they were."""
        if self.lost is not None:
            raise type(self.lost)(str(self.lost))


NOT_KNOWN = Recent(NO_IDS, NO_WEIGHTS, NO_IDS, NO_WEIGHTS, np.empty((0, 0), np.uint32), 0)


@dataclass(slots=True)
class Query:
    """One request for one page."""

    user: int
    surface: Surface
    limit: int
    now_ms: int  # the moment of the request, and the one that ages and windows count from
    request_id: str
    explain: bool = False
    shown: Shown = NOTHING  # on the pages before this one
    losers: Losers | None = None  # notes the candidates that lose, of some pages

    audit_filter: bool = False  # also ask polaris which pins the filter rejected, to count its false positives

    followed: QueryBoards = field(default_factory=lambda: QueryBoards(NO_IDS, NO_WEIGHTS, NO_IDS))
    followed_interests: U64 = field(default_factory=lambda: NO_IDS)
    recent: Recent = NOT_KNOWN
    walked: Walked = Walked(lost=DeadlineExceeded("no walk was answered in its time"))
    seen: SeenFilter = field(default_factory=lambda: SeenFilter(b"", NO_IDS))
