"""The X-ray of a request: the work of each stage and how long it took, and for each pin where it came from, its scores,
and what dropped it. Costs next to nothing unless asked to explain. Its shape is in docs/feed.md.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import msgspec
import numpy as np

from features.users import WINDOW_NAMES
from feedgen.attempt import Loss, Traces
from feedgen.candidates import EMPTY, Candidates
from feedgen.page import Ranking
from feedgen.query import Query
from feedgen.slate import WHY, Chosen
from feedgen.stages import Dropped, SourceFindings
from services.core.clock import DAY_MS
from services.core.columns import Array
from services.core.events import ENGAGEMENTS

MAX_PINS = 500  # ranked pins in it, and as many dropped ones
DIGITS = 7  # the precision of float32


@dataclass(slots=True)
class Xray(Traces):
    """Of one request. explain: whether pins are traced too."""

    explain: bool
    pins: dict[str, dict[str, Any]] = field(default_factory=dict)
    query: dict[str, float] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=lambda: {"interests": [], "walk": None, "ranking": None, "blend": []})
    _merged: Candidates = EMPTY

    def failed(self, error: Exception, why: str) -> None:
        """Something raised an error that is no loss of a stage: the stage that had begun last is named."""
        trace = next((trace for trace in reversed(self.stages) if trace.lost is None), None) or self.stage(
            "page", "page"
        )
        trace.lost = why
        self.losses.append(Loss(trace.stage, error))

    def replaced(self, stage: str, pins: Array, reason: str) -> None:
        """Pins (uint64[m]) that a post-filter dropped, so that the reserve took their places."""
        if self.explain:
            for pin in pins.tolist():
                gone: dict[str, Any] = {"sources": [], "scores": {}, "features": {}}
                self.pins[str(pin)] = {**self.pins.get(str(pin), gone), "slot": None} | {
                    "dropped": {"stage": stage, "reason": reason}
                }

    def untitled(self) -> list[dict[str, Any]]:
        """The parts about pins and interests, to be given titles."""
        walk = self.parts["walk"]
        return [*self.parts["interests"], *(walk["seeds"] if walk else [])]

    def asked(self, query: Query) -> None:
        """The findings of the query stages."""
        owners, recent = query.followed.owners, query.recent
        self.query |= {
            "followed_boards": len(query.followed.boards),
            "followed_users": len(np.unique(owners[owners > 0])),
            "followed_interests": len(query.followed_interests),
            "seen": len(query.seen.pins),
            "shown_before": query.shown.count,
            "recent_pins": len(recent.pins),
            "affinities": len(recent.interests),
        }
        if recent.newest_ms:
            self.query["idle_days"] = round((query.now_ms - recent.newest_ms) / DAY_MS, 3)
        if recent.counts.shape == (len(WINDOW_NAMES), len(ENGAGEMENTS)):
            for window, counts in zip(WINDOW_NAMES, recent.counts.tolist(), strict=True):
                for action, count in zip(ENGAGEMENTS, counts, strict=True):
                    self.query[f"{action.name.lower()}s_{window}"] = count

    def found(self, stage: str, found: SourceFindings) -> None:
        """The candidates of a source, and the pins that polaris left out of them."""
        for trace in self.stages:
            if trace.stage == stage:
                trace.kept = len(found.candidates)
        if self.explain:
            self.parts |= found.explained
            if found.dropped is not None:
                self._leaf_drops(stage, found.dropped)

    def _leaf_drops(self, source: str, dropped: Dropped) -> None:
        rows = zip(dropped.pins.tolist(), dropped.boards.tolist(), dropped.reason.tolist(), strict=True)
        for pin, board, reason in rows:
            self._drop(pin, board, source, dropped.reasons.get(reason, f"reason {reason}"))

    def merged(self, candidates: Candidates) -> None:
        """The candidates of all sources, before any filter."""
        self._merged = candidates

    def filtered(self, stage: str, candidates: Candidates, keep: Array) -> None:
        """The rows that a filter dropped."""
        if self.explain:
            for row in np.flatnonzero(~keep).tolist():
                self._drop(int(candidates.pin[row]), int(candidates.board[row]), stage, "dropped by this filter")

    def _drop(self, pin: int, board: int, stage: str, reason: str) -> None:
        if len(self.pins) < 2 * MAX_PINS:
            source = {"source": stage, "board": str(board)}
            why = {"stage": stage, "reason": reason}
            gone = {"sources": [source], "scores": {}, "features": {}, "slot": None, "dropped": why}
            self.pins.setdefault(str(pin), gone)

    def ranked(
        self,
        query: Query,
        candidates: Candidates,
        ranking: Ranking,
        sources: Sequence[str],
        rates: Sequence[float],
        chosen: Chosen,
    ) -> None:
        """Every candidate that was ranked, and whether the slate chose it."""
        if not self.explain:
            return
        self.parts["ranking"] = {
            "model": ranking.model,
            "fingerprint": f"{ranking.fingerprint:016x}",
            "features": len(ranking.features),
            "cache_hits": ranking.hits,
            "cache_misses": ranking.misses,
            "lost": list(ranking.lost),
        }
        self.parts["blend"] = _blend(self._merged, sources, rates, chosen)
        slots = {
            row: {"position": i, "source": sources[slot], "why": WHY[why]}
            for i, (row, slot, why) in enumerate(
                zip(chosen.rows.tolist(), chosen.slots.tolist(), chosen.why.tolist(), strict=True)
            )
        }
        best = np.argsort(-candidates.column("score"), kind="stable")[:MAX_PINS].tolist()
        rays = _Rays(query, candidates, ranking, sources, self._merged)
        for row in dict.fromkeys([*slots, *best]):
            slot = slots.get(row)
            gone = None if slot else {"stage": "slate", "reason": "not on this page"}
            self.pins[str(candidates.pin[row])] = {**rays.of(row), "slot": slot, "dropped": gone}

    def encoded(self) -> bytes:
        """As JSON."""
        parts = {"query": self.query, **self.parts, "phases": self.spans, "stages": self.stages, "pins": self.pins}
        return msgspec.json.encode(parts)


def _blend(merged: Candidates, sources: Sequence[str], rates: Sequence[float], chosen: Chosen) -> list[dict[str, Any]]:
    found, filled = Counter(merged.source.tolist()), Counter(chosen.slots.tolist())
    return [
        {"source": name, "rate": rates[i] if i < len(rates) else 0, "found": found[i], "slots": filled[i]}
        for i, name in enumerate(sources)
    ]


class _Rays:
    """The explanation of one candidate after the other."""

    def __init__(
        self, query: Query, candidates: Candidates, ranking: Ranking, sources: Sequence[str], merged: Candidates
    ) -> None:
        self._query, self._candidates, self._ranking, self._sources = query, candidates, ranking, sources
        self._merged, self._by_pin = merged, np.argsort(merged.pin, kind="stable")
        self._sorted = merged.pin[self._by_pin]
        self._affinities = dict(zip(query.recent.interests.tolist(), query.recent.affinities.tolist(), strict=True))

    def of(self, row: int) -> dict[str, Any]:
        """Sources, scores and features of a row."""
        pin = self._candidates.pin[row]
        first, last = (int(np.searchsorted(self._sorted, pin, side)) for side in ("left", "right"))
        return {
            "sources": [self._source(at) for at in self._by_pin[first:last].tolist()],
            "scores": self._scores(row),
            "features": self._features(row),
        }

    def _source(self, at: int) -> dict[str, Any]:
        of = self._merged
        return {
            "source": self._sources[int(of.source[at])],
            "board": str(of.board[at]),
            "score": _rounded(of.light[at]),
            "weight": _rounded(of.weight[at]),
            "seed": str(of.seed[at]),
            "interest": str(of.interest[at]),
        }

    def _scores(self, row: int) -> dict[str, float | None]:
        of = self._candidates
        return {
            "light": _rounded(of.light[row]),
            "weight": _rounded(of.weight[row]),
            "affinity": self._affinities.get(int(of.column("interest")[row])),
            "final": _rounded(of.column("score")[row]),
        }

    def _features(self, row: int) -> dict[str, float | None]:
        of = self._candidates
        age_days = (self._query.now_ms - float(of.at_ms[row])) / DAY_MS if of.at_ms[row] else None
        features = {
            "quality": _rounded(of.quality[row]),
            "age_days": None if age_days is None else round(age_days, 3),
        }
        if self._ranking.features:
            values = of.column("features")[row].tolist()
            features |= dict(zip(self._ranking.features, map(_rounded, values), strict=True))
        return features


def _rounded(value: Any) -> float | None:
    """As JSON has it: no NaN, no digits that a float32 does not hold."""
    number = float(value)
    return float(f"{number:.{DIGITS}g}") if isfinite(number) else None
