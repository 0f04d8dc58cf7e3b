"""Afterwards: tells the log what was served, for the fallback now and for training later."""

import hashlib
from dataclasses import dataclass

import numpy as np

from feedgen.page import Page
from feedgen.query import Query
from roadrunner.client import RoadrunnerClient
from services.columns import Ragged
from services.events import Action, events


@dataclass(frozen=True, slots=True)
class Served:
    """Publishes one SERVED event a pin, with its score, the model's fingerprint and what the model saw of it; its id
    follows from the request's, so a retry is no second serving.
    """

    roadrunner: RoadrunnerClient
    timeout: float
    name: str = "served"

    async def tell(self, query: Query, page: Page) -> None:
        """A page was served."""
        n = len(page.rows)
        if not n:
            return
        first = int.from_bytes(hashlib.blake2b(query.request_id.encode(), digest_size=8).digest(), "little") | 1
        batch = events(
            n,
            user=query.user,
            action=Action.SERVED,
            pin=page.rows.pin,
            board=page.rows.board,
            at_ms=query.now_ms,
            surface=query.surface,
            id=(np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) ^ np.uint64(first),
            position=len(query.shown) + np.arange(n),
            score=page.scores,
            model=page.ranking.fingerprint,
            features=_features(page),
        )
        await self.roadrunner.publish(batch, self.timeout)


def _features(page: Page) -> Ragged | None:
    if not page.ranking.features:
        return None
    seen = page.rows.column("features")
    n, width = seen.shape
    return Ragged(np.arange(1, n + 1, dtype=np.uint32) * np.uint32(width), seen.ravel())
