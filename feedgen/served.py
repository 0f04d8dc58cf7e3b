"""Afterwards: tells the log what was served, for the fallback now and for training later."""

import hashlib
from dataclasses import dataclass

import numpy as np

from feedgen.query import Query
from roadrunner.client import RoadrunnerClient
from services.columns import U64, Array
from services.events import Action, events


@dataclass(frozen=True, slots=True)
class Served:
    """Publishes one SERVED event a pin; its id follows from the request's, so a retry is no second serving."""

    roadrunner: RoadrunnerClient
    timeout: float
    name: str = "served"

    async def tell(self, query: Query, pins: U64, boards: U64, scores: Array) -> None:
        """A page was served."""
        n = len(pins)
        if not n:
            return
        first = int.from_bytes(hashlib.blake2b(query.request_id.encode(), digest_size=8).digest(), "little") | 1
        batch = events(
            n,
            user=query.user,
            action=Action.SERVED,
            pin=pins,
            board=boards,
            at_ms=query.now_ms,
            surface=query.surface,
            id=(np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) ^ np.uint64(first),
            position=len(query.shown) + np.arange(n),
        )
        await self.roadrunner.publish(batch, self.timeout)
