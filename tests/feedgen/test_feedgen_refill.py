"""A pin that is taken down after it was found: its place goes to the next best."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from feedgen.candidates import Candidates
from feedgen.choices import Choices
from feedgen.feeds import Clients
from feedgen.query import Query
from feedgen.stages import Hydrated
from protos import feedgen_pb2 as pb
from services.core.events import Action
from tests.feedgen.world import READER, World, did, running_world, servicer_of

KEPT = Choices(deadline_ms=60_000, popular_keep_s=3_600)
NEWCOMER = 3_000


def test_a_page_is_full_though_a_kept_pin_was_taken_down(tmp_path: Path) -> None:
    with running_world(tmp_path, graph=False) as world:

        async def ask(clients: Clients) -> tuple[Any, int, Any, Any]:
            service = servicer_of(clients, KEPT)

            async def page(cursor: str = "") -> Any:
                request = pb.FeedRequest(user=NEWCOMER, feed="picked", limit=25, cursor=cursor)
                return await service.Feed(request, None)

            before = await page()
            down = next(item.pin for item in before.items if item.source == "popular_pins")
            world.publish(did(Action.TAKEDOWN, 0, [down]))
            after = await page()
            return before, down, after, await page(after.cursor)

        before, down, after, following = world.asked(ask)
    first, second = ([item.pin for item in page.items] for page in (before, after))
    assert len(set(first)) == len(set(second)) == 25
    assert down not in second
    assert set(first) - {down} <= set(second), "the others stay"
    assert not {item.pin for item in following.items} & set(second)


@dataclass
class TakesDown:
    """Takes the first pins of the first page down, between ranking and titles."""

    world: World
    down: list[int] = field(default_factory=list)
    name: str = "takes_down"
    required: bool = True

    def hydrate(self, query: Query, rows: Candidates) -> Hydrated:
        if not self.down:
            self.down += rows.pin[:2].tolist()
            self.world.publish(did(Action.TAKEDOWN, 0, self.down))
        return Hydrated({})


#: The calls that a page of *home* makes once, however late a pin is taken down.
ONCE = [
    ("polaris", "retrieve"),
    ("pixie", "recommend_both"),
    ("scorpion", "score"),
    ("realpin", "signals"),
    ("aperture", "seen_filter"),
]


@pytest.mark.parametrize("feed", ["following", "home"])
def test_a_pin_that_is_taken_down_while_its_page_is_made_is_replaced_without_ranking_again(
    tmp_path: Path, feed: str
) -> None:
    with running_world(tmp_path) as world:
        world.publish(did(Action.SAVE, READER, [4, 12]))
        takes_down = TakesDown(world)

        async def ask(clients: Clients) -> tuple[Any, dict[str, int], Any]:
            service = servicer_of(clients)
            made = service._feeds[feed]
            service._feeds = {feed: replace(made, hydrators=[takes_down, *made.hydrators])}
            calls: dict[str, int] = {}

            def counted(name: str, method: Any) -> Any:
                async def call(*args: Any, **more: Any) -> Any:
                    calls[name] = calls.get(name, 0) + 1
                    return await method(*args, **more)

                return call

            for name, method in ONCE:
                client = getattr(clients, name)
                setattr(client, method, counted(name, getattr(client, method)))
            page = await service.Feed(pb.FeedRequest(user=READER, feed=feed, limit=25), None)
            of_first = dict(calls)
            onward = pb.FeedRequest(user=READER, feed=feed, limit=25, cursor=page.cursor)
            return page, of_first, await service.Feed(onward, None)

        page, calls, following = world.asked(ask)
    pins = [item.pin for item in page.items]
    assert len(set(pins)) == len(pins) == 25
    assert not set(pins) & set(takes_down.down)
    assert len(takes_down.down) == 2
    assert calls["scorpion"] == calls["realpin"] == calls["aperture"] == 1
    assert calls.get("pixie", 0) == (feed == "home")
    assert calls["polaris"] == (1 if feed == "following" else 4), (
        "each source once: boards, walked boards, interests, fresh"
    )
    assert all(item.title for item in page.items)
    scores = [item.score for item in page.items]
    assert scores == sorted(scores, reverse=True)
    assert not list(page.degraded)
    assert following.items
    assert not {item.pin for item in following.items} & {*pins, *takes_down.down}
