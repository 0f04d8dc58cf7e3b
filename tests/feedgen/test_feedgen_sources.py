"""Stages on their own: interests and their weights, popular pins, the TTL cache, and the texts of a page."""

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from features.requests import CandidateOrigin
from feedgen.attempt import answered, attempt
from feedgen.candidates import Candidates
from feedgen.feeds import Clients, Parts
from feedgen.filters.duplicate import Duplicate
from feedgen.filters.taken_down import TakenDown
from feedgen.hydrators.titles import PageTitles
from feedgen.last_resort.most_saved import Saved, most_saved
from feedgen.last_resort.ttl import TtlValue
from feedgen.query import Query, Recent, SeenFilter
from feedgen.scorers.light import LightScore
from feedgen.scorers.pin_attributes import best_of_each
from feedgen.sources.interest_pins import DISLIKED, InterestPins
from feedgen.titles import Titles
from feedgen.xray import Xray
from protos import feedgen_pb2 as pb
from services.core.columns import ids
from services.core.errors import Exhausted, InvalidArgument, Unavailable
from services.core.events import RESERVED_FROM, Action, Kind
from tests.feedgen.world import NOW, PATIENT, READER, World, did, interest_of, query_of, running_world, servicer_of

A = Action


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running_world(tmp_path_factory.mktemp("world")) as running:
        yield running


@pytest.fixture
def all_there(world: World) -> Iterator[World]:
    yield world
    world.away.clear()


def about(followed: list[int], affinities: dict[int, float]) -> Query:
    query = query_of("interest", 1)
    query.followed_interests = ids(followed)
    values = np.array(list(affinities.values()), np.float32)
    none = np.empty(0, np.uint64)
    query.recent = Recent(none, values[:0], ids(list(affinities)), values, np.empty((0, 0), np.uint32), 0)
    return query


@pytest.mark.parametrize(
    ("followed", "affinities", "expected"),
    [
        ([], {}, {}),
        ([5, 3], {}, {3: 1.0, 5: 1.0}),
        ([], {7: 4.0, 8: 1.0}, {7: 2.0, 8: 0.5}),
        ([8], {7: 4.0, 8: 1.0}, {7: 2.0, 8: 1.5}),
        ([7], {7: 4.0}, {7: 3.0}),
        ([], {7: 4.0, 9: -1.0}, {7: 2.0}),
        ([9], {7: 4.0, 9: -1.0}, {7: 2.0, 9: DISLIKED}),
        ([1, 2], {3: 9.0, 4: 8.9, 5: 8.8}, {3: 2.0, 4: pytest.approx(2 * 8.9 / 9), 5: pytest.approx(2 * 8.8 / 9)}),
    ],
)
def test_followed_and_inferred_interests(followed: list[int], affinities: dict[int, float], expected: Any) -> None:
    """A hidden interest is left out, unless it is followed: the follow was stated, the dislike inferred."""
    source = InterestPins(None, 3, 2.0)  # type: ignore[arg-type]
    interests, weights = source.interests(about(followed, affinities))
    assert dict(zip(interests.tolist(), weights.tolist(), strict=True)) == expected
    assert weights.tolist() == sorted(weights.tolist(), reverse=True)


def test_what_is_popular_is_of_this_week_and_then_of_ever(world: World) -> None:
    """The world's own saves are 30 days old: each of its pins was saved on two to four boards."""
    world.publish(did(A.SAVE, 4_000, [101, 102]))
    world.publish(did(A.SAVE, 4_001, [102]))

    async def ask(clients: Clients) -> Saved:
        return await most_saved(clients.counters, Kind.PIN, 20, NOW, 60.0)

    found = world.asked(ask)
    assert found.objects[:2].tolist() == [102, 101]
    assert found.shares[:2].tolist() == [1.0, 0.5]
    assert len(np.unique(found.objects)) == len(found.objects) == 20
    assert (found.shares[2:] <= 0.5).all()
    assert (np.diff(found.shares) <= 0).all()
    assert (found.shares > 0).all()


def test_what_probes_save_is_never_popular(world: World) -> None:
    probed = [RESERVED_FROM + 2, RESERVED_FROM + 3]
    for turn in range(5):
        world.publish(did(A.SAVE, RESERVED_FROM, probed, at_ms=NOW - 2000 - turn, board=RESERVED_FROM + 1))

    async def ask(clients: Clients) -> Saved:
        return await most_saved(clients.counters, Kind.PIN, 1000, NOW, 60.0)

    assert not set(world.asked(ask).objects.tolist()) & set(probed)


def test_an_answer_is_kept_for_a_while_of_the_requests_clock() -> None:
    asked: list[int] = []

    async def again(kept: TtlValue[int], now_ms: int) -> int:
        async def ask() -> int:
            asked.append(now_ms)
            return now_ms

        return await kept.get(now_ms, ask)

    async def main() -> None:
        kept, never = TtlValue[int](1000), TtlValue[int](0)
        assert [await again(kept, now) for now in (5000, 5999, 6000, 2000)] == [5000, 5000, 6000, 2000]
        assert [await again(never, now) for now in (1, 1)] == [1, 1]

    asyncio.run(main())
    assert asked == [5000, 6000, 2000, 1, 1]


