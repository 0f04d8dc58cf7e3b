"""Feeds as their readers met them: pages that failed, fallback pages, one's own pins, and pins that nothing describes."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numba.core.errors import TypingError

from feedgen import kernel
from feedgen.choices import Choices
from feedgen.client import FeedgenClient
from feedgen.feeds import Clients, feeds
from feedgen.filters.own_pins import OwnPins
from feedgen.names import SURFACES
from protos import feedgen_pb2 as pb
from scorpion.client import ScorpionClient
from services.core.events import Action, Surface, events
from services.core.metrics import Metrics
from services.rpc.mesh import Address, Mesh
from tests.feedgen.world import NOW, NOWHERE, PATIENT, READER, World, did, interest_of, running_world, servicer_of

A = Action
FEEDS = tuple(SURFACES)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running_world(tmp_path_factory.mktemp("world")) as running:
        yield running


@pytest.fixture
def all_there(world: World) -> Iterator[World]:
    yield world
    world.away.clear()


def replies(
    world: World, *asked: dict[str, Any], choose: Choices = PATIENT, metrics: Metrics | None = None
) -> list[Any]:
    """The answers of one servicer to these requests, one after the other."""

    async def ask(clients: Clients) -> list[Any]:
        service = servicer_of(clients, choose, metrics=metrics)
        found: list[Any] = []
        for request in asked:
            given = {name: value(found) if callable(value) else value for name, value in request.items()}
            found.append(await service.Feed(pb.FeedRequest(**{"limit": 25, **given}), None))
        return found

    return world.asked(ask)


def served(world: World, user: int, pins: list[int], feed: Surface = Surface.HOME) -> None:
    first = NOW + hash((user, *pins)) % 2**30
    world.publish(
        events(
            len(pins), action=A.SERVED, user=user, pin=pins, board=1000, surface=feed, at_ms=NOW,
            position=range(len(pins)), id=range(first, first + len(pins)),
        )
    )  # fmt: skip


def pins_of(reply: Any) -> list[int]:
    return [item.pin for item in reply.items]


def broken(*_: Any, **__: Any) -> Any:
    raise TypingError("No implementation of function at /usr/lib/python3/numba/core.py, line 7")


async def broken_later(*_: Any, **__: Any) -> Any:
    broken()


def broken_after(keep: Any) -> Any:
    """A filter that is well among the checks, and breaks once rows are hydrated."""

    def kept(self: Any, query: Any, candidates: Any) -> Any:
        return broken() if "title" in candidates.more else keep(self, query, candidates)

    return kept


#: The part that breaks, and the names on the page: a required part falls back, an optional one is left out.
BREAKS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str, bool]] = {
    "a kernel of the slate": (lambda patch: patch.setattr(kernel, "draft", broken), "slate", True),
    "a filter": (lambda patch: patch.setattr(kernel, "unshown", broken), "shown_before", True),
    "a required query": (lambda patch: patch.setattr("feedgen.queries.seen.SeenFilter", broken), "seen", True),
    "an optional query": (lambda patch: patch.setattr("feedgen.queries.signals.Recent", broken), "signals", False),
    "a scorer": (lambda patch: patch.setattr(ScorpionClient, "score", broken_later), "ranked", False),
    "a source": (
        lambda patch: patch.setattr("feedgen.sources.interest_pins._explained", broken),
        "interest_pins",
        True,
    ),
    "titles": (lambda patch: patch.setattr("feedgen.titles._standing", broken), "titles", False),
    "a reason": (lambda patch: patch.setattr("feedgen.hydrators.reasons.Words", broken), "reasons", False),
    "a post-filter": (lambda patch: patch.setattr(OwnPins, "keep", broken_after(OwnPins.keep)), "own_pins", True),
    "the slate's arithmetic": (lambda patch: patch.setattr("feedgen.slate.Chosen", broken), "slate", True),
}


@pytest.mark.parametrize("what", BREAKS)
def test_H09_whatever_raises_inside_feedgen_is_a_page_without_its_inside(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    breaks, stage, falls_back = BREAKS[what]
    served(world, READER, [11, 12, 13], Surface.INTEREST)
    metrics = Metrics("feedgen", 0)
    with monkeypatch.context() as patch:
        breaks(patch)
        explain = what == "a source"  # whose label names its interests then
        [reply] = replies(world, {"user": READER, "feed": "interest", "explain": explain}, metrics=metrics)
    assert stage in reply.degraded
    assert ("fallback" in reply.degraded) == falls_back
    assert len(reply.items) > 0
    assert "numba" not in str(reply)
    assert "/usr/lib" not in str(reply)
    assert "Traceback" in caplog.text, "the log has it"
    assert metrics.counted("stage_losses", stage=stage, cause="fault") == 1
    assert f'feedmesh_stage_losses_total{{cause="fault",service="feedgen",shard="0",stage="{stage}"}} 1.0' in (
        metrics.prometheus().decode()
    )


@pytest.mark.parametrize("scores", [np.nan, np.inf, 1e300])
def test_M01_scores_that_are_no_numbers_are_not_ranked_by(
    world: World, monkeypatch: pytest.MonkeyPatch, scores: float
) -> None:
    async def score(self: Any, model: str, *args: Any, **_: Any) -> Any:
        from scorpion.client import Scored

        pins = args[4]
        found = np.zeros(len(pins))
        found[0] = scores
        return Scored(found, np.empty((len(pins), 0), np.float32), [], "odd@1", 5, 0, 0, [])

    monkeypatch.setattr(ScorpionClient, "score", score)
    [reply] = replies(world, {"user": READER, "feed": "home"})
    assert (list(reply.degraded), reply.model, len(reply.items)) == (["ranked"], "light", 25)


def test_a_failure_of_feedgen_itself_is_a_fallback_page_at_the_edge(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever feedgen's process answers but a refusal: 500 is not an answer to a reader."""
    from services.core.errors import MeshError

    served(world, 8_001, [21, 22])

    class Failing:
        def shard_of(self, user: int) -> int:
            return 0

        async def call(self, shard: int, method: str, request: Any, timeout: float) -> Any:
            raise MeshError("feedgen: internal error; the log has it as request 5")

        async def close(self) -> None:
            pass

    async def ask() -> Any:
        settings = {**world.mesh.settings, "mesh": {**world.mesh.settings["mesh"], "data": str(tmp_path)}}
        feedgen = Address(service="feedgen", shard=0, shards=1, address=NOWHERE)
        client = FeedgenClient(Mesh(settings=settings, processes=[*world.mesh.processes, feedgen]))
        await client._replicas.close()
        client._replicas = Failing()  # type: ignore[assignment]
        try:
            listed = await client.feed(8_001, "home", 25, "", False, 60.0)
            new = await client.feed(8_002, "home", 25, "", False, 60.0)
        finally:
            await client.close()
        return listed, new

    listed, new = asyncio.run(ask())
    assert pins_of(listed) == [21, 22]
    assert {item.source for item in new.items} == {"popular_pins"}
    assert len(new.items) == 25
    assert list(new.degraded) == ["feedgen", "fallback"]
    assert new.cursor


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("away", [{"aperture"}, {"aperture", "smartfeed"}, {"aperture", "smartfeed", "counters"}])
def test_a_reader_without_a_fallback_page_gets_popular_pins(all_there: World, feed: str, away: set[str]) -> None:
    """Never an empty 200: pins that were popular a while ago are still good for all users, even when nothing answers."""
    world, user = all_there, 8_100
    world.publish(did(A.HIDE, user, [1]))

    async def before(clients: Clients) -> Any:
        """The memory of feedgen once any page of any user has asked for popular pins."""
        return await feeds(clients, PATIENT)[feed].last_resort.popular.ask(NOW)

    known = world.asked(before)
    world.away |= away

    async def page(clients: Clients) -> list[Any]:
        service = servicer_of(clients)
        service._feeds[feed].last_resort.popular.cache._value = known
        first = await service.Feed(pb.FeedRequest(user=user, feed=feed, limit=25), None)
        second = await service.Feed(pb.FeedRequest(user=user, feed=feed, limit=25, cursor=first.cursor), None)
        return [first, second]

    first, second = world.asked(page)
    assert len(first.items) == len(second.items) == 25
    assert {item.source for item in first.items} == {"popular_pins"}
    assert first.degraded[-1] == "fallback"
    assert not set(pins_of(first)) & set(pins_of(second))
    if "smartfeed" not in away:
        assert 1 not in pins_of(first) + pins_of(second), "a pin that the user hid does not come back"


