"""Ranking by a model that scorpion serves: its traces in the page, the X-ray and the log."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import lightgbm
import msgspec
import numpy as np
import pytest

from features import matrix
from features.catalogue import CATALOGUE, feature
from features.pins import KEPT, PinFeatures
from features.requests import CandidateOrigin
from feedgen import pipeline
from feedgen.candidates import Candidates
from feedgen.choices import Choices
from feedgen.feeds import Clients, feeds
from feedgen.losers import Losers
from feedgen.page import Page, Ranking
from feedgen.pipeline import Ranked
from feedgen.served import Served
from feedgen.stated import stated
from feedgen.xray import Xray
from roadrunner.client import RoadrunnerClient
from scorpion import registry
from services.core.clock import DAY_MS
from services.core.columns import ids
from services.core.errors import InvalidArgument, Unavailable
from services.core.events import LOST_BY, Action, Batch, LostAt, Surface
from services.core.topics import Topic
from services.log.protocol import rows
from services.log.reading import open_reader, read_all
from tests.feedgen.world import NOW, PATIENT, READER, World, did, interest_of, query_of, running_world
from tests.kit import asked
from tests.roadrunner.running import running

A = Action
NAMES = [
    "user_recent_pins",
    "origin",
    "source_weight",
    "saved_age_days",
    "pin_quality",
    "pin_saves_ever",
    "affinity_sum",
]
USER = 77


def promote(data: Path) -> None:
    """A model of a few features, in the registry and promoted."""
    rng = np.random.default_rng(3)
    table = rng.random((2_000, len(NAMES))).astype(np.float32)
    table[:, 1] = rng.integers(0, 5, len(table))
    wanted = (0.6 * (1 - table[:, 4]) + 0.4 * table[:, 6] + 0.1 * rng.random(len(table)) > 0.55).astype(int)
    train = lightgbm.Dataset(table, wanted, feature_name=NAMES, categorical_feature=["origin"], params={"verbose": -1})
    booster = lightgbm.train({"objective": "binary", "num_leaves": 15, "verbose": -1, "seed": 1}, train, 30)
    features = [feature(name) for name in NAMES]
    registry.write(data / "draft", booster, features, table[:50], name="small", trained_ms=NOW)
    registry.promote(data, str(registry.push(data / "draft", data)))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running_world(tmp_path_factory.mktemp("world")) as running_:
        running_.publish(did(A.SAVE, USER, [4, 12, 20, 7], at_ms=NOW - DAY_MS))
        promote(running_.data)
        running_.models.refresh()
        yield running_


def ranked(world: World, feed: str, user: int, now_ms: int = NOW) -> Ranked:
    async def ask(clients: Clients) -> Ranked:
        query = query_of(feed, user, now_ms=now_ms)
        return await pipeline.rank(feeds(clients, PATIENT)[feed], query, Xray(False))

    return world.asked(ask)


@pytest.mark.parametrize("feed", ["following", "interest", "picked", "home"])
def test_the_promoted_model_ranks(world: World, feed: str) -> None:
    page, xray = world.page(feed, READER if feed == "following" else USER, explain=True)
    assert not xray.degraded()
    assert page.ranking.model == "small@1"
    assert page.ranking.fingerprint > 0
    assert page.ranking.features == tuple(NAMES)
    assert page.rows.column("features").shape == (25, len(NAMES))
    assert ((page.scores > 0) & (page.scores < 1)).all()
    ray = xray.pins[str(page.rows.pin[0])]
    assert set(NAMES) < set(ray["features"])
    assert ray["scores"]["final"] == pytest.approx(float(page.scores[0]), rel=1e-5)
    assert ray["scores"]["light"] == pytest.approx(float(page.rows.light[0]), rel=1e-5)
    assert xray.parts["ranking"]["model"] == "small@1"


def test_the_scores_are_the_models_of_what_feedgen_stated(world: World) -> None:
    """The rows that scorpion scored are those that features/ assembles here, as far as feedgen knows them."""
    found = ranked(world, "picked", USER)
    query = query_of("picked", USER)

    async def known(clients: Clients) -> None:
        stages = feeds(clients, PATIENT)["picked"].queries
        for stage in stages:
            for name, value in (await stage.ask(query)).values.items():
                setattr(query, name, value)

    world.asked(known)
    says = stated(query, found.candidates)
    n = len(found.candidates)
    nothing = PinFeatures(np.full((n, len(KEPT)), np.nan, np.float32), np.zeros((n, 8), np.uint64))
    mine = [name for name in NAMES if CATALOGUE[name].source in ("user", "request")]
    assembled = matrix.Assembler([feature(name) for name in mine]).rows(
        says.user, says.interests, says.affinities, says.request, nothing, {}, NOW
    )
    seen = found.candidates.column("features")
    np.testing.assert_array_equal(assembled, seen[:, [NAMES.index(name) for name in mine]])
    model = registry.check(world.data / "models" / "small" / "1", None)
    np.testing.assert_allclose(model.score(seen), found.candidates.column("score"), rtol=1e-12)


def test_when_scorpion_is_away_the_light_score_ranks_and_the_page_says_so(world: World) -> None:
    world.away.add("scorpion")
    page, xray = world.page("picked", USER)
    world.away.clear()
    assert xray.degraded() == ["ranked"]
    assert page.ranking.model == "light"
    assert len(page.rows) == 25


def test_candidates_of_a_moment_of_the_past_know_nothing_later(world: World) -> None:
    """The features that training asks for: before the user did anything, they are new."""
    before, after = ranked(world, "picked", USER, NOW - 2 * DAY_MS), ranked(world, "picked", USER)
    assert set(before.candidates.origin.tolist()) == {3, 4}  # popular and fresh
    assert set(after.candidates.origin.tolist()) == {2, 5}  # of boards near, and walked past
    recent_pins = NAMES.index("user_recent_pins")
    assert set(before.candidates.column("features")[:, recent_pins].tolist()) == {0}
    assert set(after.candidates.column("features")[:, recent_pins].tolist()) == {4}
    assert before.candidates.column("score").dtype == np.float64


def test_the_xray_is_json_of_the_documented_shape(world: World) -> None:
    page, xray = world.page("home", USER, explain=True)
    xray.asked(query_of("home", USER))
    decoded = msgspec.json.decode(xray.encoded())
    assert set(decoded) == {"query", "interests", "walk", "ranking", "blend", "phases", "stages", "pins"}
    assert all(isinstance(value, int | float) for value in decoded["query"].values())
    assert {"followed_boards", "followed_users", "seen", "shown_before", "recent_pins"} <= set(decoded["query"])
    assert set(decoded["walk"]) == {"seeds", "steps", "boards", "graph"}
    assert set(decoded["walk"]["seeds"][0]) == {"pin", "title", "weight", "known", "steps", "boards"}
    assert set(decoded["interests"][0]) == {"interest", "title", "weight", "followed", "affinity"}
    rates = [part["rate"] for part in decoded["blend"]]
    assert rates == pytest.approx([0.35, 0.75 * 0.35, 0.25 * 0.35, 0.2, 0.05, 0.05])
    kinds = ["query", "source", "filter", "scorer", "select", "hydrator", "post_filter"]
    assert list(dict.fromkeys(stage["kind"] for stage in decoded["stages"])) == kinds
    assert all(set(phase) == {"phase", "took_ms"} for phase in decoded["phases"])
    on_page = [decoded["pins"][str(pin)] for pin in page.rows.pin.tolist()]
    assert [ray["slot"]["position"] for ray in on_page] == list(range(25))
    assert all(ray["dropped"] is None for ray in on_page)
    both = [ray for ray in on_page if len(ray["sources"]) > 1]
    assert both, "no pin was found by two sources"
    for ray in on_page:
        names = [source["source"] for source in ray["sources"]]
        assert len(names) == len(set(names))
        assert ray["slot"]["source"] in names
        assert set(ray["scores"]) == {"light", "weight", "affinity", "final"}
    off = next(ray for ray in decoded["pins"].values() if ray["dropped"])
    assert set(off["dropped"]) == {"stage", "reason"}


def test_what_was_served_is_logged_with_what_the_model_saw(tmp_path: Path) -> None:
    features = np.array([[1, 2, np.nan], [4, 5, 6]], np.float32)
    candidates = Candidates.of(ids([11, 12]), board=[7, 0]).adding({"features": features})
    page = Page(
        candidates, np.array([0.5, 0.25], np.float32), Ranking("m@1", 2**63 + 5, ("a", "b", "c")), candidates=900
    )
    losers = Losers(2, choose=lambda n, k: np.arange(k))
    losers.filtered("duplicate", ids([11]))
    losers.filtered("already_seen", ids([31, 32, 33]))
    losers.not_chosen(ids([41]), np.array([0.125], np.float32))
    plain = Page(Candidates.of(ids([13])), np.array([-3], np.float32), candidates=4, losers=losers)

    async def report(client: RoadrunnerClient) -> None:
        served = Served(client, 10.0)
        await served.report(query_of("picked", 5, now_ms=NOW, shown=ids([1, 2, 3])), page)
        query = query_of("home", 5, now_ms=NOW)
        query.request_id = "another"
        await served.report(query, plain)
        await served.report(query, plain)  # a retry is no second serving

    with running(tmp_path) as ingest:
        asked(RoadrunnerClient, ingest.mesh, report)
        log = open_reader(ingest.mesh)
        feeds_ = {at: 0 for at, end in log.ends(10).items() if at[0] == Topic.FEEDS and end.next}
        batch, _ = rows([record for chunk in read_all(log, feeds_, 10) for record in chunk])
        log.close()
    assert batch.action.tolist() == [A.SERVED] * 3
    assert batch.pin.tolist() == [11, 12, 13]
    assert batch.surface.tolist() == [Surface.PICKED, Surface.PICKED, Surface.HOME]
    assert batch.position.tolist() == [3, 4, 0]
    assert batch.score.tolist() == [0.5, 0.25, -3]
    assert batch.model.tolist() == [2**63 + 5, 2**63 + 5, 0]
    np.testing.assert_array_equal(batch.features.run(0), features[0])
    np.testing.assert_array_equal(batch.features.run(1), features[1])
    assert len(batch.features.run(2)) == 0
    assert batch.probability.tolist() == [1.0] * 3
    assert batch.candidates.tolist() == [900, 900, 4]
    assert [batch.lost.run(row).tolist() for row in range(3)] == [[], [], [31, 32, 41]]
    seen, slate = LostAt.ALREADY_SEEN, LostAt.SLATE
    expected = [[seen, np.nan, 1.5], [seen, np.nan, 1.5], [slate, 0.125, 1.0]]  # stage, score, for how many it stands
    np.testing.assert_array_equal(batch.lost_by.run(2).reshape(-1, LOST_BY), np.array(expected, np.float32))


def test_of_some_pages_a_sample_of_the_candidates_that_lost_is_noted(world: World) -> None:
    losers = Losers(20)
    page, _ = world.page("home", USER, losers=losers)
    pins, by = losers.noted()
    slate = by[:, 0] == LostAt.SLATE
    assert page.losers is losers
    assert slate.sum() == 20
    assert not set(pins[slate].tolist()) & set(page.rows.pin.tolist())
    assert np.isfinite(by[slate, 1]).all(), "they had a score"
    assert by[slate, 2].sum() == pytest.approx(page.candidates - len(page.rows)), "and stand for all of them"
    plain, _ = world.page("home", USER)
    assert plain.losers is None
    np.testing.assert_array_equal(plain.rows.pin, page.rows.pin)


class Ingest:
    """Notes what is published; refuses pins of 0 and, when it is shut, everything."""

    def __init__(self) -> None:
        self.published: list[list[int]] = []
        self.shut = False

    async def publish(self, batch: Batch, timeout: float) -> None:
        if self.shut:
            raise Unavailable("roadrunner is away")
        if not batch.pin.all():
            raise InvalidArgument("pin = 0")
        self.published.append(batch.pin.tolist())


def test_pages_of_one_moment_are_logged_together_and_a_wrong_one_alone_is_refused() -> None:
    ingest = Ingest()

    def page(*pins: int) -> Page:
        return Page(Candidates.of(ids(pins)), np.zeros(len(pins), np.float32))

    async def report() -> list[Any]:
        served = Served(cast(RoadrunnerClient, ingest), 10.0, linger_s=0.01)
        query = query_of("home", 5)
        good = await asyncio.gather(*(served.report(query, page(pin, pin + 100)) for pin in (1, 2, 3)))
        assert ingest.published == [[1, 101, 2, 102, 3, 103]]
        mixed = await asyncio.gather(*(served.report(query, page(pin)) for pin in (4, 0, 6)), return_exceptions=True)
        ingest.shut = True
        lost = await asyncio.gather(*(served.report(query, page(pin)) for pin in (7, 8)), return_exceptions=True)
        return [*good, *mixed, *lost]

    answers = asyncio.run(report())
    assert [type(answer) for answer in answers] == [type(None)] * 4 + [InvalidArgument, type(None)] + [Unavailable] * 2
    assert ingest.published[1:] == [[4], [6]]


def test_what_scorpion_says_of_interests_reaches_the_slate(world: World) -> None:
    page, xray = world.page("home", USER, explain=True)
    assert not xray.degraded()
    rows = page.rows
    assert "first_interest" in rows.more
    assert rows.column("interest").tolist() == [interest_of(pin) for pin in rows.pin.tolist()]


@pytest.mark.parametrize("away", [set(), {"scorpion"}, {"scorpion", "rockstore"}], ids=["all there", "light", "none"])
def test_a_pin_of_the_graph_that_was_taken_down_is_on_no_page(world: World, away: set[str]) -> None:
    """The graph has it still: scorpion says that it is gone, or rockstore does; while neither can, none such is shown."""
    first, _ = world.page("picked", USER)
    alone = first.rows.take((first.rows.origin == CandidateOrigin.WALKED) & (first.rows.board == 0))
    down = int(alone.pin[0])
    world.publish(did(A.TAKEDOWN, 0, [down]))
    world.away |= away
    page, xray = world.page("picked", USER, explain=True)
    world.away.clear()
    assert down not in page.rows.pin.tolist()
    assert len(page.rows) == 25
    [dropped] = [trace.dropped or 0 for trace in xray.stages if (trace.stage, trace.kind) == ("taken_down", "filter")]
    assert dropped > 0
    assert xray.pins[str(down)]["dropped"]
    if len(away) == 2:
        walked = page.rows.take(page.rows.origin == CandidateOrigin.WALKED)
        assert (np.bitwise_count(walked.column("found_by")) > 1).all()


def test_the_walk_is_asked_once_for_both_of_its_sources(world: World) -> None:
    _, xray = world.page("picked", USER, explain=True)
    kept = {trace.stage: trace.kept for trace in xray.stages}
    assert [trace.stage for trace in xray.stages].count("walk") == 1
    assert kept["walked_pins"]
    assert kept["walked_boards"]


def test_rates_of_zero_leave_a_source_out(world: World) -> None:
    choose = Choices(deadline_ms=60_000, rate_popular=0, rate_fresh=0, rate_following=0)
    _, xray = world.page("home", USER, choose, explain=True)
    assert [part["source"] for part in xray.parts["blend"]] == ["walked_pins", "walked_boards", "interest_pins"]


def test_home_needs_a_rate(world: World) -> None:
    rates = {f"rate_{source}": 0.0 for source in ("following", "picked", "interest", "popular", "fresh")}
    with pytest.raises(InvalidArgument, match="every rate of home is 0"):
        world.page("home", USER, msgspec.convert(rates, Choices))
