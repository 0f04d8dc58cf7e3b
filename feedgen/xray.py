"""The X-ray of a request: what each stage did and how long it took, and for each pin where it came from, its scores,
and what dropped it. Costs next to nothing unless asked to explain.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from feedgen.candidates import Candidates
from feedgen.stages import Dropped
from services.columns import Array

MAX_PINS = 500  # dropped pins told of


@dataclass(slots=True)
class StageTrace:
    """One stage of one request."""

    stage: str
    kind: str
    took_ms: float = 0.0
    kept: int | None = None
    dropped: int | None = None
    lost: str | None = None


@dataclass(slots=True)
class Xray:
    """Of one request. explain: whether pins are traced too."""

    explain: bool
    stages: list[StageTrace] = field(default_factory=list)
    pins: dict[str, dict[str, Any]] = field(default_factory=dict)
    query: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, kind: str) -> Iterator[StageTrace]:
        """Time a stage."""
        trace, started = StageTrace(name, kind), time.perf_counter()
        self.stages.append(trace)
        try:
            yield trace
        finally:
            trace.took_ms = (time.perf_counter() - started) * 1000

    def degraded(self) -> list[str]:
        """Stages that were lost."""
        return [trace.stage for trace in self.stages if trace.lost is not None]

    def leaf_drops(self, source: str, dropped: Dropped) -> None:
        """What a leaf left out."""
        if self.explain:
            rows = zip(dropped.pins.tolist(), dropped.boards.tolist(), dropped.reason.tolist(), strict=True)
            for pin, board, reason in rows:
                self._drop(pin, board, source, dropped.reasons.get(reason, f"reason {reason}"))

    def filtered(self, stage: str, candidates: Candidates, keep: Array) -> None:
        """What a filter dropped."""
        if self.explain:
            for row in np.flatnonzero(~keep).tolist():
                self._drop(int(candidates.pin[row]), int(candidates.board[row]), stage, "dropped by this filter")

    def ranked(self, candidates: Candidates, sources: list[str], chosen: Array) -> None:
        """Every candidate that was ranked, and whether the slate chose it."""
        if not self.explain:
            return
        on_page = set(chosen.tolist())
        for row in np.argsort(-candidates.column("score"), kind="stable")[:MAX_PINS].tolist():
            self.pins[str(candidates.pin[row])] = {
                "sources": [self._source(candidates, row, sources)],
                "scores": self._scores(candidates, row),
                "features": self._features(candidates, row),
                "dropped": None if row in on_page else {"stage": "slate", "reason": "not on this page"},
            }

    def _source(self, candidates: Candidates, row: int, sources: list[str]) -> dict[str, Any]:
        source = sources[int(candidates.source[row])]
        return {"source": source, "board": str(candidates.board[row]), "score": float(candidates.light[row])}

    def _scores(self, candidates: Candidates, row: int) -> dict[str, float]:
        return {"light": float(candidates.light[row]), "final": float(candidates.column("score")[row])}

    def _features(self, candidates: Candidates, row: int) -> dict[str, float | None]:
        age_days = (time.time() * 1000 - float(candidates.at_ms[row])) / 86_400_000
        quality = float(candidates.quality[row])
        return {"quality": None if np.isnan(quality) else quality, "age_days": round(age_days, 3)}

    def _drop(self, pin: int, board: int, stage: str, reason: str) -> None:
        if len(self.pins) < 2 * MAX_PINS:
            source = {"source": stage, "board": str(board)}
            gone = {"sources": [source], "scores": {}, "features": {}, "dropped": {"stage": stage, "reason": reason}}
            self.pins.setdefault(str(pin), gone)
