"""A feed follows a real log, drops what changes, and knows which tokens it has passed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.core import tokens
from services.core.columns import U64, ids
from services.core.events import Action, Batch, events, flags
from services.core.topics import Topic
from services.state.change_feed import ChangeFeed, ViewPosition
from services.state.feed_view import Changed, FeedView
from services.state.follower import Follower
from services.state.second_chance import SecondChanceCache
from tests.roadrunner.running import PARTITIONS as LOGGED
from tests.roadrunner.running import Running, running
from tests.services.children import until

RELEVANT = flags(Action.UPDATE_PIN)


def changed(batch: Batch) -> Changed:
    return Changed(batch.pin[RELEVANT[batch.action]])


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as started:
        yield started


class Pins:
    """A cache of bytes by pin."""

    def __init__(self) -> None:
        self.values = SecondChanceCache[int, bytes](1000, len)

    def drop(self, keys: U64) -> None:
        self.values.drop(keys.tolist())

    def clear(self) -> None:
        self.values.clear()


def update(pin: int, id_: int) -> Batch:
    return events(1, action=Action.UPDATE_PIN, pin=pin, user=1, id=id_, at_ms=1_700_000_000_000)


def test_it_follows_a_real_log_and_knows_what_a_token_asks_for(ingest: Running) -> None:
    pins, feed, log = Pins(), ChangeFeed(LOGGED), ingest.reader()
    view = FeedView(feed, log, Topic.OBJECTS, changed, pins)
    before = ingest.publisher().publish(update(1, 1), 60)
    assert view.shows(b"")
    assert not view.shows(before.token), "it does not follow yet"
    follower = Follower(log, view, (Topic.OBJECTS,), range(LOGGED))
    follower.start()
    try:
        until(lambda: not follower.why_not_ready())
        assert view.shows(before.token)
        position, sure = ViewPosition.of([before.token], Topic.OBJECTS), list[list[bool]]()
        feed.fill(feed.places(ids([1])), position, lambda found: sure.append(found.tolist()))
        assert sure == [[True]]
        pins.values.put([1, 2], [b"x", b"y"])
        published = ingest.publisher().publish(update(2, 2), 60)
        until(lambda: view.shows(published.token))
        assert pins.values.get([1, 2]) == [b"x", None]
        users = {(int(Topic.USERS), 0): 1 << 40}
        assert view.shows(tokens.encode(users)), "another view's affair"
    finally:
        follower.stop()
