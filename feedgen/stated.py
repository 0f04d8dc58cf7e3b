"""The features of a request that feedgen sends to a model: the user's and those of each candidate, as features/ has them.

The ranker sends this to scorpion, and training computes it for moments of the past, so that both mean the same.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from features import requests, users
from feedgen.candidates import Candidates
from feedgen.query import Query
from services.core.columns import F32, U64


class RequestFeatures(NamedTuple):
    """user: values by name; interests, affinities: the user's; request: float32[n] by name."""

    user: Mapping[str, float]
    interests: U64
    affinities: F32
    request: Mapping[str, F32]


def stated(query: Query, candidates: Candidates) -> RequestFeatures:
    """Of these candidates, which `Candidates.counted` has been through."""
    recent = query.recent
    user = users.row(
        affinities=recent.affinities,
        recent_pins=len(recent.pins),
        counts=recent.counts,
        newest_ms=recent.newest_ms,
        followed_boards=len(query.followed.boards),
        seen=len(query.seen.pins),
        now_ms=query.now_ms,
    )
    request = requests.columns(
        origin=candidates.origin,
        light=candidates.light,
        weight=candidates.weight,
        found=np.bitwise_count(candidates.column("found_by")),
        nearness=candidates.column("nearness"),
        at_ms=candidates.at_ms,
        now_ms=query.now_ms,
    )
    return RequestFeatures(user, recent.interests, recent.affinities, request)
