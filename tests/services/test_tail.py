"""A view that keeps nothing follows a real log from its end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.core import tokens
from services.core.errors import NotReady, Unavailable
from services.core.topics import Topic
from services.log.protocol import Positions, Record, rows
from services.state.follower import Follower
from services.state.tail import Tail
from tests.roadrunner.running import PARTITIONS, Running, running
from tests.services.batches import follows
from tests.services.children import until


class Heard:
    """Remembers the ids it was given."""

    def __init__(self, ingest: Running) -> None:
        self.ids: list[int] = []
        self.lost = 0
        self.shard = Tail(ingest.reader(), self._clear)

    def _clear(self) -> None:
        self.lost += 1

    def apply(self, records: list[Record]) -> None:
        if records:
            self.ids += rows(records)[0].id.tolist()
        self.shard.commit(records)


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as started:
        yield started


def test_it_begins_at_the_end_and_goes_on_through_restarts_of_the_log(ingest: Running) -> None:
    ingest.publisher().publish(follows(20), 10)
    view = Heard(ingest)
    follower = Follower(ingest.reader(), view, (Topic.USERS,), range(PARTITIONS))
    follower.start()
    try:
        until(lambda: not follower.why_not_ready())
        assert follower.lag().events == 0
        published = ingest.publisher().publish(follows(5, first_id=100, user=7), 10)
        follower.wait(tokens.decode(published.token), 10)
        assert sorted(view.ids) == list(range(100, 105)), "nothing of before"
        ingest.stop()
        ingest.start()
        published = ingest.publisher().publish(follows(5, first_id=200, user=7), 10)
        follower.wait(tokens.decode(published.token), 10)
        assert sorted(view.ids) == [*range(100, 105), *range(200, 205)], "nothing twice, nothing missed"
        assert (view.lost, view.shard.applied_events()) == (0, 30)
    finally:
        follower.stop()


def asked(view: Heard) -> Positions:
    """Where it stands; nowhere while the log is away."""
    try:
        return view.shard.positions([(0, 0)])
    except Unavailable:
        return {}


def test_a_record_that_is_missing_is_named(ingest: Running) -> None:
    view = Heard(ingest)
    at = (int(Topic.USERS), 1)
    assert view.shard.positions([at]) == {at: 0}
    records = [Record(Topic.USERS, 1, offset, 0, follows(1)) for offset in (0, 2)]
    with pytest.raises(NotReady, match="topic 0 partition 1: offset 2 came, 1 is next"):
        view.shard.fresh(records)


def test_a_log_that_is_away_at_first_is_asked_again(tmp_path: Path) -> None:
    with running(tmp_path) as ingest:
        ingest.stop()
        view = Heard(ingest)
        try:
            with pytest.raises(Unavailable):
                view.shard.positions([(0, 0)])
        finally:
            ingest.start()
        until(lambda: asked(view) == {(0, 0): 0})
        assert view.lost == 0