def test_only_one_asks_again_and_the_others_get_what_was() -> None:
    async def main() -> None:
        kept, answered, asked = TtlValue[int](1000), asyncio.Event(), []

        async def soon(now_ms: int) -> int:
            asked.append(now_ms)
            await answered.wait()
            return now_ms

        async def at_once() -> int:
            return 1

        assert await kept.get(1, at_once) == 1
        first = asyncio.ensure_future(kept.get(1001, lambda: soon(1001)))
        await asyncio.sleep(0)
        assert await kept.get(1002, lambda: soon(1002)) == 1
        answered.set()
        assert await first == 1001
        assert await kept.get(1003, at_once) == 1001
        assert asked == [1001]

    asyncio.run(main())


def test_nothing_is_kept_of_a_failure() -> None:
    async def main() -> None:
        kept = TtlValue[int](1000)

        async def fail() -> int:
            raise Unavailable("counters is away")

        async def answer() -> int:
            return 3

        with pytest.raises(Unavailable):
            await kept.get(1, fail)
        assert await kept.get(1, answer) == 3

    asyncio.run(main())


def test_a_pin_that_several_sources_found_is_counted_and_kept_once() -> None:
    parts = [
        Candidates.of(ids([1, 2]), source=0, weight=[0.5, 0.25]),
        Candidates.of(ids([2, 3]), source=2),
        Candidates.of(ids([3, 2]), source=4, origin=CandidateOrigin.WALKED, weight=[0.125, 1]),
    ]
    together = Candidates.concat(parts).counted()
    assert together.column("found_by").tolist() == [1, 21, 21, 20, 20, 21]
    assert np.array_equal(together.column("nearness"), [np.nan, 1, 1, 0.125, 0.125, 1], equal_nan=True)
    walked = parts[2].counted()
    assert walked.column("nearness").tolist() == [0.125, 1]
    kept = together.take(Duplicate().keep(query_of("home", 1), together))
    assert kept.pin.tolist() == [1, 2, 3]
    assert kept.source.tolist() == [0, 0, 2]
    assert kept.weight.tolist() == [0.5, 0.25, 1.0]
    with pytest.raises(TypeError, match="colour"):
        Candidates.of(ids([1]), colour=3)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="column score has 1 rows, the candidates are 3"):
        kept.adding({"score": np.zeros(1)})


@pytest.mark.parametrize("known", [True, False])
def test_pins_taken_down_go_and_so_do_pins_of_walks_alone_while_rockstore_is_away(known: bool) -> None:
    parts = [
        Candidates.of(ids([1, 2, 3]), source=0, origin=CandidateOrigin.WALKED),
        Candidates.of(ids([2, 4]), source=1, origin=CandidateOrigin.PICKED),
    ]
    counted = Candidates.concat(parts).counted()
    candidates = counted.take(Duplicate().keep(query_of("home", 1), counted))
    if known:
        candidates = candidates.adding({"taken_down": np.isin(candidates.pin, [3, 4])})
    kept = candidates.take(TakenDown().keep(query_of("home", 1), candidates))
    assert kept.pin.tolist() == ([1, 2] if known else [2, 4])


def fresh(world: World, times: int, **asked: Any) -> list[Candidates]:
    """Found by fresh_pins, so many times one after the other, for a user who has met nothing or these pins."""

    async def ask(clients: Clients) -> list[Candidates]:
        source = Parts(clients, PATIENT).fresh_pins(20)
        query = query_of("home", 4_020, **asked)
        found = [await answered(source.find(query, 5)) for _ in range(times)]
        return [one.candidates for one in found if one]

    return world.asked(ask)


def test_what_is_fresh_is_kept_and_each_gets_what_they_have_not_met(world: World) -> None:
    [all_of_it] = fresh(world, 1)
    assert len(all_of_it) == 20
    met = np.sort(all_of_it.pin[:7])
    for some in (fresh(world, 2, shown=met), fresh(world, 1, seen=SeenFilter(b"", met))):
        for left in some:
            assert not set(left.pin.tolist()) & set(met.tolist())
            assert len(left) == 20
            assert set(all_of_it.pin[7:].tolist()) <= set(left.pin.tolist()), "and the next best ones"
            assert set(left.interest.tolist()) <= {interest_of(pin) for pin in range(1, 9)}
    most = np.arange(1, 390, dtype=np.uint64)
    [left] = fresh(world, 1, shown=most)
    assert set(range(390, 401)) <= set(left.pin.tolist()), (
        "for a user who has met nearly all of it polaris is asked anew"
    )


