"""The pins that the pages of a cursor have shown, exactly, for a feed that is about to end.

A cursor of many pins has only rough marks of them, which take some pins for shown that were not. As long as pages are
full that is no loss. Before a page comes up short, smartfeed is asked for the pages that it has from the log: its list is
taken when the cursor's digest recognises it. It can't be where pages were not logged, or where two pages were made from
one cursor; then the marks stand.
"""

import asyncio
from dataclasses import dataclass

from feedgen.query import Query
from feedgen.shown import Shown
from services.core import context
from services.core.errors import MeshError
from smartfeed.client import SmartfeedClient

PAUSE_S = 0.05  # the page before may not have reached the log yet, or smartfeed
SHARE = 0.5  # of what is left of the request's time


@dataclass(frozen=True, slots=True)
class Sessions:
    """Asks smartfeed."""

    smartfeed: SmartfeedClient

    async def exactly(self, query: Query) -> Shown | None:
        """The pins shown, with whole hashes; None when they are not known."""
        request = context.current()
        left = SHARE * (request.remaining() if request else 1.0)
        try:
            async with asyncio.timeout(left):
                while True:
                    pins = await self.smartfeed.shown(query.user, query.surface, left)
                    if len(pins) >= query.shown.count:
                        return query.shown.exactly(pins)
                    await asyncio.sleep(PAUSE_S)
        except (MeshError, TimeoutError):
            return None