def test_a_page_of_one_pin_does_not_shorten_the_fallback(all_there: World) -> None:
    world, user = all_there, 8_200
    served(world, user, list(range(100, 125)))
    served(world, user, [110])
    served(world, user, [90])
    world.away.add("aperture")
    [reply] = replies(world, {"user": user, "feed": "home"})
    assert pins_of(reply) == [90, 110, *range(100, 110), *range(111, 124)]
    assert {item.source for item in reply.items} == {"last_good"}


@pytest.mark.parametrize("feed", FEEDS)
def test_at_the_end_of_a_fallback_list_following_waits_and_other_feeds_go_on(all_there: World, feed: str) -> None:
    """*following* shows no strangers' pins in place of those of followed users; the other feeds have these anyway."""
    world, user = all_there, 8_250
    listed = list(range(200, 230))
    served(world, user, listed, SURFACES[feed])
    world.away.add("aperture")

    async def pages(clients: Clients) -> list[Any]:
        service = servicer_of(clients)
        found: list[Any] = []
        for _ in range(4):
            cursor = found[-1].cursor if found else ""
            found.append(await service.Feed(pb.FeedRequest(user=user, feed=feed, limit=25, cursor=cursor), None))
        return found

    first, second, *beyond = world.asked(pages)
    assert pins_of(first) + pins_of(second) == listed
    assert {item.source for page in (first, second) for item in page.items} == {"last_good"}
    for page in beyond:
        assert list(page.degraded) == ["seen", "fallback"]
        assert page.cursor, "it can be asked again, once the service is back"
        if feed == "following":
            assert pins_of(page) == []
        else:
            assert {item.source for item in page.items} == {"popular_pins"}
            assert not set(pins_of(page)) & set(listed)


