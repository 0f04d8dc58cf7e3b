"""The four feeds over real services: the pins of a page, the events that change it, and the page when services are away."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from features.requests import CandidateOrigin
from feedgen.kernel import FILLER
from feedgen.page import Page
from services.core.events import Action
from tests.feedgen.world import BOARDS, NAMED_INTEREST, READER, World, did, interest_of, pins_of, running_world

A = Action
OWN = ("interest", "picked", "home")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running_world(tmp_path_factory.mktemp("world")) as running:
        yield running


@pytest.fixture
def all_there(world: World) -> Iterator[World]:
    """The world; services that a test sent away are back after it."""
    yield world
    world.away.clear()


def interests(page: Page) -> list[int]:
    return [interest_of(pin) for pin in page.rows.pin.tolist()]


def test_following_is_what_the_followed_have_on_their_boards(world: World) -> None:
    page, xray = world.page("following", explain=True)
    assert not xray.degraded()
    assert set(page.rows.board.tolist()) == {1000, 1001}
    assert set(page.rows.pin.tolist()) <= {*pins_of(0), *pins_of(1)}
    assert set(page.rows.owner.tolist()) == {500}
    assert page.ranking.model == "light"
    assert page.scores.tolist() == page.rows.light.tolist()
    within = [xray.pins[str(pin)]["slot"]["why"] for pin in page.rows.pin.tolist()]
    assert within == ["within the limits"] * 3 + ["limits gave way"] * 22  # one owner
    assert (np.diff(page.scores[:3]) <= 0).all()
    assert (np.diff(page.scores[3:]) <= 0).all()


def test_interest_is_of_the_followed_interest(world: World) -> None:
    page, xray = world.page("interest")
    assert not xray.degraded()
    assert set(interests(page)) == {NAMED_INTEREST}
    assert page.rows.interest.tolist() == [NAMED_INTEREST] * 25


@pytest.mark.parametrize("feed", OWN)
def test_a_new_user_gets_popular_and_fresh_pins(world: World, feed: str) -> None:
    page, xray = world.page(feed, 3_000)
    assert len(page.rows) == 25
    assert not xray.degraded()
    found = {trace.stage: trace.kept for trace in xray.stages}
    assert found["popular_pins"]
    assert found["fresh_pins"]
    assert len(set(interests(page))) == 8
    assert max(interests(page).count(interest) for interest in interests(page)) <= 10


def test_the_first_saves_move_the_next_page(world: World) -> None:
    user, liked = 3_001, 905
    before = {feed: interests(world.page(feed, user)[0]).count(liked) for feed in OWN}
    world.publish(did(A.SAVE, user, [4, 12, 20]))
    after = {feed: world.page(feed, user, explain=True) for feed in OWN}
    assert all(not xray.degraded() for _, xray in after.values())
    for feed in ("interest", "picked"):
        page, _ = after[feed]
        assert set(interests(page)) == {liked}
        assert not set(page.rows.pin.tolist()) & {4, 12, 20}
    assert 10 >= interests(after["home"][0]).count(liked) >= 8 > before["home"]  # 10: per_interest
    assert set(after["picked"][0].rows.seed.tolist()) <= {4, 12, 20}
    walk = after["picked"][1].parts["walk"]
    assert {seed["pin"] for seed in walk["seeds"]} == {"4", "12", "20"}
    assert all(seed["known"] and seed["steps"] for seed in walk["seeds"])
    assert walk["boards"] == BOARDS / 8


def test_what_is_hidden_goes_and_counts_against_its_interest(world: World) -> None:
    user = 3_002
    world.publish(did(A.SAVE, user, [1, 9, 17]))
    world.publish(did(A.HIDE, user, [2, 10, 18, 26], at_ms=1_699_999_999_999))
    page, _ = world.page("interest", user)
    assert set(interests(page)) == {902}
    page, _ = world.page("picked", user)
    assert set(page.rows.seed.tolist()) <= {1, 9, 17}


@pytest.mark.parametrize("feed", ["interest", "picked", "home"])
def test_eight_pages_show_nothing_twice_and_nothing_met(world: World, feed: str) -> None:
    user, saved, hidden = 3_003, [5, 13, 21, 6, 14], [22, 30]
    world.publish(did(A.SAVE, user, saved))
    world.publish(did(A.HIDE, user, hidden))
    shown = np.empty(0, np.uint64)
    for _ in range(8):
        page, xray = world.page(feed, user, shown=np.sort(shown))
        assert not xray.degraded()
        assert len(page.rows) == 25
        shown = np.append(shown, page.rows.pin)
    assert len(np.unique(shown)) == len(shown) == 200
    assert not set(shown.tolist()) & {*saved, *hidden}


def test_home_is_blended_by_the_rates(world: World) -> None:
    user = 3_004
    world.publish(did(A.SAVE, user, [7, 15, 23, 8, 16, 1, 2]))
    page, xray = world.page("home", user, explain=True)
    slots = {part["source"]: part["slots"] for part in xray.parts["blend"]}
    assert sum(slots.values()) == 25
    assert slots["walked_pins"] + slots["walked_boards"] > slots["interest_pins"] > slots["popular_pins"] >= 1
    assert (np.diff(page.scores) <= 0).all()


def test_limits_of_boards_and_interests_hold(world: World) -> None:
    user = 3_005
    world.publish(did(A.SAVE, user, list(range(1, 9))))
    page, xray = world.page("picked", user, explain=True)
    boards = [board for board in page.rows.board.tolist() if board]
    assert max(boards.count(board) for board in boards) <= 2
    assert max(interests(page).count(interest) for interest in interests(page)) <= 10
    assert all(xray.pins[str(pin)]["slot"]["why"] == "within the limits" for pin in page.rows.pin.tolist())


#: Services that are away; the stages degraded on following, interest, picked and home; and where the page comes from.
AWAY = {
    "realpin": (["signals"],) * 4,
    "pixie": ([], [], ["walked_pins", "walked_boards"], ["walked_pins", "walked_boards"]),
    "counters": ([], [], [], ["popular_pins", "fresh_pins"]),
    "scorpion": (["ranked"],) * 4,
    "apiary": (
        ["followed", "fallback"],
        ["followed", "followed_interests"],
        ["followed"],
        ["followed", "followed_interests"],
    ),
    "aperture": (["seen", "fallback"],) * 4,
    "polaris": (
        ["followed_boards", "fallback"],
        ["interest_pins", "fallback"],
        ["walked_boards"],
        ["followed_boards", "walked_boards", "interest_pins", "fresh_pins", "fallback"],
    ),
    "smartfeed": ([],) * 4,
}


@pytest.mark.parametrize("service", AWAY)
def test_feeds_keep_coming_without(all_there: World, service: str) -> None:
    world, user = all_there, READER
    world.publish(did(A.CLICK, user, [3, 11], at_ms=1_699_000_000_000 + len(service)))
    world.away.add(service)
    for feed, degraded in zip(("following", *OWN), AWAY[service], strict=True):
        page, xray = world.page(feed, user)
        assert [*xray.degraded(), *["fallback"] * page.fell_back] == degraded, f"{feed} without {service}"
        if not page.fell_back:
            assert len(page.rows) == 25, f"{feed} without {service}"


def test_without_rockstore_there_are_no_affinities_and_the_walks_go_on(all_there: World) -> None:
    world, user = all_there, 3_006
    world.publish(did(A.SAVE, user, [3, 11]))
    world.away.add("rockstore")
    page, xray = world.page("picked", user)
    assert xray.degraded() == ["pin_attributes", "titles"]  # which say which pins were taken down
    assert len(page.rows) == 25
    walked = page.rows.take(page.rows.origin == CandidateOrigin.WALKED)
    assert (walked.column("found_by") == 3).all(), "polaris found them too, and knows"


def test_without_realpin_and_followed_interests_the_fillers_fill(all_there: World) -> None:
    world = all_there
    world.away |= {"realpin", "pixie"}
    for feed in ("interest", "picked"):
        page, xray = world.page(feed, 3_001, explain=True)
        assert xray.degraded() == ["signals"]
        assert {part["slots"] for part in xray.parts["blend"][:1]} == {0}
        assert len(page.rows) == 25
        assert all(xray.pins[str(pin)]["slot"]["why"] == "filler" for pin in page.rows.pin.tolist())


def test_nothing_found_because_of_losses_falls_back(all_there: World) -> None:
    world = all_there
    world.away |= {"realpin", "counters"}
    page, xray = world.page("picked", 3_007)
    assert page.fell_back
    assert xray.degraded() == ["signals", "popular_pins", "fresh_pins"]


def test_without_a_graph_picked_is_filled_and_says_so(tmp_path: Path) -> None:
    with running_world(tmp_path, graph=False) as world:
        world.publish(did(A.SAVE, 3_001, [4]))
        page, xray = world.page("picked", 3_001, explain=True)
        assert xray.degraded() == ["walked_pins", "walked_boards"]
        assert len(page.rows) == 25
        slots = {ray["slot"]["why"] for ray in xray.pins.values() if ray.get("slot")}
        assert slots == {"filler"}
        assert FILLER == 2
