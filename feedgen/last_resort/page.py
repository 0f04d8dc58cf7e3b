"""The page when none can be made: the newest pins that the user was served, as smartfeed kept them; or popular pins.

Feedgen's pipelines end here when a required stage is lost, and the edge when feedgen itself is away. So it is whole in
itself, hydrates its own pins, and knows no stage, no candidates and no kernel.
"""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np

from feedgen.attempt import SHARES, Traces, answered, attempt, remaining
from feedgen.last_resort.popular import Popular, PopularList
from feedgen.shown import Shown
from feedgen.titles import OWN, TAKEN_DOWN, UNDESCRIBED, Columns, Titles, objects
from services.core import context
from services.core.columns import U64, Array, among
from services.core.events import Surface
from smartfeed.client import LastServed, SmartfeedClient

NO_IDS = np.empty(0, np.uint64)


class Named(NamedTuple):
    """A stage of the last resort. None is required: after the last one the page is empty."""

    name: str
    required: bool = False


LAST_GOOD, POPULAR_PINS, TITLES, VISIBILITY = map(Named, ("last_good", "popular_pins", "titles", "visibility"))
#: Why a pin is here, by the stage that gave the page.
REASONS = {LAST_GOOD: "from your last feed", POPULAR_PINS: "popular with everybody"}


class PageRequest(Protocol):
    """A request for a page, as a `feedgen.query.Query` is one."""

    @property
    def user(self) -> int:
        """The reader."""
        ...

    @property
    def surface(self) -> Surface:
        """Which feed."""
        ...

    @property
    def limit(self) -> int:
        """Pins of a page."""
        ...

    @property
    def now_ms(self) -> int:
        """The moment of the request."""
        ...

    @property
    def shown(self) -> Shown:
        """On the pages before this one."""
        ...


@dataclass(frozen=True, slots=True)
class Fallen:
    """A page of n pins in its order, each of a board (0: none). stage: the one that gave it; columns: as `feedgen.titles` has
    them, and `reason`.
    """

    stage: str
    pins: U64
    boards: U64
    columns: Columns = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LastResort:
    """Asks smartfeed, and rockstore for titles. popular: as it was last asked for, by whichever page; own: whether users
    are shown the pins that they made; None: not known here, so that those of the last good list may be shown.
    """

    smartfeed: SmartfeedClient
    popular: PopularList
    titles: Titles
    timeout: float
    own: bool | None = None

    async def page(self, asked: PageRequest, met: U64, traces: Traces) -> Fallen:
        """The last good list, less the pins that this cursor has shown. A reader who has none, or has read it to its end, gets
        popular pins; but *following* then ends, as it has pins only of users whom the reader follows.

        met: uint64[m], ascending, pins that the user has met, as far as known. It does not wait for the request's token:
        the stage that was lost may have been waiting for it already.
        """
        with context.serving(remaining(), token=b""), traces.span("fallback"):
            last = await answered(
                attempt(LAST_GOOD, "fallback", partial(self._last_served, asked), SHARES.fallback, traces)
            )
            if last is not None:
                left = np.flatnonzero(~asked.shown.among(last.pins))
                traces.stages[-1].kept = min(len(left), asked.limit)
                page = await self._titled(LAST_GOOD, last.pins[left], last.boards[left], asked, traces)
                if len(page.pins) or (len(last.pins) and asked.surface == Surface.FOLLOWING):
                    return page
            begin = partial(self._popular_pins, asked, met)
            found = await answered(attempt(POPULAR_PINS, "fallback", begin, SHARES.fallback, traces))
            if found is None:
                return Fallen(POPULAR_PINS.name, NO_IDS, NO_IDS)
            left = np.flatnonzero(~among(found, np.sort(last.removed) if last is not None else NO_IDS))
            return await self._titled(POPULAR_PINS, found[left], np.zeros(len(left), np.uint64), asked, traces)

    async def _last_served(self, asked: PageRequest) -> LastServed:
        return await self.smartfeed.last_served(asked.user, asked.surface, self.timeout)

    def _popular_pins(self, asked: PageRequest, met: U64) -> U64 | Awaitable[U64]:
        """The answer in memory, whatever its age; or else one that can still be asked for."""
        known = self.popular.cache.latest
        return self._ask_popular(asked, met) if known is None else self._unmet(asked, met, known)

    async def _ask_popular(self, asked: PageRequest, met: U64) -> U64:
        return self._unmet(asked, met, await self.popular.ask(asked.now_ms))

    def _unmet(self, asked: PageRequest, met: U64, popular: Popular) -> U64:
        """The pins of these that the user has not met. For now and then: a source has a kernel for it."""
        new = ~(among(popular.pins, met) | asked.shown.among(popular.pins))
        if not self.own:
            new &= popular.creators != asked.user
        return popular.pins[new]

    async def _titled(self, stage: Named, pins: U64, boards: U64, asked: PageRequest, traces: Traces) -> Fallen:
        """The first of these pins that may be shown, with their titles; bare when rockstore does not answer.

        Once one of a page may not be shown, all of them are looked at: most pages cost one question, and no page two more
        than that while the pins' standing stays as it is.
        """
        columns: Columns | None = {}
        for _ in range(len(pins) + 1):
            now, of = pins[: asked.limit], boards[: asked.limit]
            columns = await self._hydrated(now, of, asked, traces) if len(now) else {}
            keep = self._may_be_shown(columns or {}, len(now))
            if keep.all():
                break
            left = np.concatenate([keep, np.ones(len(pins) - len(now), np.bool_)])
            pins, boards = pins[left], boards[left]
            begin = partial(self.titles.standing, asked.user, pins)
            standing = await answered(attempt(VISIBILITY, "reserve", begin, SHARES.hydrators, traces))
            left = self._may_be_shown(standing or {}, len(pins))
            pins, boards = pins[left], boards[left]
        reasons = {"reason": objects([REASONS[stage]] * len(now))}
        return Fallen(stage.name, now, of, {**(columns or {}), **reasons})

    async def _hydrated(self, pins: U64, boards: U64, asked: PageRequest, traces: Traces) -> Columns | None:
        none = np.zeros(len(pins), np.uint64)
        begin = partial(self.titles.of_page, asked.user, pins, boards, none, none, none)
        return await answered(attempt(TITLES, "hydrator", begin, SHARES.hydrators, traces))

    def _may_be_shown(self, columns: Mapping[str, Array], n: int) -> Array:
        """bool[n]; all where nothing is known."""
        keep = np.ones(n, np.bool_)
        for name in (TAKEN_DOWN, UNDESCRIBED, *((OWN,) if self.own is False else ())):
            if name in columns:
                keep &= ~columns[name]
        return keep
