"""How sources ask polaris for the best unseen pins of some boards or interests."""

from dataclasses import dataclass

import numpy as np

from feedgen.query import Query
from feedgen.stages import Dropped
from polaris.client import BOARD, DROP_REASONS, SEEN, PolarisClient, Retrieved
from services.core.columns import F32, U64

HOUR_MS = 3_600_000
SPREAD = 4  # a place may bring so many times its equal part of the candidates


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Of the best `k` that were not on the pages before. max_age_ms: 0 for any age. spread: no place brings them all."""

    polaris: PolarisClient
    k: int
    max_age_ms: int
    timeout: float
    spread: bool = True

    async def ask(self, query: Query, kind: int, places: U64, weights: F32) -> tuple[Retrieved, Dropped | None]:
        """The pins found, best first, and the pins left out. kind: BOARD or INTEREST of polaris; weights: > 0."""
        k, explain = self.k + query.shown.count, query.explain or query.audit_filter
        found = await self._retrieve(query.now_ms, kind, places, weights, k, query.seen.filter, explain)
        return found, _dropped(query, kind, places, found)

    async def of_anybody(self, now_ms: int, kind: int, places: U64, weights: F32, k: int) -> Retrieved:
        """The best `k` pins of the lists, for a user who has met none."""
        return await self._retrieve(now_ms, kind, places, weights, k, b"", False)

    def per_place(self, k: int, places: int) -> int:
        """How many of the best k one of so many places may bring; 0: any number."""
        return -(-SPREAD * k // max(places, 1)) if self.spread else 0

    async def _retrieve(
        self, now_ms: int, kind: int, places: U64, weights: F32, k: int, seen: bytes, explain: bool
    ) -> Retrieved:
        return await self.polaris.retrieve(
            np.full(len(places), kind, np.uint8),
            places,
            weights,
            seen=seen,
            k=k,
            per_source=self.per_place(k, len(places)),
            now_ms=_end_of_hour(now_ms),
            max_age_ms=self.max_age_ms,
            explain=explain,
            timeout=self.timeout,
        )


def _end_of_hour(now_ms: int) -> int:
    """The moment that ages count from: within an hour the same scores, to the last bit of their rounding to float32."""
    return -(-now_ms // HOUR_MS) * HOUR_MS


def _dropped(query: Query, kind: int, places: U64, found: Retrieved) -> Dropped | None:
    if not (query.explain or query.audit_filter):
        return None
    boards = places if kind == BOARD else np.zeros(len(places), np.uint64)
    return Dropped(found.dropped_pins, boards[found.dropped_source], found.dropped_reason, DROP_REASONS, SEEN)
