"""The pins nearest to what the user engaged with: the same random walks as to boards, with the pins on the way counted."""

from dataclasses import dataclass

import numpy as np

from features.pins import first_interests
from features.requests import Origin
from feedgen.candidates import EMPTY, Candidates
from feedgen.query import Query
from feedgen.stages import Found, Words
from pixie.client import PINS, PixieClient
from rockstore.client import PIN, RockstoreClient
from services.columns import among

MOST = 10_000  # that pixie answers


@dataclass(frozen=True, slots=True)
class WalkedPins:
    """Asks pixie for the k nearest pins that the user has not met in so many steps, and rockstore what they are.

    A visit counts 1 / degree ** `discount`, so that what everybody saves is not near everything. The light score is the
    logarithm of the share of the best one's score. The graph is as old as its snapshot: pins taken down since are left out.
    """

    pixie: PixieClient
    rockstore: RockstoreClient
    k: int
    steps: int
    discount: float
    timeout: float
    name: str = "walked_pins"
    required: bool = False

    async def find(self, query: Query, source: int) -> Found:
        """Candidates that the walks passed; seed: the pin whose walk visited each most."""
        recent = query.recent
        if not len(recent.pins):
            return Found(EMPTY)
        met = len(query.seen.pins) + len(query.shown)
        walk = await self.pixie.recommend(
            recent.pins,
            recent.weights,
            want=PINS,
            k=min(MOST, self.k + met),
            steps=self.steps,
            discount=self.discount,
            seed=query.user,  # the same page for the same state
            timeout=self.timeout,
        )
        new = (walk.scores > 0) & ~(among(walk.ids, query.seen.pins) | among(walk.ids, query.shown))
        rows = np.flatnonzero(new)[: self.k]
        if not len(rows):
            return Found(EMPTY)
        known = await self.rockstore.attributes(PIN, walk.ids[rows], self.timeout, bare=True)
        up = ~known.taken_down
        rows, interests = rows[up], first_interests(known.interests)[up, 0]
        weights = np.maximum(walk.scores[rows] / walk.scores.max(), np.finfo(np.float32).tiny)
        candidates = Candidates.of(
            walk.ids[rows],
            interest=interests,
            seed=recent.pins[walk.seeds[rows]],
            source=source,
            origin=Origin.WALKED,
            weight=weights,
            light=np.log(weights),
            quality=known.quality[up],
        )
        return Found(candidates)

    def reason(self, words: Words) -> str:
        """Why a pin is here."""
        return f"because you liked {words.seed or 'a pin near it'}"
