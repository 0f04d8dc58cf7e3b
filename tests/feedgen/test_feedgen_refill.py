"""A pin that is taken down after a source kept it: its place goes to the next best, not to nobody."""

from pathlib import Path
from typing import Any

from feedgen.choices import Choices
from feedgen.feeds import Clients
from protos import feedgen_pb2 as pb
from services.core.events import Action
from tests.feedgen.world import did, running_world, servicer_of

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