def test_a_following_list_of_which_nothing_is_left_is_no_page(all_there: World) -> None:
    """All that was served was hidden since: then popular pins are better than an empty page."""
    world, user = all_there, 8_260
    served(world, user, [230, 231], Surface.FOLLOWING)
    world.publish(did(A.HIDE, user, [230, 231]))
    world.away.add("aperture")
    [page] = replies(world, {"user": user, "feed": "following"})
    assert {item.source for item in page.items} == {"popular_pins"}
    assert not set(pins_of(page)) & {230, 231}


OWN, AUTHOR = [9_001, 9_002, 9_003, 9_004, 9_005], 8_300


def make_own_pins(world: World) -> None:
    """Five pins of an interest that their author follows, the best and newest there are, saved by many."""
    world.publish(
        events(
            5, action=A.CREATE_PIN, user=AUTHOR, pin=OWN, at_ms=NOW, id=range(700, 705), quality=1.0,
            title=["mine"] * 5, interests=[[interest_of(pin)] for pin in OWN],
        )
    )  # fmt: skip
    interests = [interest_of(pin) for pin in OWN]
    world.publish(
        events(5, action=A.FOLLOW_INTEREST, user=AUTHOR, target=interests, at_ms=NOW - 1000, id=range(710, 715))
    )
    for fan in range(8_310, 8_330):
        world.publish(did(A.SAVE, fan, OWN, board=1000).replace(quality=np.ones(5, np.float32)))
    world.publish(events(1, action=A.FOLLOW_BOARD, user=AUTHOR, board=1000, at_ms=NOW - 500, id=720))


def test_R01_ones_own_pins_are_not_recommended_to_their_author(tmp_path: Path) -> None:
    with running_world(tmp_path) as world:
        make_own_pins(world)
        asked = [{"user": AUTHOR, "feed": feed, "explain": True} for feed in FEEDS]
        hidden = replies(world, *asked)
        for feed, reply in zip(FEEDS, hidden, strict=True):
            assert not set(pins_of(reply)) & set(OWN), feed
            if feed != "following":
                assert len(reply.items) == 25, f"{feed}: others take their places"
        other = replies(world, *({"user": 8_400, "feed": feed} for feed in ("picked", "home")))
        assert all(set(pins_of(reply)) & set(OWN) for reply in other), "they are for all other users"
        shown = replies(world, *asked, choose=Choices(deadline_ms=60_000, own_pins=True))
        for feed, reply in zip(FEEDS, shown, strict=True):
            if feed != "picked":  # whose author did nothing that leads there
                assert set(pins_of(reply)) & set(OWN), feed
        said = msgspec.json.decode(hidden[1].xray)["pins"]
        reasons = {said[str(pin)]["dropped"]["reason"] for pin in OWN if str(pin) in said}
        assert reasons == {"the user made it"}


