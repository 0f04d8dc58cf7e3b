"""A page's last phases over stages of this test: hydrators, post-filters, the reserve, stages that a request does without."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from feedgen import pipeline as pipelines
from feedgen.candidates import Candidates
from feedgen.filters.duplicate import Duplicate
from feedgen.filters.shown import ShownBefore
from feedgen.filters.taken_down import TakenDown
from feedgen.filters.undescribed import Undescribed
from feedgen.losers import Losers
from feedgen.page import Page
from feedgen.pipeline import Pipeline
from feedgen.query import Query
from feedgen.scorers.light import LightScore
from feedgen.slate import Slate
from feedgen.stages import Hydrated, QueryFindings, Scores, SourceFindings, Words
from feedgen.titles import objects
from feedgen.xray import Xray
from services.core.columns import Array, ids
from services.core.events import LostAt, Surface
from tests.feedgen.world import query_of

LIMIT = 5


@dataclass
class Calls:
    """How often each stage was asked."""

    of: dict[str, int] = field(default_factory=dict)

    def note(self, name: str) -> None:
        self.of[name] = self.of.get(name, 0) + 1


@dataclass
class Brings:
    """A source of these pins, best first."""

    calls: Calls
    pins: Sequence[int]
    name: str = "brings"
    required: bool = True
    on: bool = True

    def enabled(self, query: Query) -> bool:
        return self.on

    async def find(self, query: Query, source: int) -> SourceFindings:
        self.calls.note(self.name)
        n = len(self.pins)
        return SourceFindings(Candidates.of(ids(self.pins), source=source, light=-np.arange(n, dtype=np.float32)))

    def reason(self, words: Words) -> str:
        return "it was brought"


@dataclass
class Asks:
    """A query stage, optional, that some requests do without."""

    calls: Calls
    on: bool = True
    name: str = "asks"
    required: bool = True

    def enabled(self, query: Query) -> bool:
        return self.on

    async def ask(self, query: Query) -> QueryFindings:
        self.calls.note(self.name)
        return QueryFindings({})


@dataclass
class Ranks:
    """The light score, counted."""

    calls: Calls
    name: str = "ranks"
    required: bool = True

    def columns(self, query: Query, candidates: Candidates) -> Scores:
        self.calls.note("ranks")
        return LightScore().columns(query, candidates)


@dataclass
class Says:
    """A hydrator that names pins, and says which of them are down: as things stand when it is asked."""

    calls: Calls
    down: Callable[[], set[int]]
    name: str = "titles"
    required: bool = False
    broken: bool = False

    async def hydrate(self, query: Query, rows: Candidates) -> Hydrated:
        self.calls.note(self.name)
        if self.broken:
            raise ValueError("nothing is known")
        pins = rows.pin.tolist()
        columns: dict[str, Array] = {"taken_down": np.isin(rows.pin, ids(sorted(self.down())))}
        if self.name == "titles":
            columns["title"] = objects([f"pin {pin}" for pin in pins])
        return Hydrated(columns)


class Made:
    """A pipeline over two sources, of which the second is optional, and how often its stages were asked."""

    def __init__(self, first: Sequence[int], second: Sequence[int] = (), rates: Sequence[float] = (1.0,)) -> None:
        self.calls, self.down = Calls(), set[int]()
        self.late = Says(self.calls, lambda: self.down)
        self.hidden = Says(self.calls, lambda: self.down, "visibility")
        self.asks, self.second = Asks(self.calls), Brings(self.calls, second, "second", required=False)
        fields: dict[str, Any] = {
            "surface": Surface.HOME,
            "queries": [self.asks],
            "walks": [],
            "sources": [Brings(self.calls, first), self.second],
            "fillers": [],
            "filters": [Duplicate(), ShownBefore()],
            "scorers": [Ranks(self.calls)],
            "checks": [TakenDown(), Undescribed()],
            "slate": Slate(rates=rates),
            "hydrators": [self.late],
            "post_filters": [TakenDown(), Undescribed()],
            "reserve": [self.hidden],
            "last_resort": None,
            "afterwards": [],
        }
        self.pipeline = Pipeline(**fields)

    def page(self, **asked: Any) -> tuple[Page, Xray, Query]:
        query = query_of("home", 1, limit=LIMIT, explain=True, **asked)
        xray = Xray(explain=True)
        return asyncio.run(pipelines.run(self.pipeline, query, xray)), xray, query


def test_one_late_takedown_is_replaced_and_nothing_is_asked_twice() -> None:
    made = Made(range(1, 21))
    made.down = {2}  # after it was ranked: no scorer knows
    page, xray, query = made.page()
    assert page.rows.pin.tolist() == [1, 3, 4, 5, 6]
    assert page.rows.column("title").tolist() == ["pin 1", "pin 3", "pin 4", "pin 5", "pin 6"]
    assert page.scores.tolist() == [0, -2, -3, -4, -5]
    assert not xray.degraded()
    assert made.calls.of == {"asks": 1, "brings": 1, "second": 1, "ranks": 1, "titles": 2, "visibility": 1}
    assert xray.pins["2"]["dropped"] == {"stage": "taken_down", "reason": "taken down"}
    assert xray.pins["2"]["slot"] is None
    assert xray.pins["2"]["sources"][0]["source"] == "brings"
    slots = {pin: ray["slot"]["position"] for pin, ray in xray.pins.items() if ray["slot"]}
    assert slots == {"1": 0, "3": 1, "4": 2, "5": 3, "6": 4}
    onward = query.shown.adding(page.rows.pin)
    following, _, _ = made.page(shown=page.rows.pin)
    assert following.rows.pin.tolist() == [7, 8, 9, 10, 11]
    assert onward.count == LIMIT


def test_a_page_on_which_all_may_be_shown_looks_at_no_reserve() -> None:
    made = Made(range(1, 21))
    made.down = {20}
    page, _, _ = made.page()
    assert page.rows.pin.tolist() == [1, 2, 3, 4, 5]
    assert made.calls.of == {"asks": 1, "brings": 1, "second": 1, "ranks": 1, "titles": 1}


def test_many_takedowns_cost_one_look_at_the_reserve() -> None:
    made = Made(range(1, 101))
    made.down = set(range(1, 91))
    page, xray, _ = made.page()
    assert page.rows.pin.tolist() == [91, 92, 93, 94, 95]
    assert made.calls.of["titles"] == 2
    assert made.calls.of["visibility"] == 1
    dropped = [pin for pin, ray in xray.pins.items() if ray["dropped"] and ray["dropped"]["stage"] == "taken_down"]
    assert set(map(int, dropped)) == made.down


def test_a_reserve_that_runs_out_ends_the_feed() -> None:
    made = Made(range(1, 7))
    made.down = {1, 2, 3}
    page, _, _ = made.page()
    assert page.rows.pin.tolist() == [4, 5, 6]


def test_takedowns_go_on_while_a_page_is_made() -> None:
    """Each time titles come, the pin that stands first has just been taken down: until the reserve ends."""
    made = Made(range(1, 9))
    down = set[int]()
    made.late.down = lambda: down

    async def hydrate(query: Query, rows: Candidates) -> Hydrated:
        down.update(rows.pin[:1].tolist() if len(rows) > 2 else [])
        return await Says.hydrate(made.late, query, rows)

    made.late.hydrate = hydrate  # type: ignore[method-assign]
    page, _, _ = made.page()
    assert page.rows.pin.tolist() == [7, 8]
    assert made.calls.of["brings"] == made.calls.of["ranks"] == 1


@pytest.mark.parametrize("lost", ["titles", "visibility"])
def test_a_hydrator_that_is_lost_is_named_and_the_page_comes(lost: str) -> None:
    made = Made(range(1, 21))
    made.down = {2}
    (made.late if lost == "titles" else made.hidden).broken = True
    page, xray, _ = made.page()
    assert xray.degraded() == [lost]
    assert len(page.rows) == LIMIT
    assert (2 in page.rows.pin.tolist()) == (lost == "titles"), "without titles nothing says that it is down"


def test_replaced_pins_are_among_the_losers() -> None:
    made = Made(range(1, 11))
    made.down = {2, 9}
    losers = Losers(20, choose=lambda n, k: np.arange(k))
    made.page(losers=losers)
    pins, by = losers.noted()
    at = dict(zip(pins.tolist(), by[:, 0].tolist(), strict=True))
    assert len(at) == len(pins), "each candidate lost once"
    assert at == {2: LostAt.TAKEN_DOWN, 9: LostAt.TAKEN_DOWN} | dict.fromkeys([7, 8, 10], LostAt.SLATE)


@pytest.mark.parametrize("on", [True, False])
def test_a_stage_that_is_not_enabled_is_neither_asked_nor_traced(on: bool) -> None:
    made = Made(range(1, 21), range(101, 121), rates=(0.5, 0.5))
    made.asks.on = made.second.on = on
    page, xray, _ = made.page()
    traced = {trace.stage for trace in xray.stages}
    assert len(page.rows) == LIMIT
    assert ({"asks", "second"} <= traced) == on
    assert ("asks" in made.calls.of, "second" in made.calls.of) == (on, on)
    assert set(page.rows.source.tolist()) == ({0, 1} if on else {0}), "sources keep their numbers"


def test_each_phase_is_a_span() -> None:
    made = Made(range(1, 21))
    made.down = {1}
    _, xray, _ = made.page()
    phases = ["queries", "sources", "filters", "scorers", "checks", "slate", "hydrators"]
    assert [span.phase for span in xray.spans] == [*phases, "reserve", "slate", "hydrators"]
    assert all(span.took_ms >= 0 for span in xray.spans)
