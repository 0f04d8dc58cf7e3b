"""A feed request, and what the query stages found out about its user. A lost optional stage leaves what stands here."""

from dataclasses import dataclass, field

import numpy as np

from services.columns import F32, U64
from services.events import Surface

#: Every feed there is to be; those without a pipeline answer UNIMPLEMENTED.
NAMES = {
    "following": Surface.FOLLOWING,
    "interest": Surface.INTEREST,
    "picked": Surface.PICKED,
    "home": Surface.HOME,
}

NO_IDS = np.empty(0, np.uint64)


@dataclass(frozen=True, slots=True)
class FollowedBoards:
    """n boards with their weights; owner: the followed user through whom, 0 when followed directly."""

    boards: U64
    weights: F32
    owners: U64


@dataclass(frozen=True, slots=True)
class Seen:
    """The pins the user has met: as a bloom filter for the leaves, and exactly, ascending."""

    filter: bytes
    pins: U64


@dataclass(slots=True)
class Query:
    """One request for one page."""

    user: int
    surface: Surface
    limit: int
    now_ms: int
    request_id: str
    explain: bool = False
    shown: U64 = field(default_factory=lambda: NO_IDS)  # on the pages before this one, ascending
    audit_filter: bool = False  # also ask the leaves what the filter rejected, to count its false positives

    followed: FollowedBoards = field(default_factory=lambda: FollowedBoards(NO_IDS, np.empty(0, np.float32), NO_IDS))
    seen: Seen = field(default_factory=lambda: Seen(b"", NO_IDS))