def test_light_scores_of_a_blend_are_below_the_best_of_their_source() -> None:
    candidates = Candidates.of(ids([1, 2, 3, 4]), source=[0, 0, 3, 3], light=[-60, -61, -0.5, -2])

    async def scores(below_best: bool) -> list[float]:
        found = LightScore(below_best).columns(query_of("home", 1), candidates)
        return [float(score) for score in found.columns["score"]]

    assert asyncio.run(scores(False)) == [-60, -61, -0.5, -2]
    assert asyncio.run(scores(True)) == [0, -1, 0, -1.5]


def test_the_best_of_each_source() -> None:
    source = np.array([0, 1, 0, 1, 0], np.uint8)
    score = np.array([1, 5, 3, 6, 2.0])
    assert sorted(best_of_each(source, score, 2).tolist()) == [1, 2, 3, 4]
    assert sorted(best_of_each(source, score, 1).tolist()) == [2, 3]
    assert len(best_of_each(source[:0], score[:0], 3)) == 0


def reply(world: World, feed: str, user: int, **more: Any) -> pb.FeedReply:
    """The servicer's answer."""

    async def ask(clients: Clients) -> pb.FeedReply:
        asked: dict[str, Any] = {"user": user, "feed": feed, "limit": 5} | more
        return await servicer_of(clients).Feed(pb.FeedRequest(**asked), None)

    return world.asked(ask)


def test_readers_beyond_the_turns_are_refused_and_the_others_get_their_page(world: World) -> None:
    async def ask(clients: Clients) -> list[pb.FeedReply | BaseException]:
        service, request = servicer_of(clients, at_once=2), pb.FeedRequest(user=READER, feed="home", limit=5)
        answers = await asyncio.gather(*(service.Feed(request, None) for _ in range(6)), return_exceptions=True)
        return [*answers, await service.Feed(request, None)]

    first, second, *refused, later = world.asked(ask)
    assert all(isinstance(error, Exhausted) for error in refused)
    assert len(refused) == 4
    for page in (first, second, later):
        assert isinstance(page, pb.FeedReply)
        assert len(page.items) == 5
        assert not page.degraded


def test_each_item_says_why_it_is_here(world: World) -> None:
    found = reply(world, "following", READER)
    assert {item.reason for item in found.items} <= {
        "from board 1000 by someone, whom you follow", "from board 1001 by someone, whom you follow"
    }  # fmt: skip
    found = reply(world, "interest", READER)
    assert {item.reason for item in found.items} == {"from number three, one of your interests"}
    world.publish(did(A.SAVE, 4_002, [4]))
    found = reply(world, "picked", 4_002)
    assert {item.reason for item in found.items} == {"because you liked pin 4"}
    assert all(item.title == f"pin {item.pin}" for item in found.items)
    on_boards = [item for item in found.items if item.board]
    assert {item.source for item in found.items} <= {"walked_pins", "walked_boards"}
    assert all(item.board_title == f"board {item.board}" for item in on_boards)
    assert all(item.owner == 500 + (item.board - 1000) // 2 for item in on_boards)
    assert found.model == "light"
    assert found.cursor
    found = reply(world, "interest", 4_003)
    assert "popular with everybody" in {item.reason for item in found.items}


def test_without_rockstore_a_page_is_bare(all_there: World) -> None:
    all_there.away.add("rockstore")
    found = reply(all_there, "interest", READER, explain=True)
    assert list(found.degraded) == ["titles"]
    assert len(found.items) == 5
    assert {(item.title, item.reason, item.source) for item in found.items} == {("", "", "interest_pins")}
    assert b'"title":""' in found.xray


def test_titles_that_hang_are_lost_after_their_share_of_the_time(world: World) -> None:
    async def ask(clients: Clients) -> None:
        xray, titles = Xray(False), PageTitles(Titles(clients.rockstore, 60.0))
        late = attempt(titles, "hydrator", lambda: asyncio.sleep(30, result=["never"]), 0.5, xray)
        assert await answered(late) is None
        assert xray.degraded() == ["titles"]

    world.asked(ask, timeout=1.0)


def test_a_feed_that_there_is_not_is_refused(world: World) -> None:
    with pytest.raises(InvalidArgument, match="feed = 'hot': feeds are following, interest, picked, home"):
        reply(world, "hot", 1)
    for user in (0, RESERVED_FROM, 2**64 - 1):
        with pytest.raises(InvalidArgument, match=f"user = {user}: allowed are 1 to {RESERVED_FROM - 1}"):
            reply(world, "home", user)
    with pytest.raises(InvalidArgument, match="limit = 101: allowed are 1 to 100"):
        reply(world, "home", 1, limit=101)


def test_explaining_again_explains_as_of_now(world: World) -> None:
    user = 4_010
    first = reply(world, "picked", user, explain=True)
    assert b'"walk":null' in first.xray
    world.publish(did(A.SAVE, user, [6, 14]))
    again = reply(world, "picked", user, explain=True)
    assert b'"title":"pin 14"' in again.xray