def test_a_pin_that_nothing_describes_is_not_served_until_something_does(tmp_path: Path) -> None:
    bare = 9_100
    with running_world(tmp_path) as world:
        joined = events(
            1, action=A.JOIN_INTEREST, pin=bare, target=903, at_ms=NOW - 10, id=800, quality=1.0
        )  # fmt: skip
        world.publish(joined)
        for fan in range(8_510, 8_530):
            world.publish(did(A.SAVE, fan, [bare], board=1000))
        asked = [{"user": READER, "feed": feed, "explain": True} for feed in FEEDS]
        before = replies(world, *asked)
        for feed, reply in zip(FEEDS, before, strict=True):
            assert bare not in pins_of(reply), feed
            assert len(reply.items) == 25, f"{feed}: others take its place"
        said = msgspec.json.decode(before[1].xray)["pins"][str(bare)]["dropped"]
        assert said == {"stage": "undescribed", "reason": "nothing describes it yet"}
        world.publish(events(1, action=A.CREATE_PIN, pin=bare, at_ms=NOW, id=801, title=["now"], quality=1.0))
        after = replies(world, *asked)
        assert bare in pins_of(after[1])


def test_A6_scorpion_without_a_model_loses_nothing(world: World) -> None:
    [reply] = replies(world, {"user": READER, "feed": "home"})
    assert (reply.model, list(reply.degraded)) == ("light", [])


def test_R19_pages_go_on_over_a_whole_world_without_a_repeat(world: World) -> None:
    user = 8_600
    world.publish(did(A.SAVE, user, [4, 12]))
    asked: list[dict[str, Any]] = [{"user": user, "feed": "home"}]
    asked += [{"user": user, "feed": "home", "cursor": lambda found: found[-1].cursor} for _ in range(14)]
    asked.append({"user": user, "feed": "home", "cursor": lambda found: found[2].cursor})
    found = replies(world, *asked)
    pins = [pin for reply in found[:-1] for pin in pins_of(reply)]
    assert len(pins) == len(set(pins)) > 300
    assert all(len(reply.cursor) <= 1_500 for reply in found)
    assert pins_of(found[-1]) == pins_of(found[3]), "a page that is asked for twice is the same page"


@pytest.mark.parametrize("logged", [True, False], ids=["logged", "not logged"])
def test_R19_a_feed_that_ends_after_many_pages_has_shown_every_pin(tmp_path: Path, logged: bool) -> None:
    """Rough marks hide some of the last pins, until smartfeed says what was shown; without it the feed ends, unrepeated."""
    friend, reader, board = 8_700, 8_701, 8_702
    pins = [pin * 0x9E3779B97F4A7C15 % 2**63 + 1 for pin in range(1, 1_901)]
    n = len(pins)
    with running_world(tmp_path, graph=False) as world:
        world.publish(events(n, action=A.CREATE_PIN, pin=pins, at_ms=NOW - 5, id=range(1, n + 1)))
        world.publish(
            events(n, action=A.SAVE, user=friend, pin=pins, board=board, at_ms=NOW - 4, id=range(5_000, 5_000 + n))
        )
        world.publish(events(1, action=A.FOLLOW_BOARD, user=reader, board=board, at_ms=NOW - 3, id=9_999))

        async def scroll(clients: Clients) -> tuple[list[int], list[str]]:
            service, seen, cursors = servicer_of(clients), list[int](), [""]
            while cursors[-1] or not seen:
                request = pb.FeedRequest(user=reader, feed="following", limit=100, cursor=cursors[-1])
                reply = await service.Feed(request, None)
                found = pins_of(reply)
                if logged and found:
                    world.publish(
                        events(
                            len(found), action=A.SERVED, user=reader, pin=found, board=board, surface=Surface.FOLLOWING,
                            at_ms=NOW, position=range(len(seen), len(seen) + len(found)),
                            id=range(20_000 + len(seen), 20_000 + len(seen) + len(found)),
                        )
                    )  # fmt: skip
                seen += found
                cursors.append(reply.cursor)
            return seen, cursors

        seen, cursors = world.asked(scroll)
    assert len(seen) == len(set(seen))
    assert max(map(len, cursors)) <= 1_500
    assert set(seen) <= set(pins)
    if logged:
        assert set(seen) == set(pins)
    else:
        assert len(seen) > 1_500


def test_the_pipeline_counts_what_a_page_was_chosen_from(world: World) -> None:
    page, _ = world.page("home", READER)
    assert page.candidates > len(page.rows)
    assert page.probability == 1.0
