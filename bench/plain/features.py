"""The rows that the model scores: features by name, for one request."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.plain.rows import FACTS, Rows
from bench.plain.rules import ACTIONS, DAY_MS, HOUR_MS, MINUTE_MS, SMOOTHING, USER_WINDOWS_MIN

NAMES = ("impression", "closeup", "click", "save", "hide")
WINDOWS = ("1d", "7d", "90d", "ever")
USER_WINDOWS = ("10m", "1h", "1d")
KEPT = ("created_day", "pin_quality", "pin_interests", *(f"pin_{name}s_{w}" for name in NAMES for w in WINDOWS))


def of_user(affinities: Rows, recent: int, done: Rows, boards: int, seen: int, now_ms: int) -> dict[str, float]:
    """The same for every row. done: DONE[n], oldest first."""
    liked = affinities[affinities > 0]
    found = {
        "user_interests": float(len(liked)),
        "user_top_share": float(liked.max() / liked.sum()) if len(liked) else 0.0,
        "user_recent_pins": float(recent),
        "user_idle_days": (now_ms - int(done["at_ms"][-1])) / DAY_MS if len(done) else float("nan"),
        "user_followed_boards": float(boards),
        "user_seen": float(seen),
    }
    minutes = now_ms // MINUTE_MS - done["at_ms"] // MINUTE_MS
    for window, most in zip(USER_WINDOWS, USER_WINDOWS_MIN, strict=True):
        lately = done["action"][minutes < most]
        for name, action in zip(NAMES, ACTIONS, strict=True):
            found[f"user_{name}s_{window}"] = float(np.count_nonzero(lately == action))
    return found


def of_request(columns: Mapping[str, Rows], now_ms: int) -> dict[str, Rows]:
    """float32[n] of each. columns: origin, light, weight, found, nearness, at_ms."""
    origin, light, weight, at_ms = (columns[name] for name in ("origin", "light", "weight", "at_ms"))
    n = len(origin)
    below, rank, share = (np.zeros(n, np.float32) for _ in range(3))
    for kind in np.unique(origin).tolist():
        rows = np.flatnonzero(origin == kind)
        below[rows] = light[rows] - light[rows].max()
        rank[rows[np.argsort(-light[rows], kind="stable")]] = np.arange(len(rows)) / len(rows)
        share[rows] = weight[rows] / max(float(weight[rows].max()), 1e-30)
    return {
        "origin": origin.astype(np.float32),
        "light_below_best": below,
        "rank_in_source": rank,
        "source_weight": share,
        "sources_found": columns["found"].astype(np.float32),
        "nearness": np.log(columns["nearness"]),
        "saved_age_days": np.where(at_ms > 0, (now_ms - at_ms) / DAY_MS, np.nan).astype(np.float32),
        "hour": np.full(n, now_ms // HOUR_MS % 24, np.float32),
    }


def of_pins(facts: Rows, now_ms: int) -> dict[str, Rows]:
    """float32[n] of each: the columns that are kept, ages and rates."""
    kept = facts["kept"]
    found: dict[str, Rows] = dict(zip(KEPT, kept.T, strict=True))
    found["pin_age_days"] = np.maximum(np.float32(now_ms / DAY_MS) - found["created_day"], 0)
    for what, window in (("save", "7d"), ("save", "ever"), ("click", "ever"), ("hide", "ever")):
        did, shown = found[f"pin_{what}s_{window}"], found[f"pin_impressions_{window}"]
        found[f"pin_{what}_rate_{window}"] = did / (np.maximum(shown, did) + np.float32(SMOOTHING))
    return found


def of_both(interests: Rows, affinities: Rows, of_the_pins: Rows) -> dict[str, Rows]:
    """How the user's affinities meet each pin's interests. of_the_pins: uint64[n, 8], 0: none."""
    scale = float(np.abs(affinities).sum())
    if not len(interests) or scale <= 0:
        return {name: np.zeros(len(of_the_pins), np.float32) for name in _CROSSES}
    order = np.argsort(interests)
    known, relative = interests[order], affinities[order] / np.float32(scale)
    at = np.minimum(np.searchsorted(known, of_the_pins), len(known) - 1)
    has = of_the_pins > 0
    met = np.where(has & (known[at] == of_the_pins), relative[at].astype(np.float64), 0.0)
    total, liked = met.sum(axis=1), (met > 0).sum(axis=1) / np.maximum(has.sum(axis=1), 1)
    found = (total, np.maximum(met.max(axis=1), 0), np.minimum(met.min(axis=1), 0), liked)
    return {name: values.astype(np.float32) for name, values in zip(_CROSSES, found, strict=True)}


_CROSSES = ("affinity_sum", "affinity_max", "affinity_min", "affinity_share")


def matrix(names: list[str], asked: Mapping[str, Any], columns: Mapping[str, Rows], facts: Rows) -> Rows:
    """float32[n, f] in the model's order. asked: user, interests, affinities, now_ms of the request; facts: FACTS[n]."""
    assert facts.dtype == FACTS
    now_ms = asked["now_ms"]
    stated: dict[str, Any] = {
        **asked["user"],
        **of_request(columns, now_ms),
        **of_pins(facts, now_ms),
        **of_both(asked["interests"], asked["affinities"], facts["interests"]),
    }
    rows = np.empty((len(facts), len(names)), np.float32)
    for i, name in enumerate(names):
        rows[:, i] = stated[name]
    return rows
